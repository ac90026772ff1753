"""A connection: the RUDP state machine on the node's one socket, for trio tasks.

Owns the wake-ups and the trio face of an association with a peer. Refuses to know how
the peer was found, how its path was chosen, and what the bytes mean.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import PeerId
from opnode.core.peerfile import LocationCertificate
from opnode.drivers.beginnings import NO_EARLY_DATA, ConnectTimings
from opnode.drivers.channel import Channel
from opnode.drivers.connection_paths import KnownPaths, Path, PathBytes, PathKind
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.stream_hold import StreamHold
from opnode.protocols.rudp import events, observer, packet
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.protocols.rudp.path import PathStatistics
from opnode.protocols.rudp.statistics import RudpStatistics

BURSTS_PER_FLUSH: Final = 16
"""At most this many bursts (about 1 MB) leave before the reader gets its turn again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsConfig:
    """Limits of the connection table.

    ``max_connections``: what one process can serve with its descriptors and memory.
    ``max_datagrams``: datagrams that wait for a slow reader; the oldest are dropped and
    counted, as datagrams are unreliable by contract.
    """

    max_connections: int = 16_384
    max_datagrams: int = 256


class ConnectionHost(Protocol):
    """What a connection needs of the table that holds it."""

    @property
    def hub(self) -> SocketHub:
        """The node's socket."""
        ...

    @property
    def config(self) -> ConnectionsConfig:
        """The limits."""
        ...

    def arm(self, connection: "Connection") -> None:
        """Visit the connection at its next deadline."""
        ...

    def resume(self, connection: "Connection") -> None:
        """Flush the connection again after the reader had its turn."""
        ...

    def route(self, connection: "Connection") -> None:
        """The ids of the connection changed."""
        ...


