"""The handshake that introductions need, as they see it.

Protocols do not import each other, so whoever builds an `IntroductionDesk` hands it
the two roles of a handshake; in opnode these are the two classes of the Noise module.
"""

from dataclasses import dataclass
from typing import Protocol

from opnode.core.crypto import StaticKey, TransportKeys


class Initiator(Protocol):
    """The caller's half of a two-message handshake."""

    def write_message_1(self, payload: bytes) -> bytes:
        """Return message 1 around the payload."""
        ...

    def read_message_2_untrusted(self, data: bytes) -> bytes:
        """Return the payload; RemoteProtocolError leaves the handshake as it was."""
        ...

    @property
    def keys(self) -> TransportKeys:
        """The transport keys, once message 2 was read."""
        ...


class Responder(Protocol):
    """The callee's half of a two-message handshake."""

    def read_message_1_untrusted(self, data: bytes) -> bytes:
        """Return the payload; RemoteProtocolError when it is not sealed to us."""
        ...

    @property
    def remote_static(self) -> bytes:
        """The caller's 32-byte static key, once message 1 was read."""
        ...

    def write_message_2(self, payload: bytes) -> bytes:
        """Return message 2 around the payload."""
        ...

    @property
    def keys(self) -> TransportKeys:
        """The transport keys, once message 2 was written."""
        ...


class InitiatorFactory(Protocol):
    """Begins a handshake with the holder of a static key."""

    def __call__(
        self,
        static: StaticKey,
        remote_static: bytes,
        *,
        ephemeral: StaticKey,
        prologue: bytes,
    ) -> Initiator:
        """Return a fresh initiator."""
        ...


class ResponderFactory(Protocol):
    """Begins to answer a handshake."""

    def __call__(
        self, static: StaticKey, *, ephemeral: StaticKey, prologue: bytes
    ) -> Responder:
        """Return a fresh responder."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """The two roles of the handshake that seals introductions."""

    initiator: InitiatorFactory
    responder: ResponderFactory
