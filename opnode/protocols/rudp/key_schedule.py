"""How the keys of one epoch lead to those of the next, and their limits; holds nothing.

An epoch is the time between two key updates. It has one root, from which the packet
keys of both directions are derived (RFC 5869); a root gives the next one and nobody can
go back. The first update mixes in the secret of the post-quantum exchange.
"""

from typing import Final

from opnode.core.crypto import TransportKeys, expand, extract

# AES-GCM keeps its margin up to here whatever the size of the packets (RFC 9001 §B.1).
MAX_PACKETS_PER_KEY: Final = 1 << 23
# An end starts updates at least this far apart. The fastest link that we know of takes
# longer for the packets that wear a key out.
MIN_UPDATE_INTERVAL_S: Final = 1.0
KEY_SIZE: Final = 32
CONFIRMATION_SIZE: Final = 16
_NEXT_ROOT = b"opnode rudp next root"
_HYBRID_ROOT = b"opnode rudp hybrid root"
_CONFIRMATION = b"opnode rudp hybrid confirmation"
_PACKET_KEY = {
    True: b"opnode rudp key initiator",
    False: b"opnode rudp key responder",
}


def first_root(keys: TransportKeys, *, initiator: bool) -> bytes:
    """Return the root of epoch 0.

    Args:
        keys: What the handshake left to one end.
        initiator: Whether that end began the handshake.
    """
    both = keys.send + keys.receive if initiator else keys.receive + keys.send
    return extract(keys.handshake_hash, both)


def next_root(root: bytes) -> bytes:
    """Return the root of the epoch after this one."""
    return expand(root, _NEXT_ROOT, KEY_SIZE)


def hybrid_root(root: bytes, secret: bytes, transcript: bytes) -> bytes:
    """Return the root of epoch 1; it takes both secrets to know it.

    Args:
        root: Of epoch 0; secret unless X25519 is broken.
        secret: Of the post-quantum exchange; secret unless ML-KEM is broken.
        transcript: 32-byte digest of both messages of that exchange.
    """
    return expand(extract(root, secret), _HYBRID_ROOT + transcript, KEY_SIZE)


def confirmation(root: bytes) -> bytes:
    """Return 16 bytes by which an end shows that it knows a root."""
    return expand(root, _CONFIRMATION, CONFIRMATION_SIZE)


def packet_key(root: bytes, *, by_initiator: bool) -> bytes:
    """Return the AES-256 key for the packets that one end sends in an epoch."""
    return expand(root, _PACKET_KEY[by_initiator], KEY_SIZE)
