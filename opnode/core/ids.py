"""Who and where in the overlay: peer ids, node ids, storage keys and XOR distance.

Pure arithmetic over digests. It does not know who owns a key, nor what is stored.
"""

import base64
from typing import NamedTuple, NewType

from opnode.core.addresses import Endpoint, host_bytes, is_public
from opnode.core.crypto import sha256
from opnode.core.errors import ConfigError

PeerId = NewType("PeerId", bytes)
NodeId = NewType("NodeId", bytes)
StorageKey = NewType("StorageKey", bytes)

PEER_ID_SIZE = 32
NODE_ID_SIZE = 20
STORAGE_KEY_SIZE = 20
COMMITMENT_SIZE = 32

# The commitment of an identity that has no recovery policy.
NO_RECOVERY = bytes(COMMITMENT_SIZE)

_PEER_ID_DOMAIN = b"opnode peer id"
_PEER_ID_VERSION = b"\x01"
_ED25519 = b"\x01"
_CHECKSUM_DOMAIN = b"opnode peer id text"
_CHECKSUM_SIZE = 2
_PREFIX = "op1"
# 34 bytes are 272 bits: 55 characters of 5 bits with three zero bits at the end.
_BODY_LENGTH = 55
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_EXPECTED_PEER_ID = f"{_PREFIX} and {_BODY_LENGTH} characters of a-z and 2-7"


class Contact(NamedTuple):
    """A node of the DHT as others know it: its place and its address."""

    node_id: NodeId
    endpoint: Endpoint


def peer_id_of(public_key: bytes, commitment: bytes) -> PeerId:
    """Return the id of an identity; signatures are never part of it.

    Args:
        public_key: 32 bytes, Ed25519.
        commitment: 32 bytes that stand for a recovery policy; zeros: none.

    Raises:
        ValueError: One of the two has another size.
    """
    if len(public_key) != PEER_ID_SIZE or len(commitment) != COMMITMENT_SIZE:
        raise ValueError(
            "a peer id is made of 32 bytes of key and 32 of commitment, "
            f"found {len(public_key)} and {len(commitment)}"
        )
    return PeerId(
        sha256(_PEER_ID_DOMAIN, _PEER_ID_VERSION, _ED25519, public_key, commitment)
    )


def format_peer_id(peer_id: PeerId) -> str:
    """Write a peer id as people exchange it: 58 characters, checksum included."""
    body = base64.b32encode(peer_id + _checksum(peer_id)).decode().rstrip("=").lower()
    return _PREFIX + body


def parse_peer_id(text: str, field: str = "peer id") -> PeerId:
    """Read what ``format_peer_id`` wrote; capitals and outer blanks are forgiven.

    Raises:
        ConfigError: Says which is wrong: prefix, length, a character or the checksum.
    """
    cleaned = text.strip().lower()
    if not cleaned.startswith(_PREFIX):
        found = f"a text that begins with {cleaned[: len(_PREFIX)]!r}"
        raise ConfigError(field, found, f"the prefix {_PREFIX}: {_EXPECTED_PEER_ID}")
    body = cleaned[len(_PREFIX) :]
    if len(body) != _BODY_LENGTH:
        found = f"{len(cleaned)} characters"
        raise ConfigError(field, found, f"the length {_BODY_LENGTH + len(_PREFIX)}")
    for position, character in enumerate(body, len(_PREFIX) + 1):
        if character not in _ALPHABET:
            found = f"the character {character!r} at place {position}"
            raise ConfigError(field, found, _EXPECTED_PEER_ID)
    decoded = base64.b32decode(body.upper() + "=")
    peer_id = PeerId(decoded[:PEER_ID_SIZE])
    # Comparing the text also refuses the seven other spellings of the last character.
    if format_peer_id(peer_id) != cleaned:
        found = "a checksum that does not match"
        raise ConfigError(field, found, "the whole text exactly as it was given out")
    return peer_id


def short(identifier: bytes) -> str:
    """Shorten an id for logs and screens: its first 8 characters, for any kind of id.

    A peer id shows the first 8 characters after its prefix, others 8 of hexadecimal.
    """
    if len(identifier) == PEER_ID_SIZE:
        return base64.b32encode(identifier[:5]).decode().lower()
    return identifier[:4].hex()


def node_id_of(node_public_key: bytes, host: str) -> NodeId:
    """Return the place of a node in the DHT.

    The id is the SHA-256 of the node's key; at a public address its first 21 bits are
    replaced by those that BEP 42 derives from the address and from three bits of the
    id's own last byte, so one address has eight places and not the whole space.
    """
    digest = sha256(b"opnode node id", node_public_key)[:NODE_ID_SIZE]
    if not is_public(host):
        return NodeId(digest)
    prefix = address_prefix(host, digest[-1])
    kept = digest[2] & 0x07
    return NodeId(prefix[:2] + bytes([prefix[2] & 0xF8 | kept]) + digest[3:])


def fits_address(node_id: NodeId, host: str) -> bool:
    """Tell whether an id may be used at an address (BEP 42); private ones take any."""
    if len(node_id) != NODE_ID_SIZE:
        return False
    if not is_public(host):
        return True
    prefix = address_prefix(host, node_id[-1])
    return node_id[:2] == prefix[:2] and (node_id[2] ^ prefix[2]) & 0xF8 == 0


def address_prefix(host: str, seed: int) -> bytes:
    """Return the three bytes whose first 21 bits BEP 42 gives to an address.

    Args:
        host: A numeric address.
        seed: The id's last byte, of which three bits count.
    """
    packed = host_bytes(host)
    mask = _IPV4_MASK if len(packed) == len(_IPV4_MASK) else _IPV6_MASK
    masked = bytearray(a & b for a, b in zip(packed, mask, strict=False))
    masked[0] |= (seed & 0x07) << 5
    return crc32c(bytes(masked)).to_bytes(4, "big")[:3]


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum (RFC 3720 §12.1), which BEP 42 builds on."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = remainder >> 8 ^ _CRC32C_TABLE[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF


def distance(left: bytes, right: bytes) -> int:
    """Return the XOR distance of two 160-bit ids (Kademlia §2.1)."""
    return int.from_bytes(left, "big") ^ int.from_bytes(right, "big")


def peer_key(peer_id: PeerId) -> StorageKey:
    """Return where an identity's peer file and presences are stored."""
    return StorageKey(sha256(b"opnode peer key", peer_id)[:STORAGE_KEY_SIZE])


def chunk_key(payload: bytes) -> StorageKey:
    """Return where a content-addressed chunk is stored: the hash of its bytes."""
    return StorageKey(sha256(b"opnode chunk key", payload)[:STORAGE_KEY_SIZE])


def claim_key(name: str) -> StorageKey:
    """Return where claims of a name are stored; the caller has normalised the name."""
    return StorageKey(sha256(b"opnode claim key", name.encode())[:STORAGE_KEY_SIZE])


def _checksum(peer_id: PeerId) -> bytes:
    return sha256(_CHECKSUM_DOMAIN, peer_id)[:_CHECKSUM_SIZE]


def _crc32c_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC32C_TABLE = tuple(_crc32c_entry(byte) for byte in range(256))
_IPV4_MASK = bytes.fromhex("030f3fff")
_IPV6_MASK = bytes.fromhex("0103070f1f3f7fff")
