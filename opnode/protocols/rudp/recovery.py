"""Round trips, losses and probe timeouts (RFC 6298, RFC 9002); sends nothing.

What was sent is remembered as runs of packets: a burst of 54 equal packets is one
object, which acknowledgements split. That keeps the cost per burst, not per packet.
"""

from bisect import bisect_right
from operator import attrgetter
from typing import NamedTuple

from opnode.core.ranges import RangeSet
from opnode.protocols.rudp.frames import MAX_ACK_DELAY_S, AckFrame
from opnode.protocols.rudp.packet import MAX_PACKET_NUMBER
from opnode.protocols.rudp.send_buffer import SendBuffer
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# RFC 9002 §6.1.1 and §6.1.2. Every loss that proves to have been mere reordering
# doubles the first and adds an eighth of a round trip to the second, as RFC 8985 §6.2
# does, until a path that reorders a lot is judged by time alone.
_PACKET_THRESHOLD = 3
_TIME_THRESHOLD = 9 / 8
_TIME_THRESHOLD_STEP = 1 / 8
_MAX_REORDERING_STEPS = 6
# Lost packets that may yet turn up; older ones are forgotten.
_MAX_LOST_RANGES = 64
_GRANULARITY_S = 0.001
# RFC 9002 §7.6.1.
_PERSISTENT_CONGESTION_THRESHOLD = 3
# Doubling stops here; the idle timeout ends the connection long before.
_MAX_BACKOFF = 10

ControlKey = tuple[int, int]


class SentPiece(NamedTuple):
    """Stream bytes in a mixed packet."""

    buffer: SendBuffer
    start: int
    stop: int
    fin: bool


class SentRun:
    """Packets ``first`` to ``stop - 1``, sent at one time, each of ``size`` bytes.

    Either a bulk run, where packet ``first + i`` carries ``chunk`` bytes of ``buffer``
    from ``offset + i * chunk`` on, or one mixed packet with ``pieces`` and
    ``controls``. ``acks_below`` is where the ACK frame in it ended, 0 without one.
    """

    __slots__ = (
        "acks_below",
        "buffer",
        "chunk",
        "controls",
        "first",
        "offset",
        "pieces",
        "sent_at",
        "size",
        "stop",
    )

    def __init__(self, first: int, stop: int, *, size: int, sent_at: float) -> None:
        """Describe the packets; the content is set by the builder."""
        self.first = first
        self.stop = stop
        self.size = size
        self.sent_at = sent_at
        self.buffer: SendBuffer | None = None
        self.offset = 0
        self.chunk = 0
        self.pieces: tuple[SentPiece, ...] = ()
        self.controls: tuple[ControlKey, ...] = ()
        self.acks_below = 0

    def stream_pieces(self, max_packets: int | None = None) -> tuple[SentPiece, ...]:
        """Return the stream bytes of all packets, or of the first few."""
        if self.buffer is None:
            return self.pieces
        count = self.stop - self.first
        if max_packets is not None:
            count = min(count, max_packets)
        stop = self.offset + count * self.chunk
        return (SentPiece(self.buffer, self.offset, stop, False),)

    @property
    def total_size(self) -> int:
        """Bytes of all packets together."""
        return (self.stop - self.first) * self.size

    def split(self, number: int) -> "SentRun":
        """Cut off and return the packets from `number` on; bulk runs only."""
        right = SentRun(number, self.stop, size=self.size, sent_at=self.sent_at)
        right.buffer = self.buffer
        right.chunk = self.chunk
        right.offset = self.offset + (number - self.first) * self.chunk
        self.stop = number
        return right


_FIRST = attrgetter("first")
_STOP = attrgetter("stop")


