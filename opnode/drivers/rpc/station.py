"""What the asking and the answering half of the Rpc share.

Owns what the node calls itself, the way out, the counters and who hears of whom.
Refuses to know requests and replies.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, keyed_digest, sha256
from opnode.core.ids import Contact
from opnode.drivers.rpc.config import COUNTERS
from opnode.drivers.rpc.exchange import Answer, IncomingRequest
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.datagrams import Sender
from opnode.protocols.rpc.messages import Service
from opnode.protocols.rpc.traffic import Traffic

_SECRET_SIZE: Final = 32


class Secrets:
    """Draws secret bytes: a keyed digest of a counter."""

    def __init__(self, signing_key: SigningKey | None, entropy: bytes) -> None:
        """The key and the entropy (32 bytes): neither alone predicts what is drawn."""
        seed = signing_key.seed if signing_key is not None else b""
        self._root = sha256(b"opnode rpc", seed, entropy)
        self._drawn = 0

    def draw(self) -> bytes:
        """32 secret bytes, others at every call."""
        self._drawn += 1
        count = self._drawn.to_bytes(8, "big")
        return keyed_digest(self._root, count, size=_SECRET_SIZE)


@dataclass(slots=True, kw_only=True)
class Station:
    """What both halves stand on.

    Attributes:
        hub: the node's socket.
        sender: what every datagram says about us; replaced when that changes.
        counts: by the names in ``COUNTERS``.
        traffic: by the type of the request.
        written_at: when something was sent last to the addresses in it, seconds.
        on_answered: a node answered us, leaf or not.
        on_offered: a node answered us and does something for others.
        on_asked: a node asked us, leaf or not; whoever did not prove its address paid
            for being pinged.
        on_failure: nobody answered at this address.
        on_observed: the node at the first address sees us at the second.
    """

    hub: SocketHub
    sender: Sender
    counts: dict[str, int]
    traffic: Traffic
    written_at: dict[Endpoint, float] = field(default_factory=dict)
    on_answered: Callable[[Answer], None] | None = None
    on_offered: Callable[[Contact, Service], None] | None = None
    on_asked: Callable[[IncomingRequest], None] | None = None
    on_failure: Callable[[Endpoint], None] | None = None
    on_observed: Callable[[Endpoint, Endpoint], None] | None = None

    @classmethod
    def on(cls, hub: SocketHub, sender: Sender) -> "Station":
        """A station on this socket that has counted nothing yet."""
        counts = dict.fromkeys(COUNTERS, 0)
        return cls(hub=hub, sender=sender, counts=counts, traffic=Traffic())
