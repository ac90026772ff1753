"""How large a packet the path carries: DPLPMTUD (RFC 8899); sends nothing itself.

Sizes are whole packets, which are UDP payloads. 1200 bytes are the base size: every
path has to carry them. Larger ones are tried with probes that carry no data, one at a
time, and only while bulk data flows: a small connection gains nothing from a large
packet, and whoever sends less than 128 KiB would pay more for probes than they save.
"""

import enum
from typing import Final

BASE_SIZE: Final = 1200
"""BASE_PLPMTU: what a path is taken to carry untested (RFC 9000 §14)."""
MAX_SIZE: Final = 65_507
"""The longest UDP payload over IPv4."""
MAX_SIZE_IPV6: Final = 65_488
"""What Linux's loopback leaves to UDP over IPv6: its link carries 65,536 bytes."""

MAX_CARRIED_SIZE: Final = 1443
"""What Ethernet leaves over IPv6 to a datagram in a relay's frame, 9 bytes less."""

# What common links leave to UDP: IPv6's minimum of 1280, tunnels of 1400 and 1420,
# PPPoE's 1492, Ethernet's 1500, twice and four times a kilobyte, jumbo frames of 9000.
# The two of a link are its IPv6 and its IPv4 payload.
_LADDER: Final = (
    1232,
    1252,
    1352,
    1372,
    1392,
    1432,
    1444,
    1452,
    1464,
    1472,
    2020,
    4068,
    8952,
    8972,
)
# Most paths of the Internet end here, so it is asked first.
_ETHERNET = 1472
# Between two rungs, a size is tried only when half as much again could be gained.
_WORTHWHILE = 1.5
# RFC 8899 §5.1.2: MAX_PROBES; one probe may be lost to something else.
_MAX_PROBES = 3
# Bulk bytes before the first probe.
_START_AFTER = 128 * 1024
# Bulk bytes for each byte of a probe: a search takes an eighth of the traffic at most.
_BULK_PER_PROBE = 8
# RFC 8899 §5.1.1: PMTU_RAISE_TIMER, after which a larger size is tried again, and
# CONFIRMATION_TIMER, after which a size that no packet proved is proved by a probe.
_RAISE_S = 600.0
_CONFIRM_S = 30.0
# Large packets lost in a row, with none sent later that arrived: at 10 % random loss
# one stretch in 10^8 looks like this.
_BLACK_HOLE_LOSSES = 8


class SearchState(enum.Enum):
    """Where the search is (RFC 8899 §5.2).

    BASE: nothing was tried yet. SEARCHING: a size above the present one may pass.
    COMPLETE: none does, until the raise timer is over. DISABLED: the configuration
    allows no more than the base size.
    """

    DISABLED = "disabled"
    BASE = "base"
    SEARCHING = "searching"
    COMPLETE = "complete"