class RttEstimator:
    """Smoothed round trip and its variation (RFC 6298, with RFC 9002 §5)."""

    __slots__ = ("_initial", "latest", "minimum", "smoothed", "variation")

    def __init__(self, initial_s: float) -> None:
        """Assume a round trip until the first measurement."""
        self._initial = initial_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the path is another one."""
        self.latest: float | None = None
        self.minimum: float | None = None
        self.smoothed = self._initial
        self.variation = self._initial / 2

    def suggest(self, rtt_s: float) -> None:
        """Assume this round trip until the first measurement."""
        if self.latest is None:
            self.smoothed = rtt_s
            self.variation = rtt_s / 2

    def add(self, sample_s: float, ack_delay_s: float) -> None:
        """Take in a measurement.

        Args:
            sample_s: From sending the packet to its acknowledgement.
            ack_delay_s: How long the peer says to have held it back.
        """
        self.latest = sample_s
        if self.minimum is None:
            self.minimum = sample_s
            self.smoothed = sample_s
            self.variation = sample_s / 2
            return
        self.minimum = min(self.minimum, sample_s)
        delay = min(ack_delay_s, MAX_ACK_DELAY_S)
        adjusted = sample_s - delay if sample_s >= self.minimum + delay else sample_s
        deviation = abs(self.smoothed - adjusted)
        self.variation += (deviation - self.variation) / 4
        self.smoothed += (adjusted - self.smoothed) / 8

    @property
    def probe_timeout_s(self) -> float:
        """How long to wait for any acknowledgement (RFC 9002 §6.2.1)."""
        spread = max(4 * self.variation, _GRANULARITY_S)
        return self.smoothed + spread + MAX_ACK_DELAY_S

    @property
    def longest_s(self) -> float:
        """The newest round trip or the average, whichever is longer."""
        return max(self.smoothed, self.latest or 0.0)


class AckResult(NamedTuple):
    """What an ACK frame changed."""

    acked: list[SentRun]
    lost: list[SentRun]
    persistent_congestion: bool


class Recovery:
    """Every packet in flight, and the times at which something must happen."""

    __slots__ = (
        "_largest_acked",
        "_last_sent_at",
        "_loss_at",
        "_lost_numbers",
        "_min_pto_s",
        "_pto_count",
        "_reordering_steps",
        "_sampled_at",
        "_sent",
        "bytes_in_flight",
        "packets_lost",
        "probe_timeouts",
        "rtt",
    )

    def __init__(self, *, initial_rtt_s: float, min_pto_s: float) -> None:
        """Start with nothing in flight."""
        self.rtt = RttEstimator(initial_rtt_s)
        self.bytes_in_flight = 0
        self.packets_lost = 0
        self.probe_timeouts = 0
        self._min_pto_s = min_pto_s
        self._sent: list[SentRun] = []
        self._largest_acked = -1
        self._last_sent_at = 0.0
        self._loss_at: float | None = None
        self._pto_count = 0
        self._sampled_at: float | None = None
        self._lost_numbers = RangeSet(max_ranges=_MAX_LOST_RANGES)
        self._reordering_steps = 0

    def on_sent(self, run: SentRun) -> None:
        """Remember packets that want an acknowledgement."""
        self._sent.append(run)
        self._last_sent_at = run.sent_at
        self.bytes_in_flight += run.total_size

    def on_ack(self, frame: AckFrame, *, next_number: int, now: float) -> AckResult:
        """Take in an ACK frame.

        Args:
            frame: Its ranges, highest first.
            next_number: Packet numbers from here on were never sent.
            now: The present.

        Raises:
            PeerViolationError: A packet is acknowledged that was never sent.
        """
        largest = frame.ranges[0][1] - 1
        if largest >= next_number:
            raise PeerViolationError(
                CloseCode.PROTOCOL_VIOLATION,
                f"packet {largest} is acknowledged, {next_number - 1} was the last",
            )
        acked = self._take_ranges(frame.ranges)
        if self._lost_numbers:
            self._learn_reordering(frame.ranges)
        self._largest_acked = max(self._largest_acked, largest)
        if acked:
            self._pto_count = 0
            newest = acked[0]
            if newest.stop == largest + 1:
                self.rtt.add(now - newest.sent_at, frame.delay_s)
                if self._sampled_at is None:
                    self._sampled_at = now
        lost = self._detect_lost(now)
        persistent = bool(lost) and self._is_persistent(lost)
        return AckResult(acked, lost, persistent)

    @property
    def oldest_in_flight(self) -> int:
        """The lowest packet number whose fate is open; huge when there is none."""
        return self._sent[0].first if self._sent else MAX_PACKET_NUMBER + 1

    def on_loss_timer(self, now: float) -> list[SentRun]:
        """Return what the time threshold declares lost by now."""
        return self._detect_lost(now)

    def on_probe_timer(self) -> SentRun | None:
        """Count a probe timeout; returns the oldest run, to be sent once more."""
        self._pto_count = min(self._pto_count + 1, _MAX_BACKOFF)
        self.probe_timeouts += 1
        return self._sent[0] if self._sent else None

    def on_path_changed(self, *, is_other_host: bool) -> None:
        """Probe at once; what was learnt of another host's path says nothing now."""
        self._pto_count = 0
        if is_other_host:
            self.rtt.reset()
            self._reordering_steps = 0

    @property
    def loss_deadline(self) -> float | None:
        """When ``on_loss_timer`` is due."""
        return self._loss_at

    @property
    def probe_deadline(self) -> float | None:
        """When ``on_probe_timer`` is due."""
        if self._loss_at is not None or not self._sent:
            return None
        wait = max(self.rtt.probe_timeout_s, self._min_pto_s) * (1 << self._pto_count)
        return self._last_sent_at + wait

    @property
    def probe_timeout_s(self) -> float:
        """The probe timeout without backoff."""
        return max(self.rtt.probe_timeout_s, self._min_pto_s)

    def _take_ranges(self, ranges: tuple[tuple[int, int], ...]) -> list[SentRun]:
        acked: list[SentRun] = []
        for start, stop in ranges:
            if not self._sent or stop <= self._sent[0].first:
                break
            taken = self._take(start, stop)
            taken.reverse()
            acked += taken
        return acked

    def _take(self, start: int, stop: int) -> list[SentRun]:
        """Take the packets of ``[start, stop)`` out, lowest first."""
        sent = self._sent
        begin = end = bisect_right(sent, start, key=_STOP)
        taken: list[SentRun] = []
        kept: list[SentRun] = []
        while end < len(sent) and sent[end].first < stop:
            run = sent[end]
            end += 1
            if run.first < start:
                kept.append(run)
                run = run.split(start)
            if run.stop > stop:
                kept.append(run.split(stop))
            self.bytes_in_flight -= run.total_size
            taken.append(run)
        sent[begin:end] = kept
        return taken

    def _detect_lost(self, now: float) -> list[SentRun]:
        """Declare lost what is too far behind, in number or in time."""
        self._loss_at = None
        largest = self._largest_acked
        sent = self._sent
        if not sent or sent[0].first >= largest:
            return []
        delay = self._loss_delay_s
        packets = _PACKET_THRESHOLD << self._reordering_steps
        stop = max(largest - packets + 1, 0)
        for run in sent[: bisect_right(sent, largest, key=_FIRST)]:
            if run.sent_at + delay > now:
                break
            stop = max(stop, min(run.stop, largest))
        lost = self._take(0, stop)
        for run in lost:
            self.packets_lost += run.stop - run.first
            self._lost_numbers.add(run.first, run.stop)
        if sent and sent[0].first < largest:
            self._loss_at = sent[0].sent_at + delay
        return lost

    @property
    def _loss_delay_s(self) -> float:
        """How long after an earlier one was acknowledged a packet counts as lost."""
        threshold = _TIME_THRESHOLD + _TIME_THRESHOLD_STEP * self._reordering_steps
        return max(threshold * self.rtt.longest_s, _GRANULARITY_S)

    def _learn_reordering(self, ranges: tuple[tuple[int, int], ...]) -> None:
        """Be more patient when a packet arrived that was declared lost."""
        lost = self._lost_numbers
        before = lost.total
        for start, stop in ranges:
            lost.remove(start, stop)
        if lost.total < before and self._reordering_steps < _MAX_REORDERING_STEPS:
            self._reordering_steps += 1

    def _is_persistent(self, lost: list[SentRun]) -> bool:
        """RFC 9002 §7.6: all of a long stretch was lost, nothing in between arrived."""
        duration = self.rtt.probe_timeout_s * _PERSISTENT_CONGESTION_THRESHOLD
        sampled_at = self._sampled_at
        if sampled_at is None:
            return False
        begin, previous = lost[0], lost[0]
        for run in lost:
            if run.first != previous.stop and run is not previous:
                begin = run
            if begin.sent_at >= sampled_at and run.sent_at - begin.sent_at > duration:
                return True
            previous = run
        return False
