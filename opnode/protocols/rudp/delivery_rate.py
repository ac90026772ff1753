"""How fast bytes arrive at the peer, measured by its acknowledgements.

``DeliverySampler`` is the estimator of draft-cheng-iccrg-delivery-rate-estimation, a
run of packets at a time; ``DeliveryRate`` is the average that people read.
"""

from opnode.protocols.rudp.congestion.controller import RateSample
from opnode.protocols.rudp.sent_run import SendState, SentRun

# Below this the rate would show the kernel's scheduling rather than the path.
_MIN_INTERVAL_S = 0.02
# Newest interval against the average; four intervals make two thirds of it.
_GAIN = 0.25
_NO_LIMIT = -1


class DeliverySampler:
    """Counts what was delivered and lost, and samples the rate once per ACK."""

    __slots__ = (
        "_app_limited_until",
        "_delivered_at",
        "_first_sent_at",
        "delivered",
        "lost",
    )

    def __init__(self) -> None:
        """Start with nothing sent."""
        self.delivered = 0
        self.lost = 0
        self._delivered_at = 0.0
        self._first_sent_at = 0.0
        self._app_limited_until = _NO_LIMIT

    def state_for(self, now: float, *, size: int, in_flight: int) -> SendState:
        """Return what `size` bytes that leave now remember.

        Args:
            now: The present.
            size: Bytes that leave.
            in_flight: Bytes in flight without them.
        """
        if not in_flight:
            self._delivered_at = self._first_sent_at = now
        return SendState(
            self.delivered,
            self._delivered_at,
            self._first_sent_at,
            in_flight + size,
            self.lost,
            self.delivered <= self._app_limited_until,
        )

    def on_app_limited(self, in_flight: int) -> None:
        """There is nothing more to send: what is in flight measures the application."""
        self._app_limited_until = max(self.delivered + in_flight, 1)

    def on_lost(self, size: int) -> None:
        """Bytes were declared lost."""
        self.lost += size

    def sample(
        self, newest: SentRun, acked: int, now: float, min_rtt_s: float | None
    ) -> RateSample:
        """Count acknowledged bytes and return the rate.

        Args:
            newest: The newest of the packets acknowledged.
            acked: Bytes of all of them.
            now: The present.
            min_rtt_s: The shortest round trip; no sample is shorter than that.
        """
        self.delivered += acked
        self._delivered_at = now
        self._first_sent_at = newest.sent_at
        state = newest.state
        interval_s = max(newest.sent_at - state.first_sent_at, now - state.delivered_at)
        if min_rtt_s is not None and interval_s < min_rtt_s:
            interval_s = 0.0
        return RateSample(
            self.delivered - state.delivered,
            interval_s,
            self.delivered,
            state.delivered,
            state.in_flight,
            self.lost - state.lost,
            state.is_app_limited,
        )


class DeliveryRate:
    """An average of acknowledged bytes per second, one sample per round trip."""

    __slots__ = ("_size", "_started_at", "bytes_per_s")

    def __init__(self) -> None:
        """Start without a sample: the rate is 0."""
        self.bytes_per_s = 0.0
        self._size = 0
        self._started_at: float | None = None

    def add(self, size: int, *, now: float, interval_s: float) -> None:
        """Count acknowledged bytes; an interval lasts `interval_s` or 20 ms."""
        if self._started_at is None:
            self._started_at = now
        self._size += size
        elapsed = now - self._started_at
        if elapsed < max(interval_s, _MIN_INTERVAL_S):
            return
        rate = self._size / elapsed
        gain = _GAIN if self.bytes_per_s else 1.0
        self.bytes_per_s += (rate - self.bytes_per_s) * gain
        self._size = 0
        self._started_at = now
