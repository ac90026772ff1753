"""How long the NAT in front of us lets somebody in whom we sent nothing: measured.

Owns the search for the longest silence that is safe. Refuses to know how it is found
out whether somebody still gets in (`docs/protocols/introductions.md` section 8), and
who it is.
"""

import enum
import math
from dataclasses import dataclass

# A silence is measured by timers: it ends a little before or after it should.
_TIMER_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingLifetimeConfig:
    """Seconds and factors, each with its reason.

    Attributes:
        start_s: below the 30 s after which the strictest of 34 home gateways measured
            forgot a mapping (Hätönen et al., IMC 2010, figure 3).
        cap_s: what RFC 4787 REQ-5 demands of a NAT; and whoever is left by an
            introducer has to notice some time.
        floor_s: no NAT was ever found to be stricter; more often is chatter.
        growth: from one step to the next. Three introducers are asked in turn, so when
            one was not heard for 1.5 steps the other two were within the last step,
            which is known to be safe: one of them always gets in.
        resolution: bounds this close to each other are good enough.
        margin_s: what a packet that got lost and was sent again may be late.
        recheck_s: a router may be exchanged, or set up anew, without our noticing.
        search_again_s: a single loss may have been another packet's; and people change
            their routers.
    """

    start_s: float = 25.0
    cap_s: float = 120.0
    floor_s: float = 10.0
    growth: float = 1.5
    resolution: float = 1.1
    margin_s: float = 1.5
    recheck_s: float = 1800.0
    search_again_s: float = 21_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingLifetimeView:
    """What is known.

    Attributes:
        interval_s: the silence allowed now.
        survived_s: the longest silence after which somebody got in; None: none tried.
        lost_s: the shortest after which nobody did; None: it never came to that.
        is_settled: whether the search is over.
        probes: how often it was tried, with an outcome.
        losses: ... and nobody got in.
    """

    interval_s: float
    survived_s: float | None
    lost_s: float | None
    is_settled: bool
    probes: int
    losses: int


class _State(enum.Enum):
    SEARCHING = enum.auto()
    SETTLED = enum.auto()


class BindingLifetime:
    """The search; one for each network that the node is in."""

    def __init__(self, config: BindingLifetimeConfig | None = None) -> None:
        self._config = config or BindingLifetimeConfig()
        self._probes = self._losses = 0
        self.restart()

    def restart(self) -> None:
        """Begin anew: there is another NAT in front of us, or none."""
        self._state = _State.SEARCHING
        self._safe_s = self._trying_s = self._config.start_s
        self._survived_s: float | None = None
        self._lost_s = math.inf
        self._recheck_at = self._search_again_at = math.inf

    @property
    def interval_s(self) -> float:
        """The silence allowed now; while searching, the one that is tried."""
        if self._state is _State.SEARCHING:
            return self._trying_s
        config = self._config
        # What we begin with has its margin already.
        least_s = min(self._safe_s, config.start_s)
        return max(least_s, self._safe_s - config.margin_s)

    @property
    def safe_s(self) -> float:
        """The silence that others may rely on, who find out nothing themselves."""
        if self._state is _State.SEARCHING:
            return max(
                min(self._safe_s, self._config.start_s),
                self._safe_s - self._config.margin_s,
            )
        return self.interval_s

    def is_probe_due(self, silence_s: float, now: float) -> bool:
        """Whether the end of this silence is to be used to see who gets in."""
        if self._state is _State.SETTLED and now >= self._search_again_at:
            self._lost_s = math.inf
            self._go_on(now)
        if silence_s < self.interval_s - _TIMER_S:
            return False
        return self._state is _State.SEARCHING or now >= self._recheck_at

    def survived(self, silence_s: float, now: float) -> None:
        """Somebody got in after so much silence."""
        self._probes += 1
        self._survived_s = max(self._survived_s or 0.0, silence_s)
        self._recheck_at = now + self._config.recheck_s
        if self._state is _State.SEARCHING:
            safe_s = min(silence_s, self._config.cap_s)
            self._safe_s = max(self._safe_s, safe_s)
            self._go_on(now)

    def lost(self, silence_s: float, now: float) -> None:
        """Nobody got in after so much silence: fall back at once."""
        self._probes += 1
        self._losses += 1
        config = self._config
        self._lost_s = min(self._lost_s, silence_s)
        if silence_s <= self._safe_s + config.margin_s:
            # What was safe is not: another router, or its table is full.
            self._safe_s = max(config.floor_s, silence_s / config.growth)
            self._survived_s = None
        self._go_on(now)

    def view(self) -> BindingLifetimeView:
        """What is known."""
        return BindingLifetimeView(
            interval_s=self.interval_s,
            survived_s=self._survived_s,
            lost_s=self._lost_s if self._lost_s < math.inf else None,
            is_settled=self._state is _State.SETTLED,
            probes=self._probes,
            losses=self._losses,
        )

    def _go_on(self, now: float) -> None:
        """Choose the silence to try next, or settle on the one that is safe."""
        config = self._config
        is_bounded = self._lost_s <= self._safe_s * config.resolution
        if is_bounded or self._safe_s >= config.cap_s:
            self._state = _State.SETTLED
            self._recheck_at = now + config.recheck_s
            self._search_again_at = now + config.search_again_s
            return
        self._state = _State.SEARCHING
        if self._survived_s is None:
            # Of what we fell back to nothing is known yet.
            self._trying_s = self._safe_s
            return
        higher_s = min(self._safe_s * config.growth, config.cap_s)
        if self._lost_s < math.inf:
            higher_s = min(higher_s, (self._safe_s + self._lost_s) / 2)
        self._trying_s = higher_s
