"""The round trip of a path: average, variation, minimum (RFC 6298, RFC 9002 §5)."""

from opnode.protocols.rudp.frames import MAX_ACK_DELAY_S

# RFC 9002 §6.1.2: timers are not worth more than this.
GRANULARITY_S = 0.001


class RttEstimator:
    """Smoothed round trip and its variation (RFC 6298, with RFC 9002 §5)."""

    __slots__ = (
        "_initial",
        "latest",
        "max_ack_delay_s",
        "minimum",
        "smoothed",
        "variation",
    )

    def __init__(self, initial_s: float) -> None:
        """Assume a round trip until the first measurement."""
        self._initial = initial_s
        # The longest that the peer may hold an acknowledgement back.
        self.max_ack_delay_s = MAX_ACK_DELAY_S
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
        delay = min(ack_delay_s, self.max_ack_delay_s)
        adjusted = sample_s - delay if sample_s >= self.minimum + delay else sample_s
        deviation = abs(self.smoothed - adjusted)
        self.variation += (deviation - self.variation) / 4
        self.smoothed += (adjusted - self.smoothed) / 8

    @property
    def shortest_s(self) -> float:
        """The shortest round trip measured, or what is assumed before there is one."""
        return self.smoothed if self.minimum is None else self.minimum

    @property
    def probe_timeout_s(self) -> float:
        """How long to wait for any acknowledgement (RFC 9002 §6.2.1)."""
        spread = max(4 * self.variation, GRANULARITY_S)
        return self.smoothed + spread + self.max_ack_delay_s

    @property
    def longest_s(self) -> float:
        """The newest round trip or the average, whichever is longer."""
        return max(self.smoothed, self.latest or 0.0)
