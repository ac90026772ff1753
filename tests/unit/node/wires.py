"""A wire between two nodes, where a relay or a TURN server would be; loses nothing."""

from collections import deque

import trio

from opnode.drivers.connection_paths import Path, PathKind
from opnode.node.node import OverlayNode
from opnode.node.ways.ways import Way, WayHost, Words

LATENCY_S = 0.05


class Wire:
    """Two ends; what goes in at one comes out at the other."""

    def __init__(self, one: OverlayNode, other: OverlayNode) -> None:
        self.hubs = [node._parts.hub for node in (one, other)]
        self.endpoints = []
        self.kind = PathKind.RELAY
        self.carried = 0
        self.is_cut = False
        self._under_way: deque[tuple[float, int, bytes]] = deque()
        self._wake = trio.Event()
        for place, hub in enumerate(self.hubs):
            self.endpoints.append(hub.add_carrier(WireEnd(self, place)))

    def put(self, place, data, segment_size):
        if self.is_cut:
            return
        step = segment_size or max(len(data), 1)
        for start in range(0, len(data), step):
            piece = bytes(data[start : start + step])
            due_at = trio.current_time() + LATENCY_S
            self._under_way.append((due_at, 1 - place, piece))
        self._wake.set()

    async def run(self):
        while True:
            while not self._under_way:
                self._wake = trio.Event()
                await self._wake.wait()
            due_at, place, piece = self._under_way.popleft()
            await trio.sleep_until(due_at)
            self.carried += len(piece)
            self.hubs[place].deliver_untrusted(piece, self.endpoints[place])


class WireEnd:
    """The carrier of one hub."""

    def __init__(self, wire, place):
        self._wire, self._place = wire, place

    def send(self, data, destination, segment_size):  # noqa: ARG002 - a wire has one end
        self._wire.put(self._place, data, segment_size)
        return True


class WireMaker:
    """Gives every meeting a path over the wire, after a while."""

    def __init__(self, wire, place, delay_s=0.1):
        self.wire, self.place, self.delay_s = wire, place, delay_s
        self.words = Words()
        self.ways = []

    def new_way(self, heard):
        way: Way = WireWay(self, heard)
        self.ways.append(way)
        return way


class WireWay:
    """One meeting's path over the wire."""

    def __init__(self, maker, heard):
        self.maker, self.heard_at_first = maker, heard
        self.host: WayHost | None = None
        self.is_closed = False

    def opening(self):
        return self.maker.words

    async def run(self, host):
        self.host = host
        await trio.sleep(self.maker.delay_s)
        endpoint = self.maker.wire.endpoints[self.maker.place]
        host.add_path(Path(self.maker.wire.kind, endpoint))
        await trio.sleep_forever()

    async def aclose(self):
        await trio.lowlevel.checkpoint()
        self.is_closed = True


def wired(nursery, one, other):
    """Lay a wire between two nodes and make it a way of both."""
    wire = Wire(one, other)
    makers = [WireMaker(wire, place) for place in range(2)]
    for node, maker in zip((one, other), makers, strict=True):
        node.connector.way_makers.append(maker)
    nursery.start_soon(wire.run)
    return wire, makers
