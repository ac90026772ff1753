"""What the tests of moving share: two ends behind boxes, a flow, and its gap."""

import contextlib
import itertools
from collections.abc import AsyncIterator

import trio

from opnode.drivers.connections import Connection
from opnode.node.node import OverlayNode
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.virtual_network import Link

PIECE_S = 0.02
LEG = Link(latency_s=(0.025, 0.025))


@contextlib.asynccontextmanager
async def two_behind(
    one: str, other: str, *, seeds: int = 4, seed: int = 1
) -> AsyncIterator[tuple[Overlay, OverlayNode, OverlayNode]]:
    async with open_overlay(seeds, link=LEG, seed=seed, public=True) as overlay:
        alice = await overlay.user(behind=one)
        bob = await overlay.user(behind=other)
        yield overlay, alice, bob


class Flow:
    """Numbers sent every 20 ms on a channel; what arrived when."""

    def __init__(self, sender: Connection, receiver: Connection) -> None:
        self.sender, self.receiver = sender, receiver
        self.arrivals: list[float] = []
        self.received = bytearray()
        self.sent = bytearray()

    async def send(self) -> None:
        channel = await self.sender.open_channel()
        # The nodes end before the flow does.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for number in range(1 << 16):
                piece = number.to_bytes(4, "big")
                self.sent += piece
                await channel.send_all(piece)
                await trio.sleep(PIECE_S)

    async def receive(self) -> None:
        channel = await self.receiver.accept_channel()
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                self.received += await channel.receive_some(65_536)
                self.arrivals.append(trio.current_time())

    def gap_s(self, since: float) -> float:
        """The longest time without news from then on."""
        times = [since, *(at for at in self.arrivals if at > since)]
        times.append(trio.current_time())
        return max(after - before for before, after in itertools.pairwise(times))
