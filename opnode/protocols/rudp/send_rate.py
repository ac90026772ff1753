"""How much may leave now, and when the rest: one path's controller, pacer and marks.

Owns what belongs to the rate of the present path and brings its parts together;
``recovery`` tells it what arrived and what was lost.
"""

import random

from opnode.protocols.rudp.ack_frequency import AckFrequency
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import (
    AckSample,
    Bbr,
    CongestionAlgorithm,
    CongestionController,
    Cubic,
    Pacer,
    WindowLimits,
)
from opnode.protocols.rudp.congestion.pacer import TIMER_S
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.delivery_rate import DeliveryRate
from opnode.protocols.rudp.ecn import EcnValidation
from opnode.protocols.rudp.frames import EcnCounts, FrameType, encode_ack_frequency
from opnode.protocols.rudp.packet import BASE_PACKET_SIZE
from opnode.protocols.rudp.recovery import AckResult, Recovery
from opnode.protocols.rudp.sent_run import ControlKey, SentRun

# A burst waits until a quarter of the window is free: with a packet sent for every
# packet acknowledged, bursts would shrink to nothing.
_WAIT_FRACTION = 4
# The least window (RFC 9002 §7.2), also when packets have become larger since it fell.
_LEAST_PACKETS = 2


class SendRate:
    """Window, pacing and marks of what is sent on the present path."""

    __slots__ = (
        "_config",
        "_controls",
        "_recovery",
        "_rng",
        "_since",
        "ack_frequency",
        "acked",
        "controller",
        "ecn",
        "is_limited",
        "pacer",
    )

    def __init__(
        self,
        config: RudpConfig,
        recovery: Recovery,
        controls: ControlQueue,
        rng: random.Random,
    ) -> None:
        """Start with an unknown path.

        Args:
            config: Which controller, and its limits.
            recovery: Knows the round trip and what is in flight.
            controls: Carries what is asked of the peer.
            rng: Spreads the probes of flows that share a path.
        """
        self._config = config
        self._controls = controls
        controls.encoders[FrameType.ACK_FREQUENCY] = self._encode_ack_frequency
        self._recovery = recovery
        self._rng = rng
        # Packets sent before this time went another way.
        self._since = float("-inf")
        # Whether window or pacing kept something from being sent last time.
        self.is_limited = False
        self.ecn = EcnValidation()
        self.ack_frequency = AckFrequency()
        # What arrives, averaged for people.
        self.acked = DeliveryRate()
        self.restart(float("-inf"), BASE_PACKET_SIZE)

    def restart(self, now: float, packet_size: int) -> None:
        """Forget what was learnt: packets take another path from now on.

        Args:
            now: The present.
            packet_size: Size of a full packet there.
        """
        config = self._config
        limits = WindowLimits(
            initial=config.initial_window_packets * packet_size,
            maximum=config.max_window,
            packet_size=packet_size,
        )
        self._since = now
        self.controller = self._new_controller(limits)
        self.pacer = Pacer(initial=limits.initial)
        self.ecn.on_path_changed()
        self._recovery.is_marking = bool(self.ecn.codepoint)

    def forget_before(self, now: float) -> None:
        """Learn nothing from packets that left earlier: they took another path."""
        self._since = now

    @property
    def next_send_at(self) -> float | None:
        """When what pacing holds back may leave, None when it holds nothing back."""
        return self.pacer.next_send_at

    def on_deadline(self, now: float) -> None:
        """Let the next burst try."""
        self.pacer.on_deadline(now)

    def on_sent(self, size: int, *, packets: int, now: float) -> None:
        """Count a burst of which `size` bytes want an acknowledgement."""
        if size:
            before = self._recovery.bytes_in_flight - size
            self.controller.on_sent(in_flight=before, now=now)
            self.pacer.on_sent(size)
        if self._recovery.is_marking:
            self.ecn.on_sent(packets)
            self._recovery.is_marking = bool(self.ecn.codepoint)

    def on_ack(
        self,
        result: AckResult,
        counts: EcnCounts | None,
        next_number: int,
        now: float,
    ) -> None:
        """Take in what an ACK changed; ``on_lost`` was told of its losses before.

        Args:
            result: What recovery made of it.
            counts: The codepoints that it echoes.
            next_number: The next packet number to be sent.
            now: The present.
        """
        controller = self.controller
        if result.is_spurious:
            controller.on_spurious_loss(now)
        if result.is_persistent:
            controller.on_persistent_congestion(now)
        rate = result.rate
        is_marked = result.is_newest and self.ecn.on_ack(counts, result.acked_marked)
        self._recovery.is_marking = bool(self.ecn.codepoint)
        if rate is None or result.acked[0].sent_at < self._since:
            return
        recovery = self._recovery
        rtt = recovery.rtt
        self.acked.add(result.acked_bytes, now=now, interval_s=rtt.smoothed)
        sample = AckSample(
            now,
            result.acked_bytes,
            sum(run.total_size for run in result.lost) if result.lost else 0,
            result.acked[0].sent_at,
            recovery.largest_acked,
            next_number,
            result.latest_rtt_s,
            rtt.smoothed,
            rtt.shortest_s,
            recovery.bytes_in_flight,
            self.is_limited,
            rate,
        )
        if is_marked:
            controller.on_congestion_experienced(sample)
        controller.on_ack(sample)
        if self.is_limited and self.ack_frequency.update(
            in_flight=controller.window,
            packet_size=controller.packet_size,
            rtt_s=rtt.smoothed,
            now=now,
        ):
            self._controls.add(FrameType.ACK_FREQUENCY)

    def on_lost(self, lost: list[SentRun], now: float) -> None:
        """Tell the controller of losses on this path."""
        for sample in self._recovery.loss_samples(lost, now):
            if sample.sent_at >= self._since:
                self.controller.on_lost(sample)

    def on_probe_timeout(self) -> None:
        """Nothing came back in time."""
        self.ecn.on_probe_timeout()
        self._recovery.is_marking = bool(self.ecn.codepoint)

    def allowance(
        self, now: float, limit: int, packet_size: int
    ) -> tuple[int, int, int]:
        """Return what may leave, in packets.

        Args:
            now: The present.
            limit: Packets that fit into one send.
            packet_size: Size of a full packet.

        Returns:
            Packets that window and pacing allow, packets that the window alone allows,
            and how many a sender with more to send should wait for.
        """
        controller, size = self.controller, packet_size
        if controller.packet_size != size:
            controller.packet_size = size
            # With less than a packet nothing would ever leave, nor be acknowledged.
            controller.window = max(controller.window, _LEAST_PACKETS * size)
        rate, window = controller.pacing_rate, controller.window
        in_flight = self._recovery.bytes_in_flight
        free = max(window - in_flight, 0) // size
        if rate * TIMER_S >= window:
            # The round trip is shorter than a timer: there is nothing to spread over.
            return free, free, max(min(limit, window // size // _WAIT_FRACTION), 1)
        paced = self.pacer.budget(now, rate, size) // size
        if not in_flight:
            # A lone packet queues behind nothing of ours. The rate of an application
            # that waits for answers is that of its messages, and by it the next would
            # have to wait, which makes the rate lower still.
            paced = max(paced, 1)
        enough = min(
            limit,
            window // size // _WAIT_FRACTION,
            self.pacer.enough(rate, size) // size,
        )
        return min(free, paced), free, max(enough, 1)

    def wait_for(self, packets: int, now: float) -> None:
        """Note that so many packets wait for their turn: see ``next_send_at``."""
        controller = self.controller
        self.pacer.wait_for(
            packets * controller.packet_size, now, controller.pacing_rate
        )

    def _encode_ack_frequency(self, _key: ControlKey) -> bytes:
        """Make the frame that asks for what ``ack_frequency`` wants now."""
        request = self.ack_frequency.request
        if request is None:
            return b""
        rtt = self._recovery.rtt
        rtt.max_ack_delay_s = max(rtt.max_ack_delay_s, request.max_delay_s)
        return encode_ack_frequency(*request)

    def _new_controller(self, limits: WindowLimits) -> CongestionController:
        rtt_s = self._recovery.rtt.smoothed
        if self._config.congestion is CongestionAlgorithm.BBR:
            return Bbr(limits, rtt_s=rtt_s, rng=self._rng)
        return Cubic(limits, rtt_s=rtt_s)
