"""One RUDP connection, glue only: each rule lives in a module beside this one.

Sans-I/O: after every call the driver takes datagrams, then the deadline, then
events. Nothing raises because of what a peer or a stranger sent.
"""

import random

from opnode.core.addresses import Endpoint
from opnode.core.crypto import ML_KEM_768, Kem, TransportKeys
from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp import frames
from opnode.protocols.rudp.acknowledgements import Acknowledgements
from opnode.protocols.rudp.burst import BurstBuilder
from opnode.protocols.rudp.channel_table import ChannelTable
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection_ids import ConnectionIds
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.datagram_queue import DatagramQueue
from opnode.protocols.rudp.event_queue import EventQueue
from opnode.protocols.rudp.events import (
    ChannelReadable,
    Closed,
    Event,
    LocalIdsChanged,
    PathChanged,
    PingAcknowledged,
    Side,
)
from opnode.protocols.rudp.frames import AckFrame, CloseFrame, Frame, FrameType
from opnode.protocols.rudp.lifetime import ConnectionState, Lifetime
from opnode.protocols.rudp.observer import LostPackets, RudpObserver
from opnode.protocols.rudp.packet import Transmission
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.path import Path, PathStatistics
from opnode.protocols.rudp.path_table import PathTable
from opnode.protocols.rudp.path_traffic import OwnIds, PathTraffic
from opnode.protocols.rudp.pings import Pings
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.receiver import PacketReceiver
from opnode.protocols.rudp.recovery import Recovery
from opnode.protocols.rudp.rekeying import Rekeying
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.protocols.rudp.send_rate import SendRate
from opnode.protocols.rudp.sent_run import SentRun
from opnode.protocols.rudp.statistics import RudpStatistics
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError, checked_code
from opnode.protocols.rudp.work_budget import WorkBudget

Buffer = bytes | bytearray | memoryview

# Probes that a timeout allows beyond the congestion window (RFC 9002 §6.2.4).
_PROBES = 2
_MIN_RTT_S = 0.0001