class Connection:
    """One authenticated association with a location of a peer.

    Survives a change of path. Ends when either side closes it, or when the path stays
    silent for longer than the idle time.

    Ten thousand idle ones fit a process: what only a connection in use needs (events,
    queues) is made on first use.

    ``early_data`` is what was said in the introduction; replayable, see `EarlyData`.
    """

    __slots__ = (
        "_arrival",
        "_blocked",
        "_channels",
        "_closed",
        "_closed_by_us",
        "_closed_reason",
        "_confirmed",
        "_connection_id",
        "_datagrams",
        "_flushed_at",
        "_hold",
        "_hub",
        "_incoming",
        "_is_stirred",
        "_known_paths",
        "_path",
        "_pings",
        "_rudp",
        "_soon",
        "_table",
        "armed_at",
        "certificate",
        "early_data",
        "on_silent",
        "timings",
        "trace",
    )

    def __init__(
        self,
        table: ConnectionHost,
        rudp: RudpConnection,
        peer: LocationCertificate,
    ) -> None:
        self.certificate = peer
        self.timings: ConnectTimings | None = None
        self.early_data = NO_EARLY_DATA
        # Called when nothing comes back on the path, again and again while it is so.
        self.on_silent: Callable[[], None] = _do_nothing
        self._table = table
        self._rudp = rudp
        self._hub = table.hub
        self._channels: dict[int, Channel] = {}
        # Lists where an empty deque would take 600 bytes more.
        self._incoming: list[Channel] = []
        self._datagrams: deque[bytes] | None = None
        self._pings: dict[int, tuple[trio.Event, list[float]]] = {}
        self._arrival: trio.Event | None = None
        # Writers that collect small pieces; at most one entry per channel.
        self._soon: list[Callable[[], None]] = []
        self._flushed_at = trio.current_time()
        self._hold = StreamHold(rudp)
        # Whether a packet came or time passed since the last flush.
        self._is_stirred = True
        self._blocked: list[packet.Transmission] = []
        self._path: Path | None = None
        self._known_paths = KnownPaths()
        self._connection_id = rudp.local_ids[0]
        self._closed_reason: str | None = None
        self._closed_by_us = False
        self._confirmed: trio.Event | None = None
        self._closed: trio.Event | None = None
        self.armed_at = math.inf
        self.trace: observer.ConnectionTrace | None = None

    async def __aenter__(self) -> Self:
        """Use the connection for the length of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it, for everybody who uses it."""
        await self.aclose()

    @property
    def confirmed(self) -> trio.Event:
        """Set when a packet of the peer has come: it holds the keys, and is here."""
        if self._confirmed is None:
            self._confirmed = trio.Event()
            if self._rudp.is_confirmed:
                self._confirmed.set()
        return self._confirmed

    @property
    def closed(self) -> trio.Event:
        """Set when the connection has ended."""
        if self._closed is None:
            self._closed = trio.Event()
            if self._closed_reason is not None:
                self._closed.set()
        return self._closed

    @property
    def peer_id(self) -> PeerId:
        """Whom we talk to: proven by the handshake."""
        return self.certificate.peer_id

    @property
    def path(self) -> Path | None:
        """The way that datagrams take now; ``None`` before ICE nominated one."""
        return self._path

    @property
    def connection_id(self) -> bytes:
        """The first of our ids of this connection on the wire, 8 bytes; its name."""
        return self._connection_id

    @property
    def wire_ids(self) -> tuple[bytes, ...]:
        """All ids, 8 bytes each, whose packets are for this connection now."""
        return self._rudp.local_ids

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be sent or taken in."""
        return self._rudp.state is ConnectionState.TERMINATED

    @property
    def close_reason(self) -> str | None:
        """Why the connection ended, or ``None`` while it lives."""
        return self._closed_reason

    async def open_channel(self) -> Channel:
        """Open a channel; waits while the peer allows no further one.

        Raises:
            trio.ClosedResourceError: we closed the connection.
            trio.BrokenResourceError: the peer or the network did.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        while not self._rudp.channels_available:
            await self._wait_arrival()
            self._check_open()
        channel = Channel(self, self._rudp.open_channel(trio.current_time()))
        self._channels[channel.channel_id] = channel
        self.flush()
        return channel

    async def accept_channel(self) -> Channel:
        """Wait for the next channel that the peer opened."""
        await trio.lowlevel.checkpoint()
        while not self._incoming:
            self._check_open()
            await self._wait_arrival()
        return self._incoming.pop(0)

    async def send_datagram(self, data: bytes) -> None:
        """Send one unreliable datagram; waits while as many as may wait to leave do.

        Raises:
            LocalProtocolError: it does not fit one packet.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.send_datagram_nowait(data):
            await self._wait_arrival()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def send_datagram_nowait(self, data: bytes) -> bool:
        """Send one unreliable datagram, or drop it: false when there is no room."""
        self._check_open()
        is_taken = self._rudp.send_datagram(data, self._flushed_at)
        self.flush()
        return is_taken

    async def receive_datagram(self) -> bytes:
        """Wait for the next unreliable datagram."""
        await trio.lowlevel.checkpoint()
        while not self._datagrams:
            self._check_open()
            await self._wait_arrival()
        return self._datagrams.popleft()

    async def ping(self) -> float:
        """Measure one round trip on the connection's path, in seconds.

        A peer bears 8000 of them at once and 1000 a second (rudp.md R-91), and ends the
        connection beyond that.

        Raises:
            trio.BusyResourceError: As many tasks as are allowed are at it.
            trio.ClosedResourceError: we closed the connection.
            trio.BrokenResourceError: the peer or the network did.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        if not self._rudp.may_ping:
            raise trio.BusyResourceError(f"{len(self._pings)} pings are under way")
        ping_id = self._rudp.ping(trio.current_time())
        answered = trio.Event()
        result: list[float] = []
        self._pings[ping_id] = (answered, result)
        self.flush()
        try:
            await answered.wait()
        finally:
            self._pings.pop(ping_id, None)
            self._rudp.forget_ping(ping_id)
        if not result:
            raise self._ending()
        return result[0]

    async def aclose(self) -> None:
        """Tell the peer and end; bytes not yet acknowledged may be lost."""
        self.close(0, "")
        await trio.lowlevel.checkpoint()

    def close(self, code: int, reason: str) -> None:
        """End the connection now; safe to call more than once."""
        if self._closed_reason is not None:
            return
        self._closed_by_us = True
        self._rudp.close(code, reason, trio.current_time())
        self.flush()

    def statistics(self) -> RudpStatistics:
        """Counters and estimates of the connection's transport."""
        return self._rudp.statistics()

    def set_path(self, path: Path, *, rtt_s: float | None = None) -> None:
        """Send along ``path``: the first one at once, others as soon as they answer.

        ``rtt_s`` is a first guess in seconds.
        """
        if self._path is None:
            self._path = path
        self._rudp.set_path(path.endpoint, trio.current_time(), rtt_s=rtt_s)
        self._know(path)
        if self.trace is not None:
            self.trace.measured(self._rudp.statistics())
        self.flush()

    def add_path(self, path: Path, *, rtt_s: float | None = None) -> bool:
        """Keep another way warm; false when there is no room for it.

        It is asked now and then whether it works, and carries data when it is better
        or the present one is dead.
        """
        now = trio.current_time()
        is_known = self._rudp.add_path(path.endpoint, now, rtt_s=rtt_s)
        if is_known:
            self._know(path)
        self.flush()
        return is_known

    def remove_path(self, endpoint: Endpoint) -> None:
        """Leave a way that leads nowhere any more."""
        self._known_paths.removed(endpoint, self.paths())
        self._rudp.ways.remove(endpoint, trio.current_time())
        self.flush()

    def path_at(self, endpoint: Endpoint) -> Path:
        """What kind of way leads to an address of the peer."""
        return self._known_paths.at(endpoint)

    def bytes_by_kind(self) -> dict[PathKind, PathBytes]:
        """What each kind of path carried, those that are no more included."""
        return self._known_paths.bytes_by_kind(self.paths())

    @property
    def silent_s(self) -> float:
        """How long the peer has owed an answer on the path in use, in seconds."""
        since = self._rudp.ways.watch.owed_since
        return 0.0 if since is None else trio.current_time() - since

    def paths(self) -> tuple[PathStatistics, ...]:
        """What is known of each way, the one that carries data first."""
        return self._rudp.paths()

    # What channels ask of their connection.

    def put(self, channel_id: int, data: bytes | memoryview) -> int:
        """Hand bytes of a channel to the transport; returns how many it took."""
        self._hold.on_written()
        # Nothing leaves before the flush, which asks for the time itself.
        return self._rudp.send(channel_id, data, self._flushed_at)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call this once in the next round of the scheduler, then flush."""
        self._soon.append(callback)
        self._table.resume(self)

    def read(self, channel_id: int, max_bytes: int) -> bytes | None:
        """Take bytes of a channel: ``None``: none yet; ``b""``: its end."""
        data = self._rudp.read(channel_id, max_bytes, self._flushed_at)
        if data and self._rudp.has_work:
            # Reading frees window, which the peer may be waiting for.
            self.flush()
        return data

    def set_urgency(self, channel_id: int, urgency: int) -> None:
        """Send a channel before those of a higher number."""
        self._rudp.set_urgency(channel_id, urgency, self._flushed_at)

    def finish(self, channel_id: int) -> None:
        """Half-close a channel."""
        self._rudp.finish(channel_id, trio.current_time())
        self.flush()

    def abandon(self, channel_id: int, code: int) -> None:
        """Reset both directions of a channel."""
        now = trio.current_time()
        self._channels.pop(channel_id, None)
        self._rudp.reset(channel_id, code, now)
        self._rudp.stop_reading(channel_id, code, now)
        self.flush()

    def release(self, channel_id: int, *, is_ended: bool) -> None:
        """End our direction politely; what still arrives is read by nobody."""
        now = trio.current_time()
        self._channels.pop(channel_id, None)
        self._rudp.finish(channel_id, now)
        if not is_ended:
            self._rudp.stop_reading(channel_id, 0, now)
        self.flush()

    # ConnectionSink: what the socket hub calls.

    def receive_run(
        self, buffer: memoryview, segment_size: int, source: Endpoint, ecn: int
    ) -> None:
        """Take a run of packets of this connection from the socket."""
        now = trio.current_time()
        if self.trace is not None:
            self.trace.at(now)
        self._is_stirred = True
        self._rudp.receive_run(buffer, segment_size, source, now, ecn=ecn)

    def flush(self) -> None:
        """Send what may be sent, hand out events, set the timer. The one step."""
        rudp = self._rudp
        if not self._is_stirred and self._hold.is_on and not self._soon:
            # A stream got longer, and nothing else: no timer moves.
            self._table.resume(self)
            return
        self._is_stirred = False
        self._flushed_at = now = trio.current_time()
        if self._soon:
            soon, self._soon = self._soon, []
            for callback in soon:
                callback()
        if self.trace is not None:
            self.trace.at(now)
        if rudp.has_work:
            self._send(now)
        if self.trace is not None:
            self.trace.measured(rudp.statistics())
        if rudp.has_events:
            self._dispatch()
        if self._confirmed is not None and rudp.is_confirmed:
            self._confirmed.set()
        self._table.arm(self)

    def resume(self) -> None:
        """Go on after the other tasks had their turn."""
        self._hold.on_turn()
        self.flush()

    def handle_deadline(self, now: float) -> None:
        """A timer of the transport is due."""
        if self.trace is not None:
            self.trace.at(now)
        self._rudp.handle_deadline(now)
        self._is_stirred = True
        self.flush()

    def rest(self) -> None:
        """Hold less memory, as nothing will happen for a while."""
        self._rudp.rest()

    def next_deadline(self) -> float | None:
        """When the transport wants to be woken."""
        if self._blocked:
            return None
        return self._rudp.next_deadline()

    def _send(self, now: float) -> None:
        hub = self._hub
        if self._blocked:
            return
        rudp, hold = self._rudp, self._hold
        for _ in range(0 if hold.is_on else BURSTS_PER_FLUSH):
            burst = rudp.datagrams_to_send(now)
            if not burst:
                return
            for index, transmission in enumerate(burst):
                if not hub.send(*transmission):
                    self._blocked.extend(burst[index:])
                    hub.when_writable(self._on_writable)
                    return
            hold.on_burst(len(burst[-1].data))
            if hold.is_rest:
                break
            if not rudp.has_work:
                return
        self._table.resume(self)

    def _on_writable(self) -> None:
        while self._blocked:
            if not self._hub.send(*self._blocked[0]):
                self._hub.when_writable(self._on_writable)
                return
            self._blocked.pop(0)
        self.flush()

    def _dispatch(self) -> None:
        while (event := self._rudp.next_event()) is not None:
            match event:
                case events.ChannelOpened(channel_id=channel_id):
                    channel = self._channels[channel_id] = Channel(self, channel_id)
                    self._incoming.append(channel)
                    self._tell_arrival()
                case (
                    events.ChannelReadable(channel_id=channel_id)
                    | events.ChannelWritable(channel_id=channel_id)
                    | events.ChannelDelivered(channel_id=channel_id)
                    | events.ChannelReset(channel_id=channel_id)
                    | events.ChannelStopped(channel_id=channel_id)
                ):
                    if known := self._channels.get(channel_id):
                        known.on_event(event)
                        if isinstance(event, events.ChannelReset):
                            self._forget_untaken(known)
                case _:
                    self._dispatch_own(event)

    def _forget_untaken(self, channel: Channel) -> None:
        """Drop a channel that was reset before anybody accepted it.

        The peer may open another one for it, so they would pile up without limit.
        """
        if channel in self._incoming:
            self._incoming.remove(channel)
            del self._channels[channel.channel_id]
            self._rudp.reset(channel.channel_id, 0, trio.current_time())
            self._table.resume(self)

    def _dispatch_own(self, event: events.Event) -> None:
        """Events of the connection itself."""
        match event:
            case events.DatagramReceived(data=data):
                self._keep_datagram(data)
            case events.PingAcknowledged(ping_id=ping_id, rtt_s=rtt_s):
                self._answer_ping(ping_id, rtt_s)
            case events.PathChanged(endpoint=endpoint):
                if self._path is not None:
                    self._path = self.path_at(endpoint)
            case events.PathSilent():
                self.on_silent()
            case events.LocalIdsChanged():
                self._table.route(self)
            case events.Closed(code=code, reason=reason, by=by):
                if self.trace is not None:
                    self.trace.closed(code=code, reason=reason, by=by.value)
                self.on_lost(f"closed by {by.value}: {reason or 'no reason'} ({code})")
            case _:
                self._tell_arrival()

    def _know(self, path: Path) -> None:
        self._known_paths.add(path)
        if self._path is not None and self._path.endpoint == path.endpoint:
            # The peer's packets came this way before it was said what way it is.
            self._path = path
        self._rudp.ways.set_rank(path.endpoint, path.kind.rank)

    def _answer_ping(self, ping_id: int, rtt_s: float) -> None:
        if waiting := self._pings.get(ping_id):
            waiting[1].append(rtt_s)
            waiting[0].set()

    def _keep_datagram(self, data: bytes) -> None:
        if self._datagrams is None:
            self._datagrams = deque(maxlen=self._table.config.max_datagrams)
        if len(self._datagrams) == self._datagrams.maxlen:
            self._rudp.count_dropped_datagram()
        self._datagrams.append(data)
        self._tell_arrival()

    def on_lost(self, reason: str) -> None:
        """The connection is over: wake everybody who waits; again is harmless."""
        if self._closed_reason is not None:
            return
        self._closed_reason = reason
        for channel in list(self._channels.values()):
            channel.on_broken(reason)
        for answered, _ in self._pings.values():
            answered.set()
        self._tell_arrival()
        if self._closed is not None:
            self._closed.set()

    def _check_open(self) -> None:
        if self._closed_reason is not None or self._closed_by_us:
            raise self._ending()

    def _ending(self) -> Exception:
        if self._closed_by_us:
            return trio.ClosedResourceError("this connection was closed")
        return trio.BrokenResourceError(self._closed_reason or "connection lost")

    async def _wait_arrival(self) -> None:
        # Several tasks may wait for different arrivals, so they share one event.
        if self._arrival is None:
            self._arrival = trio.Event()
        await self._arrival.wait()

    def _tell_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None


def _do_nothing() -> None:
    """Nobody minds."""
