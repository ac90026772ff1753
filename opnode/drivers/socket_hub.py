"""The node's one UDP socket, and what carries datagrams besides it.

Batch in, tell whose datagram it is, batch out.

Owns the first byte of every datagram (RFC 7983 style demultiplexing):

    0-3 with the magic cookie   STUN, to `stun_handler`
    64-79                       TURN channel data
    0xC0-0xCF                   RPC, to `rpc_handler`
    0xD0                        relayed, to `relay_handler`
    0xE0                        RUDP, to the sink of the connection id in bytes 1-8

STUN and channel data of a TURN server that we use go to whoever entered that server.
Everything else is counted and dropped, unanswered. Refuses to know what is inside.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import trio

from opnode.core.addresses import Endpoint, carried_endpoint, is_carried
from opnode.drivers.network.network import (
    Buffer,
    DatagramSocket,
    Received,
    SocketStatistics,
)

_log = logging.getLogger(__name__)

DatagramHandler: TypeAlias = Callable[[bytes, Endpoint], None]
RunHandler: TypeAlias = Callable[[Received], None]

# After this much the sinks get their turn, so that acknowledgements leave while a flood
# comes in. 1 MB is an eighth of a window: with 4 MB the sender ran dry meanwhile
# (344 MB/s against 141 at the same load).
_RECEIVES_PER_WAKE_UP = 16
_BYTES_PER_WAKE_UP = 1 << 20

_STUN_LAST = 0x03
_STUN_HEADER = 20
_STUN_COOKIE = b"\x21\x12\xa4\x42"
_TURN_FIRST, _TURN_LAST = 0x40, 0x4F
_RPC_FIRST, _RPC_LAST = 0xC0, 0xCF
RUDP = 0xE0
RELAYED = 0xD0
"""First byte of a relayed datagram: then 8 bytes of session, then the datagram."""
_RUDP_PREFIX = 9
# What comes in runs that belong together: all name one connection or session.
_GROUPED = (RUDP, RELAYED)
_WORD = 8


class Carrier(Protocol):
    """Another way for datagrams than the socket: a relay, a TURN server, a WebSocket.

    What it receives it hands to `SocketHub.deliver_untrusted`.
    """

    def send(self, data: Buffer, destination: Endpoint, segment_size: int) -> bool:
        """Send as `DatagramSocket.send` does; never blocks.

        False when nothing was taken: the hub calls back when the socket is writable,
        so a carrier with a queue of its own drops and returns True when that is full.
        """
        ...


class ConnectionSink(Protocol):
    """Where the packets of one connection go."""

    def receive_run(
        self, buffer: memoryview, segment_size: int, source: Endpoint, ecn: int
    ) -> None:
        """Take packets that all start with the same 9 bytes, one of this connection's.

        `buffer` is only valid during the call. All packets have `segment_size` bytes,
        the last one may be shorter. All came with the IP codepoint `ecn`.
        """
        ...

    def flush(self) -> None:
        """Called once after a batch of `receive_run`: time to answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """What came in, by kind, since the start."""

    socket: SocketStatistics
    stun: int
    rpc: int
    rudp: int
    unknown_connection: int
    turn: int
    relayed: int
    unknown: int
    handler_errors: int
    connections: int


