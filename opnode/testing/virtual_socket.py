"""The socket of a virtual host: what arrived and when it is seen.

Owns the queue of one socket and how its tasks sleep. Refuses to know how datagrams
travel: the network or NAT that it is plugged into does (`Wire`).
"""

import heapq
import math
from collections.abc import Callable
from typing import NamedTuple, NoReturn, Protocol

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.network.network import (
    Buffer,
    Received,
    SocketStatistics,
    segments_of,
)
from opnode.testing.clock import VirtualClock, call_as, virtual_clock

LAST_PORT = 65_535
_MAX_DATAGRAM = 65_507
_MAX_SEGMENTS = 64
# Like a kernel: what does not fit into the receive buffer is dropped.
_RECEIVE_BUFFER_BYTES = 8 << 20


class Arrival(NamedTuple):
    """A datagram in flight or arrived; sorts by time, then by its running number."""

    at: float
    order: int
    data: bytes
    source: Endpoint
    destination: Endpoint
    ecn: int


class Gate(Protocol):
    """Takes all datagrams to one address on behalf of whoever is behind it."""

    def arrive(self, arrival: Arrival) -> bool:
        """Take a datagram, not before its time; False when there is no room."""
        ...

    def forget_arrivals(self) -> None:
        """Drop everything that is on its way here."""
        ...


class Wire(Protocol):
    """What a socket is plugged into."""

    def carry(
        self, data: bytes, source: Endpoint, destination: Endpoint, ecn: int = 0
    ) -> None:
        """Send one datagram on its way."""
        ...

    def detach(self, endpoint: Endpoint) -> None:
        """Forget a closed socket."""
        ...

    def settle(self) -> float:
        """Hand over what came until now; when there may be more."""
        ...


