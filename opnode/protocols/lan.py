"""Finding each other on one link: what is asked of all neighbours, and who answers.

Owns the datagrams of ``docs/protocols/lan.md``, that they fit together and that answers
are bounded. Refuses to know sockets and interfaces, and what a neighbour is good for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from opnode.core.addresses import Endpoint, may_name, pack, unpack_untrusted
from opnode.core.crypto import AeadError, SigningKey, new_aead, sha256, verify
from opnode.core.errors import OpnodeError
from opnode.core.ids import PeerId
from opnode.core.peerfile import (
    Location,
    LocationCertificate,
    unpack_certificate_untrusted,
)

PORT: Final = 47848
GROUP_IPV4: Final = "239.255.79.80"
"""Of the range that stays within a site (RFC 2365 §6.1)."""
GROUP_IPV6: Final = "ff02::6f70:6e6f"
"""Of the scope that no router passes on (RFC 4291 §2.7)."""

SEEK_SIZE: Final = 512
"""SEEK and HELLO pay for their answer: nobody gets more bytes than it sent."""
HELLO_SIZE: Final = 160
MAX_ENDPOINTS: Final = 4

_MAGIC: Final = b"opln\x01"
_SEEK, _HERE, _HELLO, _BACK = 1, 2, 3, 4
_NETWORK_SIZE: Final = 8
_NONCE_SIZE: Final = 16
_KEY_SIZE: Final = 32
_PORT_SIZE: Final = 2
_SIGNATURE_SIZE: Final = 64
_HEAD: Final = len(_MAGIC) + 1 + _NETWORK_SIZE
_BODY: Final = _HEAD + _NONCE_SIZE
_BACK_SIZE: Final = _BODY + _KEY_SIZE + _PORT_SIZE + _SIGNATURE_SIZE
# The key is used once: it is made from two random numbers, one of either end.
_IV: Final = bytes(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class LanConfig:
    """Limits.

    Attributes:
        asking: questions of ours that are open at once.
        answers_per_s: for one host; each costs two signatures' time.
        answers_burst: of them at once: a household that comes home.
        total_per_s: for everybody on the link.
        hosts: whose rate is remembered, at 100 bytes each.
    """

    asking: int = 32
    answers_per_s: float = 4.0
    answers_burst: float = 16.0
    total_per_s: float = 50.0
    hosts: int = 256


class _Here(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is sealed in HERE; the signature is over the rest."""

    certificate: bytes
    endpoints: list[bytes]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this back to where the question came from, and nowhere else."""

    datagram: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHere:
    """The location that we sought is on this link, as it signed.

    ``endpoints`` are its own words, none of which its address may not name.
    """

    nonce: bytes
    certificate: LocationCertificate
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHere:
    """A server of our network is on this link, as its key signed."""

    nonce: bytes
    public_key: bytes
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class LanStatistics:
    """Datagrams heard, by what became of them."""

    asked: int
    answered: int
    found: int
    limited: int
    ignored: int
    malformed: int


class LanDesk:
    """What one node asks of its link and answers there.

    Attributes:
        location: whom SEEK may find here; None for nobody.
        node_key: signs the answer to HELLO; None where nobody is to hear of us.
        is_server: whether others may join through us now.
    """

    def __init__(
        self,
        network: bytes,
        draw: Callable[[int], bytes],
        config: LanConfig | None = None,
    ) -> None:
        """``network``: 8 bytes; ``draw``: random bytes that nobody can guess."""
        self.location: Location | None = None
        self.node_key: SigningKey | None = None
        self.is_server: Callable[[], bool] = _always
        self._network = network
        self._draw = draw
        self._config = config or LanConfig()
        self._sought: dict[bytes, PeerId | None] = {}
        self._full_at: dict[str, float] = {}
        self._total_full_at = 0.0
        self._asked = self._answered = self._found = 0
        self._limited = self._ignored = self._malformed = 0

    def statistics(self) -> LanStatistics:
        """Read the counters."""
        return LanStatistics(
            asked=self._asked,
            answered=self._answered,
            found=self._found,
            limited=self._limited,
            ignored=self._ignored,
            malformed=self._malformed,
        )

    def seek(self, peer_id: PeerId) -> tuple[bytes, bytes]:
        """Ask whether a location of this identity is here: the nonce, the datagram."""
        nonce = self._open(peer_id)
        datagram = self._head(_SEEK) + nonce + _blinded(nonce, peer_id)
        return nonce, datagram.ljust(SEEK_SIZE, b"\0")

    def hello(self) -> tuple[bytes, bytes]:
        """Ask who of our network is a server here: the nonce, the datagram."""
        nonce = self._open(None)
        return nonce, (self._head(_HELLO) + nonce).ljust(HELLO_SIZE, b"\0")

    def forget(self, nonce: bytes) -> None:
        """No more answers to this question count."""
        self._sought.pop(nonce, None)

    def receive_untrusted(
        self,
        data: bytes,
        source: Endpoint,
        own: Sequence[Endpoint],
        *,
        now: float,
        wall_now: float,
    ) -> Reply | PeerHere | NodeHere | None:
        """Take a datagram of the link.

        Args:
            data: what came.
            source: from where, as the socket says; no scope.
            own: where we are reached on this link, for an answer.
            now: monotonic seconds.
            wall_now: Unix seconds, for certificates.
        """
        head = self._head(0)
        is_ours = data[: len(_MAGIC)] == _MAGIC and len(data) >= _BODY
        if not is_ours or data[len(_MAGIC) + 1 : _HEAD] != head[len(_MAGIC) + 1 :]:
            self._ignored += 1
            return None
        kind, nonce = data[len(_MAGIC)], data[_HEAD:_BODY]
        if kind in (_SEEK, _HELLO):
            is_for_us = own and self._is_for_us(kind, nonce, data)
            # Before anything is signed, which is what an answer costs.
            if not (is_for_us and self._has_turn(source, now)):
                return None
            return Reply(self._answer(kind, nonce, own))
        if nonce not in self._sought or kind not in (_HERE, _BACK):
            self._ignored += 1
            return None
        try:
            found = self._open_answer(kind, nonce, data, source, wall_now)
        except _BAD_ANSWER:
            self._malformed += 1
            return None
        self._found += 1
        return found

    def _open(self, peer_id: PeerId | None) -> bytes:
        nonce = self._draw(_NONCE_SIZE)
        self._sought[nonce] = peer_id
        if len(self._sought) > self._config.asking:
            del self._sought[next(iter(self._sought))]
        self._asked += 1
        return nonce

    def _head(self, kind: int) -> bytes:
        return _MAGIC + bytes((kind,)) + self._network

    def _is_for_us(self, kind: int, nonce: bytes, data: bytes) -> bool:
        """Whether a question is long enough and one that we answer."""
        if nonce in self._sought:
            # Our own question, which the system hands to us as well.
            return False
        if kind == _HELLO:
            is_paid = len(data) >= HELLO_SIZE
            return is_paid and self.node_key is not None and self.is_server()
        if self.location is None or len(data) < SEEK_SIZE:
            return False
        blinded = data[_BODY : _BODY + _NONCE_SIZE]
        return blinded == _blinded(nonce, self.location.certificate.peer_id)

    def _answer(self, kind: int, nonce: bytes, own: Sequence[Endpoint]) -> bytes:
        if kind == _HELLO:
            assert self.node_key is not None
            return self._back(nonce, own[0].port, self.node_key)
        assert self.location is not None
        return self._here(nonce, self.location, own)

    def _here(self, nonce: bytes, location: Location, own: Sequence[Endpoint]) -> bytes:
        salt = self._draw(_NONCE_SIZE)
        packed = [pack(endpoint) for endpoint in own[:MAX_ENDPOINTS]]
        signed = _here_statement(self._network, nonce, salt, packed)
        body = _Here(location.certificate.pack(), packed, location.signing.sign(signed))
        aead = new_aead(_here_key(nonce, salt, location.certificate.peer_id))
        sealed = aead.encrypt(_IV, msgspec.msgpack.encode(body), None)
        datagram = self._head(_HERE) + nonce + salt + sealed
        assert len(datagram) <= SEEK_SIZE
        return datagram

    def _back(self, nonce: bytes, port: int, node_key: SigningKey) -> bytes:
        body = node_key.public + port.to_bytes(_PORT_SIZE, "big")
        signed = _back_statement(self._network, nonce, body)
        return self._head(_BACK) + nonce + body + node_key.sign(signed)

    def _has_turn(self, source: Endpoint, now: float) -> bool:
        """Whether this host, and all of them, were answered seldom enough."""
        config = self._config
        full_at = max(self._full_at.pop(source.host, now), now)
        total_at = max(self._total_full_at, now)
        is_host_full = full_at - now > config.answers_burst / config.answers_per_s
        is_full = total_at - now > 1.0
        self._full_at[source.host] = full_at
        if len(self._full_at) > config.hosts:
            del self._full_at[next(iter(self._full_at))]
        if is_host_full or is_full:
            self._limited += 1
            return False
        self._full_at[source.host] = full_at + 1.0 / config.answers_per_s
        self._total_full_at = total_at + 1.0 / config.total_per_s
        self._answered += 1
        return True

    def _open_answer(
        self, kind: int, nonce: bytes, data: bytes, source: Endpoint, wall_now: float
    ) -> PeerHere | NodeHere:
        peer_id = self._sought[nonce]
        if kind == _BACK:
            if peer_id is not None:
                raise ValueError("a node answered who was not asked")
            return self._read_back(nonce, data, source)
        if peer_id is None:
            raise ValueError("a person answered who was not asked")
        return self._read_here(nonce, peer_id, data, source, wall_now)

    def _read_here(
        self, nonce: bytes, peer_id: PeerId, data: bytes, source: Endpoint, wall: float
    ) -> PeerHere:
        salt, sealed = data[_BODY : _BODY + _NONCE_SIZE], data[_BODY + _NONCE_SIZE :]
        aead = new_aead(_here_key(nonce, salt, peer_id))
        body = msgspec.msgpack.decode(aead.decrypt(_IV, sealed, None), type=_Here)
        certificate = unpack_certificate_untrusted(body.certificate)
        certificate.verify(wall)
        statement = _here_statement(self._network, nonce, salt, body.endpoints)
        is_signed = verify(certificate.location_public, statement, body.signature)
        if certificate.peer_id != peer_id or not is_signed:
            raise ValueError("another location's answer")
        endpoints = [unpack_untrusted(one) for one in body.endpoints[:MAX_ENDPOINTS]]
        named = [one for one in endpoints if may_name(source.host, one.host)]
        return PeerHere(nonce=nonce, certificate=certificate, endpoints=tuple(named))

    def _read_back(self, nonce: bytes, data: bytes, source: Endpoint) -> NodeHere:
        if len(data) != _BACK_SIZE:
            raise ValueError(f"BACK: found {len(data)} bytes, expected {_BACK_SIZE}")
        body, signature = data[_BODY:-_SIGNATURE_SIZE], data[-_SIGNATURE_SIZE:]
        key, port = body[:_KEY_SIZE], int.from_bytes(body[_KEY_SIZE:], "big")
        statement = _back_statement(self._network, nonce, body)
        if not verify(key, statement, signature) or port == 0:
            raise ValueError("BACK is not signed by its key")
        return NodeHere(
            nonce=nonce, public_key=key, endpoint=Endpoint(source.host, port)
        )


_BAD_ANSWER: Final = (
    OpnodeError,
    AeadError,
    msgspec.MsgspecError,
    UnicodeDecodeError,
    ValueError,
)


def _always() -> bool:
    return True


def _blinded(nonce: bytes, peer_id: PeerId) -> bytes:
    """What only they recognize who know the identity already."""
    return sha256(b"opnode lan seek", nonce, peer_id)[:_NONCE_SIZE]


def _here_key(nonce: bytes, salt: bytes, peer_id: PeerId) -> bytes:
    return sha256(b"opnode lan here key", nonce, salt, peer_id)


def _here_statement(
    network: bytes, nonce: bytes, salt: bytes, endpoints: Sequence[bytes]
) -> bytes:
    listed = b"".join(bytes((len(one),)) + one for one in endpoints)
    return b"opnode lan here\0" + network + nonce + salt + listed


def _back_statement(network: bytes, nonce: bytes, body: bytes) -> bytes:
    return b"opnode lan node\0" + network + nonce + body