class SocketHub:
    """Shares one socket between STUN, RPC and RUDP.

    Attributes:
        stun_handler: gets STUN datagrams; None drops them.
        rpc_handler: gets RPC datagrams; None drops them.
        on_send: hears where each burst leaves for by the socket; None for most nodes.
        relay_handler: gets runs of relayed datagrams of one session and one size, the
            last one may be shorter, frame and all; None drops them.
    """

    def __init__(self, socket: DatagramSocket) -> None:
        self.stun_handler: DatagramHandler | None = None
        self.on_send: Callable[[Endpoint], None] | None = None
        self.rpc_handler: DatagramHandler | None = None
        self.relay_handler: RunHandler | None = None
        self._socket = socket
        self._sinks: dict[bytes, ConnectionSink] = {}
        self._touched: dict[bytes, ConnectionSink] = {}
        self._carriers: dict[Endpoint, Carrier] = {}
        self._shown: dict[Endpoint, Endpoint] = {}
        self._turn_servers: dict[Endpoint, DatagramHandler] = {}
        self._carrier_number = 0
        self._when_writable: dict[Callable[[], None], None] = {}
        self._someone_waits = trio.Event()
        self._writers: trio.Nursery | None = None
        self._reported: set[tuple[str, type[Exception]]] = set()
        self._stun = self._rpc = self._rudp = 0
        self._unknown_connection = self._turn = self._unknown = 0
        self._relayed = 0
        self._handler_errors = 0

    @property
    def local(self) -> Endpoint:
        """The address of the socket."""
        return self._socket.local

    @property
    def max_segments(self) -> int:
        """Segments of 1200 bytes that are worth building for one `send`."""
        return self._socket.max_segments

    def add_connection(self, connection_id: bytes, sink: ConnectionSink) -> None:
        """Route the RUDP packets with this 8-byte id to `sink`."""
        assert len(connection_id) == _RUDP_PREFIX - 1
        assert connection_id not in self._sinks
        self._sinks[connection_id] = sink

    def remove_connection(self, connection_id: bytes) -> None:
        """Stop routing an id; nothing happens when it is unknown."""
        self._sinks.pop(connection_id, None)

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """See `DatagramSocket.send`; after False use `when_writable`."""
        # Most nodes never have a carrier, and this is asked for every burst.
        if self._carriers or self._carrier_number:
            carrier = self._carriers.get(destination)
            if carrier is not None:
                return carrier.send(data, destination, segment_size)
            if is_carried(destination.host):
                # Its carrier is gone, as datagrams may be.
                return True
        if self.on_send is not None:
            self.on_send(destination)
        return self._socket.send(data, destination, segment_size, ecn)

    def send_by_socket(self, data: Buffer, destination: Endpoint) -> bool:
        """Send one datagram by the socket, although a carrier is entered for it."""
        if self.on_send is not None:
            self.on_send(destination)
        return self._socket.send(data, destination)

    def add_carrier(self, carrier: Carrier, shown: Endpoint | None = None) -> Endpoint:
        """Enter a carrier; what is sent to the address returned leaves by it.

        ``shown`` is where its other end is seen, for limits by host and for whatever
        others are told: the address returned is a name inside this node.
        """
        self._carrier_number += 1
        endpoint = carried_endpoint(self._carrier_number)
        self._carriers[endpoint] = carrier
        if shown is not None:
            self._shown[endpoint] = shown
        return endpoint

    def shown(self, endpoint: Endpoint) -> Endpoint:
        """What others may be told of an address: where a carrier's other end is."""
        return self._shown.get(endpoint, endpoint) if self._shown else endpoint

    def divert(self, endpoint: Endpoint, carrier: Carrier) -> None:
        """Let what is sent to an address leave by a carrier, until `remove_carrier`."""
        self._carriers[endpoint] = carrier

    def remove_carrier(self, endpoint: Endpoint) -> None:
        """Forget an address of a carrier; nothing happens when it is unknown."""
        self._carriers.pop(endpoint, None)
        self._shown.pop(endpoint, None)

    def carrier_of(self, endpoint: Endpoint) -> Carrier | None:
        """By what datagrams to this address leave; None for the socket."""
        return self._carriers.get(endpoint)

    def add_turn_server(self, endpoint: Endpoint, handler: DatagramHandler) -> None:
        """Hand what comes from a TURN server, STUN and channel data, to `handler`."""
        self._turn_servers[endpoint] = handler

    def remove_turn_server(self, endpoint: Endpoint) -> None:
        """Forget a TURN server; nothing happens when it is unknown."""
        self._turn_servers.pop(endpoint, None)

    def deliver_untrusted(self, data: bytes, source: Endpoint) -> None:
        """Take one datagram that a carrier received, as if from the socket."""
        view = memoryview(data)
        self._dispatch_run_untrusted(Received(view, max(len(view), 1), source, 0))
        self._flush_touched()

    def deliver_run_untrusted(self, received: Received) -> None:
        """Take a run that a carrier unpacked from what one of our handlers got.

        Only from within that handler: connections answer when the batch is through.
        """
        self._dispatch_untrusted(received)

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the socket's send buffer has drained.

        The same callback is kept only once, so the list is as long as there are users.
        """
        self._when_writable[callback] = None
        self._someone_waits.set()
        if self._writers is not None:
            # Only now: most nodes never fill their buffer, and a task takes 3 kB.
            self._writers.start_soon(self._write_when_possible)
            self._writers = None

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Receive until cancelled or closed."""
        async with trio.open_nursery() as nursery:
            if self._when_writable:
                nursery.start_soon(self._write_when_possible)
            else:
                self._writers = nursery
            task_status.started()
            try:
                await self._socket.watch(self._drain)
            except trio.ClosedResourceError:
                nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Close the socket; `run` returns."""
        self._socket.close()

    def statistics(self) -> HubStatistics:
        """Read the counters."""
        return HubStatistics(
            socket=self._socket.statistics(),
            stun=self._stun,
            rpc=self._rpc,
            rudp=self._rudp,
            unknown_connection=self._unknown_connection,
            turn=self._turn,
            relayed=self._relayed,
            unknown=self._unknown,
            handler_errors=self._handler_errors,
            connections=len(set(map(id, self._sinks.values()))),
        )

    async def _write_when_possible(self) -> None:
        while True:
            await self._someone_waits.wait()
            try:
                await self._socket.wait_writable()
            except trio.ClosedResourceError:
                return
            self._someone_waits = trio.Event()
            callbacks = list(self._when_writable)
            self._when_writable.clear()
            for callback in callbacks:
                try:
                    callback()
                except Exception as error:  # noqa: BLE001 - our bug must not stop others
                    self._report("when_writable", error)

    def _drain(self) -> None:
        left = _BYTES_PER_WAKE_UP
        for _ in range(_RECEIVES_PER_WAKE_UP):
            received = self._socket.receive()
            if received is None:
                break
            left -= len(received.buffer)
            # A name of a carrier is no source that a wire may have.
            if self._carrier_number and is_carried(received.source.host):
                self._unknown += 1
            else:
                self._dispatch_untrusted(received)
            if left <= 0:
                break
        self._flush_touched()

    def _flush_touched(self) -> None:
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        for connection_id, sink in touched.items():
            if self._sinks.get(connection_id) is not sink:
                continue
            try:
                sink.flush()
            except Exception as error:  # noqa: BLE001 - our bug must not stop the reader
                self._report("flush", error)

    def _dispatch_untrusted(self, received: Received) -> None:
        """Per-run work only; a run of 50 packets costs about 3 µs here."""
        buffer, segment_size, source, ecn = received
        if len(buffer) <= segment_size or _is_uniform(buffer, segment_size):
            self._dispatch_run_untrusted(received)
            return
        # What belongs together stays together: two connections of one peer take turns
        # burst by burst.
        size, start = len(buffer), 0
        prefix = bytes(buffer[:_RUDP_PREFIX])
        for stop in range(segment_size, size, segment_size):
            following = bytes(buffer[stop : stop + _RUDP_PREFIX])
            if following != prefix or prefix[0] not in _GROUPED:
                part = buffer[start:stop]
                self._dispatch_run_untrusted(Received(part, segment_size, source, ecn))
                start, prefix = stop, following
        part = buffer[start:]
        step = min(segment_size, len(part))
        self._dispatch_run_untrusted(Received(part, step, source, ecn))

    def _dispatch_run_untrusted(self, received: Received) -> None:
        buffer, source = received.buffer, received.source
        if len(buffer) < _RUDP_PREFIX:
            self._unknown += 1
            return
        first = buffer[0]
        try:
            if first == RUDP:
                self._deliver_rudp(received)
            elif first == RELAYED:
                self._relayed += -(-len(buffer) // received.segment_size)
                if self.relay_handler is not None:
                    self.relay_handler(received)
            else:
                self._take_untrusted(buffer, source)
        except Exception as error:  # noqa: BLE001 - our bug must not become a kill switch
            self._report(f"datagram 0x{first:02x}", error)

    def _take_untrusted(self, buffer: memoryview, source: Endpoint) -> None:
        first = buffer[0]
        handler = None
        if _RPC_FIRST <= first <= _RPC_LAST:
            self._rpc += 1
            handler = self.rpc_handler
        elif first <= _STUN_LAST and _is_stun(buffer):
            self._stun += 1
            handler = self._turn_servers.get(source, self.stun_handler)
        elif _TURN_FIRST <= first <= _TURN_LAST:
            self._turn += 1
            handler = self._turn_servers.get(source)
        else:
            self._unknown += 1
        if handler is not None:
            handler(bytes(buffer), source)

    def _deliver_rudp(self, received: Received) -> None:
        buffer, segment_size, source, ecn = received
        connection_id = bytes(buffer[1:_RUDP_PREFIX])
        sink = self._sinks.get(connection_id)
        count = -(-len(buffer) // segment_size)
        if sink is None:
            self._unknown_connection += count
            return
        self._rudp += count
        self._touched[connection_id] = sink
        sink.receive_run(buffer, segment_size, source, ecn)

    def _report(self, where: str, error: Exception) -> None:
        self._handler_errors += 1
        kind = (where, type(error))
        if kind not in self._reported:
            self._reported.add(kind)
            _log.error("a handler failed (%s); reported once", where, exc_info=error)


def _is_stun(buffer: memoryview) -> bool:
    return len(buffer) >= _STUN_HEADER and buffer[4:8] == _STUN_COOKIE


def _is_uniform(buffer: memoryview, segment_size: int) -> bool:
    """Whether all segments are packets or frames with the same 9 bytes in front.

    Compares columns with strided slices: a few steps a run instead of one a packet.
    """
    if buffer[0] not in _GROUPED or segment_size < _RUDP_PREFIX:
        return False
    count = -(-len(buffer) // segment_size)
    if len(buffer) - (count - 1) * segment_size < _RUDP_PREFIX:
        return False
    columns = range(_RUDP_PREFIX)
    if segment_size % _WORD == 0:
        # Eight columns at once: 4 instead of 16 µs for 200 packets.
        words = buffer[: (count - 1) * segment_size].cast("Q")[:: segment_size // _WORD]
        if words.tobytes() != buffer[:_WORD].tobytes() * (count - 1):
            return False
        last = (count - 1) * segment_size
        if buffer[last : last + _WORD] != buffer[:_WORD]:
            return False
        columns = range(_WORD, _RUDP_PREFIX)
    return all(
        buffer[column::segment_size].tobytes()
        == buffer[column : column + 1].tobytes() * count
        for column in columns
    )
