"""What a congestion controller is told, and what it answers; decides nothing.

All sizes are bytes, all times seconds. One ACK is one call however many packets it
names, so that the cost goes with the bursts and not with the packets.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class CongestionAlgorithm(enum.Enum):
    """Which controller a connection uses for what it sends."""

    CUBIC = "cubic"
    BBR = "bbr"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """Where a window starts and ends, in bytes, and the size of a full packet."""

    initial: int
    maximum: int
    packet_size: int


class RateSample(NamedTuple):
    """How fast the newest acknowledged packets were delivered.

    Attributes:
        delivered: Bytes delivered between ``prior_delivered`` and now.
        interval_s: How long that took; 0 when the sample is no good.
        total_delivered: Bytes delivered in the whole connection.
        prior_delivered: What that total was when the newest packet was sent.
        in_flight: Bytes in flight right after the newest packet was sent.
        lost: Bytes declared lost since then.
        is_app_limited: Whether the application did not fill the pipe meanwhile, so
            that the rate says less than the path could do.
    """

    delivered: int
    interval_s: float
    total_delivered: int
    prior_delivered: int
    in_flight: int
    lost: int
    is_app_limited: bool

    @property
    def bytes_per_s(self) -> float:
        """The rate, 0 when the sample is no good."""
        return self.delivered / self.interval_s if self.interval_s > 0 else 0.0


class AckSample(NamedTuple):
    """An acknowledgement of something new.

    Attributes:
        now: The present.
        acked: Bytes newly acknowledged.
        lost: Bytes that it declared lost; ``on_lost`` was called for them before.
        newest_sent_at: When the newest of the acknowledged packets was sent.
        largest_acked: The largest packet number acknowledged so far.
        next_number: The next packet number to be sent.
        latest_rtt_s: The round trip that it measured, None when it measured none.
        smoothed_rtt_s: The average round trip.
        min_rtt_s: The shortest round trip, the average before there is one.
        in_flight: Bytes still in flight.
        is_limited: Whether window or pacing was what kept more from being sent.
        rate: The delivery rate.
    """

    now: float
    acked: int
    lost: int
    newest_sent_at: float
    largest_acked: int
    next_number: int
    latest_rtt_s: float | None
    smoothed_rtt_s: float
    min_rtt_s: float
    in_flight: int
    is_limited: bool
    rate: RateSample


class LossSample(NamedTuple):
    """Packets of one burst that were declared lost.

    Attributes:
        now: The present.
        size: Bytes of all of them.
        sent_at: When they were sent.
        in_flight: Bytes in flight right after they were sent.
        lost: Bytes declared lost since they were sent, they themselves included.
        is_app_limited: Whether the application did not fill the pipe at that time.
    """

    now: float
    size: int
    sent_at: float
    in_flight: int
    lost: int
    is_app_limited: bool


class CongestionController(Protocol):
    """Decides how much may be in flight and how fast it may leave.

    Attributes:
        window: Bytes that may be in flight.
        pacing_rate: Bytes per second that may leave.
        packet_size: Size of a full packet; set anew when the path's MTU is found.
    """

    window: int
    pacing_rate: float
    packet_size: int

    @property
    def phase(self) -> str:
        """What it is doing, for people."""
        ...

    def on_sent(self, *, in_flight: int, now: float) -> None:
        """Packets are about to leave while `in_flight` bytes are on their way."""

    def on_ack(self, sample: AckSample) -> None:
        """Something new was acknowledged."""

    def on_lost(self, sample: LossSample) -> None:
        """Packets were declared lost."""

    def on_congestion_experienced(self, sample: AckSample) -> None:
        """The ACK says that a router marked packets instead of dropping them."""

    def on_spurious_loss(self, now: float) -> None:
        """All that the last ``on_lost`` calls reported arrived after all."""

    def on_persistent_congestion(self, now: float) -> None:
        """Nothing arrived for several probe timeouts (RFC 9002 §7.6)."""
