"""A WebSocket as a carrier of datagrams: one binary message is one datagram.

Owns the send queue, the pace of reading, pings, and why it ended. Refuses to know which
end it is, what the datagrams say, and how the connection was opened.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from opnode.core.addresses import Endpoint
from opnode.drivers.network.network import Buffer
from opnode.protocols.websocket import MAX_MESSAGE, CloseCode


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierConfig:
    """Limits of one WebSocket, each with its reason.

    Attributes:
        queued: datagrams that wait for TCP. More only adds delay: congestion control
            above sees a full queue by its losses, as at any router (150 kB, 0.1 s at
            1.5 MB/s).
        bytes_per_s: what is read on average; beyond it the reader rests and TCP slows
            the sender, so that one client cannot take the whole loop.
        datagrams_per_s: the same for small ones, whose cost is not in their size: at
            50 µs each, a fifth of a core.
        burst_s: so many seconds' worth may come at once.
        ping_s: silence after which the other end is asked whether it is there; below
            the 60 s after which proxies on the way forget a quiet connection.
        pong_s: how long it may take to say so. Three round trips around the world.
        idle_s: without a datagram from the other end for so long, it is closed.
        close_s: how long a farewell may take.
    """

    queued: int = 128
    bytes_per_s: float = 4e6
    datagrams_per_s: float = 4000.0
    burst_s: float = 1.0
    ping_s: float = 20.0
    pong_s: float = 4.0
    idle_s: float = math.inf
    close_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierStatistics:
    """What one WebSocket carried; ``dropped`` found the queue full."""

    datagrams_in: int
    bytes_in: int
    datagrams_out: int
    bytes_out: int
    dropped: int


class WebSocketCarrier:
    """Carries datagrams over one open WebSocket, from ``run`` until it ends."""

    def __init__(
        self, connection: WebSocketConnection, config: CarrierConfig | None = None
    ) -> None:
        self._connection = connection
        self._config = config or CarrierConfig()
        self._queue: deque[bytes] = deque()
        self._wake = trio.Event()
        self._check = trio.Event()
        self._heard_at = self._carried_at = 0.0
        self._full_at = 0.0
        self._datagrams_in = self._bytes_in = 0
        self._datagrams_out = self._bytes_out = self._dropped = 0
        self._closing: tuple[CloseCode, str] | None = None
        self._scope = trio.CancelScope()

    def send(self, data: Buffer, destination: Endpoint, segment_size: int) -> bool:  # noqa: ARG002 - it has one other end
        """Queue datagrams of ``segment_size`` bytes each, the last may be shorter."""
        size = len(data)
        step = segment_size or size or 1
        for start in range(0, size, step):
            if len(self._queue) >= self._config.queued or step > MAX_MESSAGE:
                self._dropped += 1
                continue
            self._queue.append(bytes(data[start : start + step]))
        self._wake.set()
        return True

    def check(self) -> None:
        """Find out now whether the other end is there, as somebody missed an answer."""
        self._check.set()

    def close(self, code: CloseCode, reason: str) -> None:
        """End it; ``run`` returns the reason."""
        if self._closing is None:
            self._closing = code, reason
        self._scope.cancel()

    def statistics(self) -> CarrierStatistics:
        """Read the counters."""
        return CarrierStatistics(
            datagrams_in=self._datagrams_in,
            bytes_in=self._bytes_in,
            datagrams_out=self._datagrams_out,
            bytes_out=self._bytes_out,
            dropped=self._dropped,
        )

    async def run(self, deliver: Callable[[bytes], None]) -> str:
        """Carry until either end closes; returns why it ended, for people.

        ``deliver`` gets every datagram and must be quick.
        """
        now = trio.current_time()
        self._heard_at = self._carried_at = self._full_at = now
        reason = "closed"
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_queued)
                    nursery.start_soon(self._keep_alive)
                    await self._receive(deliver)
        except* ConnectionClosed as closed:
            reason = _reason_of(closed)
        if self._closing is None:
            return reason
        code, reason = self._closing
        with trio.move_on_after(self._config.close_s):
            await self._connection.aclose(int(code), reason)
        return reason

    async def _receive(self, deliver: Callable[[bytes], None]) -> None:
        while True:
            message = await self._connection.get_message()
            now = trio.current_time()
            self._heard_at = self._carried_at = now
            if isinstance(message, str):
                self.close(CloseCode.NOT_BINARY, "datagrams are binary messages")
                await trio.lowlevel.checkpoint()
                continue
            self._datagrams_in += 1
            self._bytes_in += len(message)
            deliver(message)
            rest_s = self._spend(len(message), now)
            if rest_s > 0.0:
                await trio.sleep(rest_s)

    def _spend(self, size: int, now: float) -> float:
        """Seconds to rest after this datagram, so that the rates hold (GCRA)."""
        config = self._config
        cost_s = max(size / config.bytes_per_s, 1.0 / config.datagrams_per_s)
        self._full_at = max(self._full_at, now) + cost_s
        return self._full_at - now - config.burst_s

    async def _send_queued(self) -> None:
        while True:
            while self._queue:
                datagram = self._queue.popleft()
                await self._connection.send_message(datagram)
                self._datagrams_out += 1
                self._bytes_out += len(datagram)
            self._wake = trio.Event()
            await self._wake.wait()

    async def _keep_alive(self) -> None:
        """Ask whether the other end is there when it is quiet or somebody doubts it."""
        config = self._config
        while True:
            with trio.move_on_at(self._heard_at + config.ping_s):
                await self._check.wait()
            is_quiet = trio.current_time() >= self._heard_at + config.ping_s
            if not (is_quiet or self._check.is_set()):
                continue
            self._check = trio.Event()
            with trio.move_on_after(config.pong_s) as scope:
                await self._connection.ping()
            if scope.cancelled_caught:
                self.close(CloseCode.IDLE, "the other end is silent")
                return
            now = self._heard_at = trio.current_time()
            if now > self._carried_at + config.idle_s:
                self.close(CloseCode.IDLE, "no datagram for too long")
                await trio.lowlevel.checkpoint()


def _reason_of(closed: BaseExceptionGroup[ConnectionClosed]) -> str:
    """What the other end said, of the first of those who noticed."""
    first: BaseException = closed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    said = first.reason if isinstance(first, ConnectionClosed) else None
    if said is None:
        return "the connection broke"
    text = said.reason or said.name
    return f"{said.code} {text}"