class MtuSearch:
    """The search on one path, and the watch over what it found."""

    __slots__ = (
        "_bulk",
        "_carries_small",
        "_ceiling",
        "_confirmed",
        "_confirmed_at",
        "_doubted",
        "_failures",
        "_losses",
        "_maximum",
        "_newest_acked",
        "_probe",
        "_raise_at",
        "black_holes",
        "probes_sent",
        "state",
    )

    def __init__(self, maximum: int) -> None:
        """Start at the base size; `maximum` is the largest packet to try for."""
        self.state = SearchState.BASE if maximum > BASE_SIZE else SearchState.DISABLED
        self.probes_sent = 0
        self.black_holes = 0
        self._maximum = min(maximum, MAX_SIZE)
        self._confirmed = BASE_SIZE
        self._confirmed_at = 0.0
        # The smallest size that does not pass.
        self._ceiling = self._maximum + 1
        # The size of the probe that is under way, 0 for none, and its failures so far.
        self._probe = 0
        self._failures = 0
        self._bulk = 0
        self._raise_at = 0.0
        # Base size for now: a timeout may mean that large packets vanish. They do when
        # small ones are answered and a probe of the confirmed size is not.
        self._doubted = False
        self._carries_small = False
        self._losses = 0
        self._newest_acked = -1

    @property
    def size(self) -> int:
        """How large packets may be now."""
        return BASE_SIZE if self._doubted else self._confirmed

    @property
    def may_probe(self) -> bool:
        """Whether ``next_probe`` may want one; false saves the call."""
        return self._bulk >= _START_AFTER or self._doubted

    def on_bulk_sent(self, size: int) -> None:
        """So many bytes of full packets left on this path."""
        self._bulk += size

    def next_probe(self, now: float, window: int) -> int:
        """Return the size of the probe that should leave now, 0 for none.

        Args:
            now: The present.
            window: The congestion window: a probe is no larger.
        """
        if self._doubted:
            return self._confirmed if self._carries_small and not self._probe else 0
        if not self.may_probe or self._probe:
            return 0
        if self.state is SearchState.DISABLED:
            return 0
        if self.state is SearchState.COMPLETE and now >= self._raise_at:
            self._ceiling = self._maximum + 1
            self.state = SearchState.SEARCHING
        size = self._wanted(now)
        return size if size <= window and self._bulk >= _BULK_PER_PROBE * size else 0

    def on_probe_sent(self, size: int) -> None:
        """A probe of this size left."""
        self._probe = size
        self.probes_sent += 1
        # Only what flows from now on pays for the next one.
        self._bulk = max(self._bulk - _BULK_PER_PROBE * size, _START_AFTER)
        if self.state is SearchState.BASE:
            self.state = SearchState.SEARCHING

    def on_probe_answered(self, size: int, now: float) -> None:
        """A probe of this size arrived; also when it had been given up."""
        if size == self._probe:
            self._probe = self._failures = 0
        if size < self._confirmed or size > self._maximum:
            return
        self._confirmed, self._confirmed_at = size, now
        self._doubted = False
        self._ceiling = max(self._ceiling, size + 1)
        if self.state is SearchState.SEARCHING:
            self._complete_if_done(now)

    def on_probe_lost(self, now: float) -> None:
        """The probe under way was not answered in time."""
        size, self._probe = self._probe, 0
        if not size:
            return
        self._failures += 1
        if self._failures >= _MAX_PROBES:
            self.on_too_big(size, now)

    def on_too_big(self, size: int, now: float) -> None:
        """Packets of this size do not pass: probes failed, or our system said so."""
        if size == self._probe:
            self._probe = 0
        self._failures = 0
        if size <= BASE_SIZE or self.state is SearchState.DISABLED:
            return
        self._ceiling = min(self._ceiling, size)
        if size <= self._confirmed:
            self._on_black_hole(now)
        else:
            self._complete_if_done(now)

    def on_acked(self, newest: int, size: int, now: float) -> None:
        """Packets of this size arrived, `newest` being the highest number."""
        if size <= BASE_SIZE:
            self._carries_small = self._doubted
            return
        self._newest_acked = max(self._newest_acked, newest)
        self._losses = 0
        if size >= self._confirmed:
            self._confirmed_at = now
            self._doubted = False

    def on_lost(self, first: int, stop: int, size: int, now: float) -> None:
        """Packets ``[first, stop)`` of this size were declared lost."""
        if size <= BASE_SIZE or self._confirmed == BASE_SIZE:
            return
        self._losses += max(stop - max(first, self._newest_acked + 1), 0)
        if self._losses >= _BLACK_HOLE_LOSSES:
            self._on_black_hole(now)

    def on_timeout(self) -> None:
        """Nothing came back for a probe timeout: send small packets until one does."""
        if self._confirmed > BASE_SIZE and not self._doubted:
            self._doubted = True
            self._carries_small = False

    def _on_black_hole(self, now: float) -> None:
        self.black_holes += 1
        self._ceiling = min(self._ceiling, self._confirmed)
        self._fall(now)

    def _fall(self, now: float) -> None:
        """Go back to the base size; search again below the size that failed."""
        self._confirmed = BASE_SIZE
        self._doubted = False
        self._losses = self._failures = self._probe = 0
        self._bulk = 0
        self.state = SearchState.SEARCHING
        self._complete_if_done(now)

    def _wanted(self, now: float) -> int:
        if self.state is not SearchState.COMPLETE:
            return self._next_size()
        is_stale = now - self._confirmed_at >= _CONFIRM_S
        return self._confirmed if is_stale else 0

    def _complete_if_done(self, now: float) -> None:
        if not self._next_size():
            self.state = SearchState.COMPLETE
            self._raise_at = now + _RAISE_S

    def _next_size(self) -> int:
        """Return the size to try next, 0 when nothing worth trying is left."""
        low, ceiling, maximum = self._confirmed, self._ceiling, self._maximum
        if ceiling > maximum:
            top = maximum if maximum > low else 0
            return _ETHERNET if low < _ETHERNET < maximum else top
        rungs = [rung for rung in _LADDER if low < rung < ceiling]
        if _ETHERNET in rungs:
            return _ETHERNET
        if rungs:
            return rungs[len(rungs) // 2]
        if ceiling > low * _WORTHWHILE:
            return int((low * ceiling) ** 0.5)
        return 0
