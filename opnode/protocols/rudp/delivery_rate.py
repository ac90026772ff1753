"""How fast bytes arrive at the peer, measured by its acknowledgements."""

# Below this the rate would show the kernel's scheduling rather than the path.
_MIN_INTERVAL_S = 0.02
# Newest interval against the average; four intervals make two thirds of it.
_GAIN = 0.25


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