class VirtualSocket:
    """A `DatagramSocket` of a virtual host, with offload in both directions."""

    def __init__(self, wire: Wire, endpoint: Endpoint) -> None:
        self._wire = wire
        self._endpoint = endpoint
        self._shown = endpoint
        # In flight and arrived, a heap.
        self._arrivals: list[Arrival] = []
        self._queued_bytes = 0
        self._is_drained = False
        self._closed = False
        self._stalled = False
        # Tasks that wait: by their deadlines, or parked where the clock has alarms.
        self._sleepers: set[trio.CancelScope] = set()
        self._parked = trio.lowlevel.ParkingLot()
        self._watcher: _Watcher | None = None
        self._writable = trio.lowlevel.ParkingLot()
        self._datagrams_in = self._bytes_in = 0
        self._datagrams_out = self._bytes_out = 0
        self._send_errors = self._too_large = 0

    @property
    def local(self) -> Endpoint:
        """See `DatagramSocket.local`."""
        return self._shown

    @property
    def max_segments(self) -> int:
        """See `DatagramSocket.max_segments`."""
        return _MAX_SEGMENTS

    def receive(self) -> Received | None:
        """See `DatagramSocket.receive`; joins arrivals as a kernel with GRO does."""
        self._check_open()
        if self._is_drained:
            # Said once; most wake-ups are for one datagram.
            self._is_drained = False
            return None
        self._wire.settle()
        arrivals = self._arrivals
        watcher = self._watcher
        now = watcher.clock.now if watcher is not None else trio.current_time()
        if not arrivals or arrivals[0][0] > now:
            return None
        _, _, data, source, _, ecn = heapq.heappop(arrivals)
        segment_size = size = len(data)
        run = [data]
        while arrivals and arrivals[0][0] <= now and len(run) < _MAX_SEGMENTS:
            following = arrivals[0].data
            total = size + len(following)
            if (
                arrivals[0].source != source
                or arrivals[0].ecn != ecn
                or not 0 < len(following) <= segment_size
                or total > _MAX_DATAGRAM
            ):
                break
            heapq.heappop(arrivals)
            run.append(following)
            size = total
            if len(following) < segment_size:
                break
        self._is_drained = not arrivals or arrivals[0][0] > now
        self._queued_bytes -= size
        self._bytes_in += size
        self._datagrams_in += len(run)
        joined = data if len(run) == 1 else b"".join(run)
        return Received(memoryview(joined), segment_size, source, ecn)

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """See `DatagramSocket.send`."""
        self._check_open()
        if self._stalled:
            return False
        source = self._endpoint
        if type(data) is bytes and not segment_size and 0 < len(data) <= _MAX_DATAGRAM:
            # All but connections send one datagram at a time.
            if 0 < destination.port <= LAST_PORT:
                self._datagrams_out += 1
                self._bytes_out += len(data)
                self._wire.carry(data, source, destination, ecn)
            else:
                self._send_errors += 1
            return True
        for segment in (
            segments_of(data, segment_size or len(data) or 1)
            if data
            else (memoryview(b""),)
        ):
            if len(segment) > _MAX_DATAGRAM or not 0 < destination.port <= LAST_PORT:
                self._send_errors += 1
                self._too_large += len(segment) > _MAX_DATAGRAM
                continue
            self._datagrams_out += 1
            self._bytes_out += len(segment)
            self._wire.carry(bytes(segment), source, destination, ecn)
        return True

    async def wait_readable(self) -> None:
        """See `DatagramSocket.wait_readable`."""
        self._check_open()
        self._is_drained = False
        self._wire.settle()
        if self._arrivals and self._arrivals[0][0] <= trio.current_time():
            await trio.lowlevel.checkpoint()
        clock = virtual_clock()
        # Sleeping is a checkpoint too; a second one costs a tenth of a simulation.
        while not self._closed:
            due_at = self._due_at()
            if due_at <= trio.current_time():
                return
            if clock is not None:
                if due_at != math.inf:
                    clock.call_at(due_at, self._ring)
                await self._parked.park()
                continue
            with trio.CancelScope(deadline=due_at) as scope:
                self._sleepers.add(scope)
                try:
                    await trio.sleep_forever()
                finally:
                    self._sleepers.discard(scope)
        self._check_open()

    async def watch(self, on_readable: Callable[[], None]) -> NoReturn:
        """See `DatagramSocket.watch`; no task is switched under a `VirtualClock`."""
        clock = virtual_clock()
        if clock is None:
            while True:
                await self.wait_readable()
                on_readable()
        self._check_open()
        assert self._watcher is None
        self._watcher = _Watcher(on_readable, trio.lowlevel.current_task(), clock)
        try:
            clock.call_at(max(self._due_at(), trio.current_time()), self._ring)
            while not self._closed:
                await self._parked.park()
                self._watcher.unwrap()
        finally:
            self._watcher = None
        self._check_open()
        raise AssertionError

    async def wait_writable(self) -> None:
        """See `DatagramSocket.wait_writable`."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        while self._stalled and not self._closed:
            await self._writable.park()
        self._check_open()

    def close(self) -> None:
        """See `DatagramSocket.close`."""
        if self._closed:
            return
        self._closed = True
        self._wire.detach(self._endpoint)
        self.forget_arrivals()
        for scope in self._sleepers:
            scope.deadline = -math.inf
        self._parked.unpark_all()
        self._writable.unpark_all()

    def statistics(self) -> SocketStatistics:
        """See `DatagramSocket.statistics`."""
        return SocketStatistics(
            datagrams_in=self._datagrams_in,
            bytes_in=self._bytes_in,
            datagrams_out=self._datagrams_out,
            bytes_out=self._bytes_out,
            send_errors=self._send_errors,
            too_large=self._too_large,
        )

    def stall(self) -> None:
        """From now on act as if the kernel's send buffer were full."""
        self._stalled = True

    def resume(self) -> None:
        """End `stall`."""
        self._stalled = False
        self._writable.unpark_all()

    def arrive(self, arrival: Arrival) -> bool:
        """Take a datagram from the network; False when the buffer is full."""
        if self._queued_bytes + len(arrival.data) > _RECEIVE_BUFFER_BYTES:
            return False
        self._is_drained = False
        self._queued_bytes += len(arrival.data)
        heapq.heappush(self._arrivals, arrival)
        self.wake_at(arrival.at)
        return True

    def wake_at(self, at: float) -> None:
        """Let whoever waits look again then, if not earlier."""
        for scope in self._sleepers:
            scope.deadline = min(scope.deadline, at)
        if self._watcher is not None or self._parked:
            watcher = self._watcher
            clock = watcher.clock if watcher is not None else virtual_clock()
            if clock is not None and at != math.inf:
                clock.call_at(at, self._ring)

    def move(self, host: str) -> None:
        """Send from another address from now on, like a socket bound to them all."""
        self._endpoint = Endpoint(host, self._endpoint.port)

    def forget_arrivals(self) -> None:
        """Drop everything that is on its way here."""
        self._arrivals.clear()
        self._queued_bytes = 0

    def show_as(self, wildcard: str) -> None:
        """Report `wildcard` as the bound address, like a socket bound to it."""
        self._shown = Endpoint(wildcard, self._endpoint.port)

    def _ring(self) -> None:
        """An alarm of the clock: something arrived, if it was not taken meanwhile."""
        watcher = self._watcher
        if watcher is None:
            self._parked.unpark_all()
            return
        now = watcher.clock.now
        self._is_drained = False
        if self._due_at() > now:
            return
        if not watcher.call():
            self._parked.unpark_all()
        elif not self._closed and self._arrivals and self._arrivals[0][0] <= now:
            # It takes so many at once; then others have their turn.
            self.wake_at(now)

    def _due_at(self) -> float:
        """When there may be something to receive."""
        due_at = self._wire.settle()
        if self._arrivals and self._arrivals[0][0] < due_at:
            return self._arrivals[0][0]
        return due_at

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"UDP socket {self._shown} is closed")


class _Watcher:
    """Who is called when something arrives, as if its task had been woken for that."""

    __slots__ = ("_error", "_on_readable", "_task", "clock")

    def __init__(
        self,
        on_readable: Callable[[], None],
        task: trio.lowlevel.Task,
        clock: VirtualClock,
    ) -> None:
        self.clock = clock
        self._on_readable = on_readable
        self._task = task
        self._error: Exception | None = None

    def call(self) -> bool:
        """Whether that went well; else the task is to be woken."""
        try:
            call_as(self._task, self._on_readable)
        except Exception as error:  # noqa: BLE001 - raised again where it belongs
            self._error = error
        return self._error is None

    def unwrap(self) -> None:
        """Raise what the call raised."""
        if self._error is not None:
            raise self._error