class RudpConnection:
    """A reliable, encrypted association of two ends that survives a change of path."""

    def __init__(
        self,
        *,
        initiator: bool,
        keys: TransportKeys,
        config: RudpConfig,
        rng: random.Random,
        kem: Kem = ML_KEM_768,
    ) -> None:
        """Start open; nothing is sent before ``set_path``.

        Args:
            initiator: Whether we began the handshake; decides ids and channel numbers.
            keys: What the handshake left.
            config: Limits and timers.
            rng: Spreads keep-alives, and seeds what a peer must not guess.
            kem: Makes the post-quantum secret.
        """
        self.is_initiator = initiator
        own_ids = OwnIds(keys, initiator=initiator)
        peer_ids = ConnectionIds(keys, of_initiator=not initiator, ours=False)
        packet_keys = PacketKeys(keys, initiator=initiator, config=config)
        self._proof = ReceiptProof(rng.randbytes(32))
        self._sealer = PacketSealer(packet_keys, peer_ids[0], self._proof)
        self._config = config
        self._events = EventQueue(
            max_events=config.max_events, max_datagrams=config.max_datagrams
        )
        self._controls = ControlQueue()
        self._channels = ChannelTable(
            initiator=initiator,
            config=config,
            events=self._events,
            controls=self._controls,
        )
        self._acks = Acknowledgements(
            max_ranges=config.max_received_ranges, max_delay_s=config.max_ack_delay_s
        )
        self._recovery = Recovery(
            initial_rtt_s=config.initial_rtt_s, min_pto_s=config.min_pto_s
        )
        self._send_rate = SendRate(config, self._recovery, self._controls, rng)
        self._rekeying = Rekeying(kem, self._sealer, self._controls, self._recovery)
        self._builder = BurstBuilder(
            sealer=self._sealer,
            channels=self._channels,
            controls=self._controls,
            acks=self._acks,
            recovery=self._recovery,
            rate=self._send_rate,
        )
        self._builder.datagrams = DatagramQueue(self._events, config.max_datagrams)
        self._work = WorkBudget(burst=config.work_burst, per_s=config.work_per_s)
        self._receiver = PacketReceiver(
            keys=packet_keys,
            connection_ids=own_ids.accepted,
            acks=self._acks,
            channels=self._channels,
            on_frame=self._on_frame,
            work=self._work,
        )
        self._lifetime = Lifetime(config, rng)
        self._paths = PathTable(
            config, rng, self._recovery, self._on_moved, initiator=initiator
        )
        self._traffic = PathTraffic(
            table=self._paths, own_ids=own_ids, peer_ids=peer_ids, sealer=self._sealer
        )
        self._pings = Pings(self._controls, maximum=config.max_pings)

    # --- world ----------------------------------------------------------------------

    @property
    def max_segments(self) -> int:
        """How many packets the driver can send in one call; 64 at most count."""
        return self._builder.max_segments

    @max_segments.setter
    def max_segments(self, count: int) -> None:
        self._builder.max_segments = max(count, 1)

    @property
    def local_ids(self) -> tuple[bytes, ...]:
        """The ids, 8 bytes each, of packets that are for this connection."""
        return self._traffic.own_ids.wire_ids

    def rest(self) -> None:
        """Hold less memory: nothing will happen for a while; harmless at any time."""
        self._rekeying.keys.rest()

    def observe(self, observer: RudpObserver) -> None:
        """Tell an observer of every packet from now on."""
        self._sealer.observer = self._receiver.observer = observer

    @property
    def state(self) -> ConnectionState:
        """Where the connection is in its life; forget it when TERMINATED."""
        return self._lifetime.state

    @property
    def is_confirmed(self) -> bool:
        """Whether a packet authenticated: the peer holds the keys, and is here now."""
        return self._receiver.packets_received > 0

    def set_path(
        self, endpoint: Endpoint, now: float, *, rtt_s: float | None = None
    ) -> None:
        """Send to this endpoint: the first one at once, others when they answer.

        ``rtt_s`` is a round trip that was measured otherwise, as by the ICE check.
        """
        if self._paths.active is None:
            self._lifetime.on_heard(now)
            self._rekeying.keys.start(now)
            if rtt_s is not None:
                self._recovery.rtt.suggest(rtt_s)
        self._paths.set_path(endpoint, now, rtt_s)

    def add_path(
        self, endpoint: Endpoint, now: float, *, rtt_s: float | None = None
    ) -> bool:
        """Keep another address of the peer warm; false when there is no room for it."""
        return self._paths.add(endpoint, now, rtt_s) is not None

    @property
    def ways(self) -> PathTable:
        """The paths; the driver takes them away and tells their ranks."""
        return self._paths

    def paths(self) -> tuple[PathStatistics, ...]:
        """Return what is known of each path, the one that carries data first."""
        return tuple(path.statistics() for path in self._paths.paths())

    def receive_run(
        self,
        buffer: memoryview,
        segment_size: int,
        source: Endpoint,
        now: float,
        *,
        ecn: int = 0,
    ) -> None:
        """Take in one packet, or several of `segment_size` bytes and ECN codepoint.

        Whatever is in the buffer, nothing is raised: forged and malformed packets are
        counted, and a peer that breaks a rule finds the connection closed.
        """
        lifetime = self._lifetime
        if not lifetime.takes_packets():
            return
        newest, probes = self._acks.next_number, self._receiver.path_probes
        try:
            accepted = self._receiver.receive_run(buffer, segment_size, now)
            if self._rekeying.keys.is_unsettled or self._receiver.forged:
                self._rekeying.after_run(self._receiver.forged, now)
        except PeerViolationError as error:
            self._end(int(error.code), str(error), now)
            return
        if not accepted:
            return
        if lifetime.state is not ConnectionState.OPEN:
            lifetime.on_packet_while_closing()
            return
        lifetime.on_heard(now)
        if ecn:
            self._acks.count_ecn(ecn, accepted)
        # A read holds packets of one path: if it brought the newest number and more
        # than mere probes, then it tells where the peer sends from.
        is_newest = (
            self._acks.next_number > newest
            and accepted > self._receiver.path_probes - probes
        )
        if self._traffic.on_run(buffer, source, now, is_newest=is_newest):
            self._events.add_own(LocalIdsChanged())
        if self._paths.claimant is not None and self._paths.takes_claim():
            self._probe(self._recovery.oldest_run)

    @property
    def has_work(self) -> bool:
        """Whether ``datagrams_to_send`` may have something; false saves the call."""
        return (
            self._builder.has_work
            or self._paths.has_packets
            or self._lifetime.close_pending
        )

    def has_less_than(self, bursts: int) -> bool:
        """Whether only the rest of a stream waits; see ``BurstBuilder``."""
        has_else = self._paths.has_packets or self._lifetime.close_pending
        return not has_else and self._builder.has_less_than(bursts)

    def datagrams_to_send(self, now: float) -> list[Transmission]:
        """Return the next burst; call again until the list is empty."""
        path = self._traffic.select()
        if path is None:
            return []
        if not self._rekeying.before_burst(now):
            self._end(CloseCode.KEY_EXHAUSTED, "no update came for worn keys", now)
        if self._lifetime.state is not ConnectionState.OPEN:
            return self._closing_datagrams(now)
        transmissions = self._traffic.probes(now, self._send_rate.controller.window)
        size = self._builder.packet_size = path.mtu.size
        ecn = self._send_rate.ecn.codepoint
        in_flight = self._recovery.bytes_in_flight
        data = self._builder.build(now)
        if self._recovery.bytes_in_flight > in_flight:
            self._paths.on_eliciting_sent(now)
        if data:
            transmissions += self._traffic.address(data, size, ecn)
        return transmissions

    # --- time -----------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when ``handle_deadline`` is due, None for never."""
        if self._paths.active is None:
            return None
        times = self._lifetime.deadlines()
        if self._lifetime.state is ConnectionState.OPEN:
            times += (
                None if self._acks.is_due else self._acks.deadline,
                self._rekeying.keys.old_until,
                self._recovery.loss_deadline,
                self._send_rate.pacer.next_send_at,
                self._recovery.probe_deadline,
                self._paths.next_deadline(),
            )
        return min([time for time in times if time is not None], default=None)

    def handle_deadline(self, now: float) -> None:
        """Do what is due by now; harmless when nothing is."""
        lifetime, recovery = self._lifetime, self._recovery
        if self._paths.active is None or lifetime.state is ConnectionState.TERMINATED:
            return
        if lifetime.state is not ConnectionState.OPEN:
            lifetime.on_deadline_while_closing(now)
            return
        if lifetime.is_idle(now):
            self._give_up()
            return
        self._acks.on_deadline(now)
        self._send_rate.on_deadline(now)
        self._rekeying.keys.on_deadline(now)
        if recovery.loss_deadline is not None and now >= recovery.loss_deadline:
            self._on_lost(recovery.on_loss_timer(now), now)
        if recovery.probe_deadline is not None and now >= recovery.probe_deadline:
            self._send_rate.on_probe_timeout()
            self._probe(recovery.on_probe_timer())
        self._builder.asks_sender |= self._paths.handle_deadline(now)
        if self._paths.watch.takes_loss(now, recovery.probe_timeout_s):
            self._events.add_silence()
        if lifetime.takes_keep_alive(now):
            self._controls.add_probe()
            self._paths.on_keep_alive(now)

    # --- application ----------------------------------------------------------------

    @property
    def has_events(self) -> bool:
        """Whether ``next_event`` has one."""
        return len(self._events) > 0

    def next_event(self) -> Event | None:
        """Return the oldest event that was not taken, None when there is none."""
        event = self._events.take()
        if isinstance(event, ChannelReadable):
            self._channels.on_event_taken(event.channel_id)
        return event

    @property
    def channels_available(self) -> int:
        """How many channels ``open_channel`` may open now."""
        return self._channels.channels_available

    def open_channel(self, now: float) -> int:  # noqa: ARG002 - every verb takes the time
        """Open a channel; the peer is told with the first packet that leaves.

        Raises:
            LocalProtocolError: The connection is closed, or the peer allows no more.
        """
        self._check_open()
        return self._channels.open().channel_id

    def send(self, channel_id: int, data: Buffer, now: float) -> int:  # noqa: ARG002 - every verb takes the time
        """Take bytes to be sent on a channel; they leave with the next burst.

        Returns:
            How many were taken; after fewer than all ChannelWritable will come. 0
            without that event when the peer stopped the channel or the connection is
            over.

        Raises:
            LocalProtocolError: No such channel, or it was finished.
        """
        if self._lifetime.state is not ConnectionState.OPEN:
            return 0
        return self._channels.write(channel_id, memoryview(data).cast("B"))

    def read(self, channel_id: int, max_bytes: int, now: float) -> bytes | None:
        """Take received bytes.

        Returns:
            Up to `max_bytes` bytes; empty, once, at the end of the stream; None when
            nothing is there now, and after a reset.

        Raises:
            LocalProtocolError: No such channel, or `max_bytes` is not positive.
        """
        if max_bytes < 1:
            raise LocalProtocolError(f"cannot read {max_bytes} bytes, at least 1")
        return self._channels.read(channel_id, max_bytes, now)

    def set_urgency(self, channel_id: int, urgency: int, now: float) -> None:  # noqa: ARG002 - every verb takes the time
        """Send a channel before those of a higher number: 0 to 7, 3 at its start.

        Raises:
            LocalProtocolError: No such channel, or no such urgency.
        """
        self._channels.set_urgency(channel_id, urgency)

    def finish(self, channel_id: int, now: float) -> None:  # noqa: ARG002 - every verb takes the time
        """End our half of a channel after what was written; again is harmless."""
        self._channels.finish(channel_id)

    def reset(self, channel_id: int, code: int, now: float) -> None:  # noqa: ARG002 - every verb takes the time
        """Give up our half of a channel at once; the peer gets ChannelReset."""
        self._channels.reset(channel_id, checked_code(code))

    def stop_reading(self, channel_id: int, code: int, now: float) -> None:  # noqa: ARG002 - every verb takes the time
        """Want no more of a channel; the peer gets ChannelStopped."""
        self._channels.stop_reading(channel_id, checked_code(code))

    def send_datagram(self, data: Buffer, now: float) -> bool:  # noqa: ARG002 - every verb takes the time
        """Send an unreliable message; false when the queue is full, until DatagramRoom.

        Raises:
            LocalProtocolError: More than 1163 bytes, or the connection is closed.
        """
        self._check_open()
        return self._builder.datagrams.put(data)

    def count_dropped_datagram(self) -> None:
        """The driver had no room for an unreliable message that it took."""
        self._events.dropped += 1

    def ping(self, now: float) -> int:
        """Measure a round trip: PingAcknowledged will come with this number.

        Raises:
            LocalProtocolError: Too many are under way, or the connection is closed.
        """
        self._check_open()
        return self._pings.start(now)

    @property
    def may_ping(self) -> bool:
        """Whether fewer than ``max_pings`` are under way."""
        return self._pings.has_room

    def forget_ping(self, ping_id: int) -> None:
        """Nobody waits for this ping any more: no event will come, again is harmless.

        A peer that never acknowledges it would keep it under way for ever.
        """
        self._pings.forget(ping_id)

    def close(self, code: int, reason: str, now: float) -> None:
        """End the connection; what was not delivered is lost, again is harmless.

        Args:
            code: 0 or a number of the application below 2^31.
            reason: For people; cut to 256 bytes.
            now: The present.
        """
        self._end(checked_code(code), reason, now)

    def statistics(self) -> RudpStatistics:
        """Return the figures of this moment."""
        rtt, receiver = self._recovery.rtt, self._receiver
        controller = self._send_rate.controller
        measured = rtt.latest is not None
        path, claimant = self._paths.active, self._paths.claimant
        return RudpStatistics(
            path=path.endpoint if path else None,
            candidate_path=claimant.endpoint if claimant else None,
            smoothed_rtt_s=rtt.smoothed if measured else None,
            latest_rtt_s=rtt.latest,
            min_rtt_s=rtt.minimum,
            rtt_variation_s=rtt.variation if measured else None,
            congestion_window=controller.window,
            bytes_in_flight=self._recovery.bytes_in_flight,
            pacing_rate_Bps=controller.pacing_rate,
            congestion_control=self._config.congestion.value,
            congestion_phase=controller.phase,
            ecn=self._send_rate.ecn.state.value,
            packet_size=self._builder.packet_size,
            acked_rate_Bps=self._send_rate.acked.bytes_per_s,
            packets_sent=self._sealer.packets_sent,
            packets_received=receiver.packets_received,
            bytes_sent=self._sealer.bytes_sent,
            bytes_received=receiver.bytes_received,
            packets_lost=self._recovery.packets_lost,
            probe_timeouts=self._recovery.probe_timeouts,
            duplicates=receiver.duplicates,
            forged=receiver.forged,
            malformed=receiver.malformed,
            datagrams_dropped=self._events.dropped,
            channels_open=len(self._channels),
            key_epoch=self._rekeying.keys.receive_epoch,
            post_quantum_at=self._rekeying.keys.post_quantum_at,
        )

    # --- frames ---------------------------------------------------------------------

    def _on_frame(self, frame: Frame, now: float) -> None:
        """Apply a frame that is not stream data; a PING needs nothing but its ACK."""
        match frame:
            case AckFrame():
                self._on_ack(frame, now)
            case frames.DatagramFrame(data):
                self._events.add_datagram(data)
            case frames.AckFrequencyFrame():
                self._acks.on_ack_frequency(frame)
            case frames.KeyShareFrame():
                self._rekeying.on_key_share(frame, now)
            case frames.PathChallengeFrame() | frames.PathResponseFrame():
                self._traffic.on_frame(frame)
            case CloseFrame():
                self._on_close(frame, now)
            case _:
                self._channels.on_frame(frame)

    def _on_ack(self, frame: AckFrame, now: float) -> None:
        recovery = self._recovery
        self._proof.check(frame, *recovery.open_fates)
        number = self._sealer.next_number
        result = recovery.on_ack(frame, next_number=number, now=now)
        self._channels.flow.rtt_s = recovery.rtt.smoothed
        self._rekeying.keys.on_acked(frame.ranges[0][1] - 1)
        packets = 0
        for run in result.acked:
            packets += run.stop - run.first
            self._on_run_acked(run, now)
            self._paths.on_acked(run.stop - 1, run.size, run.sent_at, now)
        if result.lost:
            self._on_lost(result.lost, now)
        self._work.on_ack(result.acked_bytes, packets, len(frame.ranges))
        self._send_rate.on_ack(result, frame.ecn, number, now)

    def _on_run_acked(self, run: SentRun, now: float) -> None:
        for piece in run.stream_pieces():
            self._channels.on_piece_acked(piece)
        for kind, number in run.controls:
            if kind == FrameType.RESET:
                self._channels.on_reset_acked(number)
            elif kind == FrameType.PING:
                rtt_s = self._pings.on_acked(number, now)
                if rtt_s is not None:
                    self._events.add(PingAcknowledged(number, rtt_s))
        if run.acks_below:
            self._acks.on_confirmed(run.acks_below)

    def _on_lost(self, lost: list[SentRun], now: float) -> None:
        if self._sealer.observer is not None:
            told = [LostPackets(run.first, run.stop, run.size) for run in lost]
            self._sealer.observer.packets_lost(told)
        for run in lost:
            self._send_again(run)
            self._paths.on_lost(run, now)
        self._send_rate.on_lost(lost, now)

    def _send_again(self, run: SentRun, max_packets: int | None = None) -> None:
        for piece in run.stream_pieces(max_packets):
            self._channels.on_piece_lost(piece)
        self._controls.restore(run.controls)

    def _probe(self, oldest: SentRun | None) -> None:
        """Nothing came back in time, or the peer may be elsewhere: ask, and repeat."""
        if oldest is not None:
            self._send_again(oldest, _PROBES)
            self._paths.on_timeout()
        self._controls.add_probe()
        self._builder.probes = _PROBES

    # --- path -----------------------------------------------------------------------

    def _on_moved(self, left: Path, taken: Path, now: float) -> None:
        """Go on with another path; one host is one way, whatever its NAT's port.

        What was learnt of another host's path says nothing here (RFC 9000 §9.4).
        """
        is_other_host = left.endpoint.host != taken.endpoint.host
        self._recovery.on_path_changed(now, is_other_host=is_other_host)
        if is_other_host:
            # A pace is a share of a round trip, which is never nothing.
            self._recovery.rtt.suggest(max(taken.rtt.smoothed, _MIN_RTT_S))
            self._send_rate.restart(now, taken.mtu.size)
        self._send_rate.forget_before(now)
        # The peer hears at once where we are.
        self._controls.add_probe()
        self._builder.probes = max(self._builder.probes, 1)
        self._events.add_own(PathChanged(taken.endpoint))

    # --- ends -----------------------------------------------------------------------

    def _on_close(self, frame: CloseFrame, now: float) -> None:
        state = self._lifetime.state
        if state is ConnectionState.CLOSING:
            self._lifetime.terminate()
        elif state is ConnectionState.OPEN:
            answer = frames.encode_close(CloseCode.NO_ERROR, "")
            timeout_s = self._recovery.probe_timeout_s
            self._lifetime.start_draining(answer, now=now, timeout_s=timeout_s)
            self._events.close(Closed(frame.code, frame.reason, Side.PEER))

    def _end(self, code: int, reason: str, now: float) -> None:
        if self._lifetime.state is not ConnectionState.OPEN:
            return
        frame = frames.encode_close(code, reason)
        timeout_s = self._recovery.probe_timeout_s
        self._lifetime.start_closing(frame, now=now, timeout_s=timeout_s)
        if self._paths.active is None:
            self._lifetime.terminate()
        self._events.close(Closed(code, reason, Side.LOCAL))

    def _give_up(self) -> None:
        self._lifetime.terminate()
        reason = f"nothing was heard for {self._config.idle_timeout_s:g} s"
        self._events.close(Closed(CloseCode.IDLE_TIMEOUT, reason, Side.NETWORK))

    def _closing_datagrams(self, now: float) -> list[Transmission]:
        if not self._lifetime.close_pending:
            return []
        data = b"".join(self._sealer.seal(self._lifetime.close_frame))
        self._lifetime.on_close_sent(now)
        return self._traffic.address(data, len(data), ecn=0)

    def _check_open(self) -> None:
        state = self._lifetime.state
        if state is not ConnectionState.OPEN:
            raise LocalProtocolError(f"the connection is {state.value}, not open")
