"""Do records survive a day among ten thousand nodes that come and go, ownerless?

On events, so that the figures measured in the field can be met in number: 10 000
records for 24 hours, the closest set after 36. The owners put each record once and are
gone. The engine's docstring (`simulations.backends.event.copies`) tells what it leaves
out; the `churn` scenario is the same question to the shipped code, among few nodes.
"""

from typing import Annotated, ClassVar, Final

import msgspec
import numpy as np

from simulations.backends.event.copies import CarePolicy, Copies, Look
from simulations.backends.event.lives import Lives
from simulations.backends.event.loop import EventLoop
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

_SESSIONS: Final = Sessions()
_ROUND_S: Final = 60.0
_SHIPPED_K: Final = 20
_OVERLAP: Final = 0.8
_DRIFT: Final = 14
"""Of the 20 first holders, those still in the closest set after 36 hours (field)."""
_SIGMAS: Final = 5.0


class SurvivalFigures(Figures, frozen=True, kw_only=True):
    """What is left at the end, and what the field's figures are compared with.

    Attributes:
        lost: records without a holder that is there, at the end.
        lost_expected: where holders do nothing, by 1 - C^k; -1 where they do.
        unfound_most: records that none of the k closest held, at the worst full hour.
        holders_min, holders_mean: of a record, at the end.
        overlap_1h, overlap_10h, overlap_end: of the nodes that a reader asks, the k
            closest, those that hold the record.
        drift_1h, drift_10h, drift_36h: of the k first holders, those among the k
            closest; the median of all records. -1 where the run was shorter.
        puts_per_record_h: times that some holder put it again.
        stores_per_node_s: requests for that, of all records, by a node.
        given_per_record_h: copies that newcomers were given.
    """

    lost: int
    lost_expected: float
    unfound_most: int
    holders_min: int
    holders_mean: float
    overlap_1h: float
    overlap_10h: float
    overlap_end: float
    drift_1h: float
    drift_10h: float
    drift_36h: float
    puts_per_record_h: float
    stores_per_node_s: float
    given_per_record_h: float


class SurvivalScenario(Scenario[SurvivalFigures], frozen=True, kw_only=True):
    """Nodes come and go by the field's law; see the engine for what is left out."""

    name: ClassVar[str] = "survival"
    question: ClassVar[str] = (
        "Do records survive a day without their owners among 10 000 nodes?"
    )
    expected: ClassVar[str] = (
        "None is lost, and nineteen of the twenty that a reader asks hold it. Where"
        " holders do nothing, (1 - s)^k of them are: s is the share of nodes that stay."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.EVENT,)

    backend: Backend = Backend.EVENT
    nodes: Annotated[
        int, parameter("Nodes that are there at any time", low=50, high=1_000_000)
    ] = 10_000
    records: Annotated[int, parameter("Records", low=1, high=1_000_000)] = 10_000
    hours: Annotated[
        int,
        parameter(
            "Time after the puts",
            unit="h",
            low=1,
            high=1000,
            drawn="sessions: Weibull, shape 0.608, scale 3.66 h",
        ),
    ] = 24
    k: Annotated[int, parameter("Nodes that a record is put at", low=1, high=64)] = 20
    away_h: Annotated[
        float,
        parameter(
            "Who leaves is back with its id and records after; 0: never, and a new"
            " node comes at once",
            unit="h",
            low=0,
            high=1000,
            drawn="exponential with this mean",
        ),
    ] = 0.0
    careless: Annotated[
        bool, parameter("Holders neither give records to newcomers nor put them again")
    ] = False

    def perform(self, run: Run) -> Measured[SurvivalFigures]:
        """See `Scenario.perform`."""
        horizon_s = self.hours * HOUR_S
        lives = Lives.drawn(
            self.nodes, horizon_s, _SESSIONS, run.generator, self.away_h * HOUR_S
        )
        lives.step(0.0)
        keys = run.generator.integers(0, 1 << 64, self.records, dtype=np.uint64)
        cares = not self.careless
        policy = CarePolicy(k=self.k, gives=cares, puts_again=cares)
        copies = Copies(lives, keys, policy, least_nodes=self.nodes)
        copies.put()
        loop = EventLoop(run.watch)
        looks: dict[int, Look] = {}

        def care(number: int, _: object) -> None:
            times, subjects = copies.step(loop.now)
            loop.note(times, subjects)
            if number * _ROUND_S % HOUR_S == 0:
                hour = int(number * _ROUND_S / HOUR_S)
                looks[hour] = look = copies.look()
                run.progress(hour, self.hours, "hours")
                run.row("records", **self._cells(hour, look))
            if loop.now < horizon_s:
                loop.call_at((number + 1) * _ROUND_S, care, number + 1)

        loop.call_at(_ROUND_S, care, 1)
        loop.run_until(horizon_s)
        run.fold(loop.digest())
        return Measured(self._figures(copies, looks), loop.count, horizon_s)

    def _cells(self, hour: int, look: Look) -> dict[str, float]:
        return {
            "t_h": float(hour),
            "lost": float((look.holders == 0).sum()),
            "unfound": float((look.close == 0).sum()),
            "holders_mean": float(look.holders.mean()),
            "overlap": float(look.close.mean() / self.k),
            "drift_median": float(np.median(look.first)),
            "drift_p10": float(np.quantile(look.first, 0.1)),
        }

    def _figures(self, copies: Copies, looks: dict[int, Look]) -> SurvivalFigures:
        last = looks[self.hours]
        lost = int((last.holders == 0).sum())
        work, record_hours = copies.work, self.records * self.hours
        figures = SurvivalFigures(
            met=True,
            lost=lost,
            lost_expected=self.lost_expected() if self.careless else -1.0,
            unfound_most=max(int((look.close == 0).sum()) for look in looks.values()),
            holders_min=int(last.holders.min()),
            holders_mean=float(last.holders.mean()),
            overlap_1h=self._overlap(looks, 1),
            overlap_10h=self._overlap(looks, 10),
            overlap_end=self._overlap(looks, self.hours),
            drift_1h=_drift(looks, 1),
            drift_10h=_drift(looks, 10),
            drift_36h=_drift(looks, 36),
            puts_per_record_h=work.puts / record_hours,
            stores_per_node_s=work.stores / self.nodes / (self.hours * HOUR_S),
            given_per_record_h=work.given / record_hours,
        )
        return msgspec.structs.replace(figures, met=self._is_met(figures))

    def _is_met(self, found: SurvivalFigures) -> bool:
        if self.careless:
            # Whoever leaves takes about k records of one neighbourhood along.
            sd = np.sqrt(found.lost_expected * max(1.0, self._records_per_place()))
            return bool(abs(found.lost - found.lost_expected) <= _SIGMAS * sd + 1)
        if found.lost and self.k >= _SHIPPED_K:
            return False
        if self.away_h and self.k == _SHIPPED_K and 0 <= found.drift_36h < _DRIFT:
            return False
        return not 0 <= found.overlap_10h < _OVERLAP

    def _records_per_place(self) -> float:
        return self.records * self.k / self.nodes

    def lost_expected(self) -> float:
        """Records whose k holders are all gone, each alike: 1 - C^k is the rest."""
        stays = _SESSIONS.residual_survival(self.hours * HOUR_S)
        return float(self.records * (1 - stays) ** self.k)

    def _overlap(self, looks: dict[int, Look], hour: int) -> float:
        look = looks.get(hour)
        return float(look.close.mean() / self.k) if look else -1.0


def _drift(looks: dict[int, Look], hour: int) -> float:
    look = looks.get(hour)
    return float(np.median(look.first)) if look else -1.0
