"""Do volunteers stay who leave when they serve more than they accept?

The end that was foretold for overlays: whoever serves has a cost and no gain, so some
leave, the others serve more, and leave too. Here volunteers differ in how many bytes a
second they accept; one that served more in a step leaves with some probability, and
some come back. What users cost is measured on the shipped code as for ``ratio``.

``--limits`` says what servers refuse. ``none``: nothing. ``shipped``: what a node does
whose owner told it nothing (10 000 registrations, 16 kB/s passed on), which is meant
for servers of operators. ``own``: each volunteer's node takes as many registrations as
fit into what it accepts, and the others find room elsewhere, because a busy server
names alternates. ``total``: questions beyond what it accepts stay unanswered, too; that
no shipped node can be told yet, and it is what would be needed. All simplifications are
told in `simulations.people.selfish`.
"""

from typing import Annotated, ClassVar, Final

from opnode.core.errors import ConfigError
from simulations.model.durations import HOUR_S
from simulations.people.costs import measure_costs
from simulations.people.demand import demand, sample_lookups
from simulations.people.selfish import Limits, Step, Village, Volunteers
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

_STAY: Final = 0.8
_SUCCESS: Final = 0.999
_DAY_H: Final = 24.0
_MAX_STEPS: Final = 10_000


class VolunteersFigures(Figures, frozen=True, kw_only=True):
    """Shares of the first volunteers that serve; ``success``: at the first try.

    ``success_worst``: in the worst step. ``over_last``: of the volunteers that served
    in the last step, how many served more than they accept.
    """

    stay_after_day: float
    stay_after_week: float
    stay: float
    over_last: float
    success: float
    success_worst: float
    served_bytes_per_s: float
    seed_bytes_per_s_max: float


class VolunteersScenario(Scenario[VolunteersFigures], frozen=True, kw_only=True):
    """``users`` for ``ratio`` times fewer volunteers, and a few seeds."""

    name: ClassVar[str] = "volunteers"
    question: ClassVar[str] = (
        "Do volunteers stay who leave when they serve more than they accept?"
    )
    expected: ClassVar[str] = (
        "With a limit on everything all stay, but no shipped node has one. With limits "
        "on registrations, or none, hardly any stays: lookups and puts are most of the "
        "load, and each one that leaves loads the others."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.VECTOR,)

    backend: Backend = Backend.VECTOR
    users: Annotated[int, parameter("Users", low=100, high=10**7)] = 20_000
    ratio: Annotated[
        int, parameter("Users for each volunteer at the start", low=1, high=10**5)
    ] = 100
    seeds: Annotated[int, parameter("Servers of operators, who stay", low=3)] = 5
    accepts: Annotated[
        float,
        parameter(
            "That a volunteer accepts",
            unit="B/s",
            low=1,
            high=10**9,
            drawn="median of a log-normal, sigma 1",
        ),
    ] = 8000.0
    limits: Annotated[Limits, parameter("What servers refuse")] = Limits.TOTAL
    days: Annotated[float, parameter("How long", unit="d", low=1, high=3650)] = 28.0
    step_h: Annotated[
        float, parameter("Between two looks", unit="h", low=0.1, high=24)
    ] = 6.0
    leaves: Annotated[
        float,
        parameter(
            "Leave after a step in which they served more", unit="share", low=0, high=1
        ),
    ] = 0.5
    returns_per_day: Annotated[
        float,
        parameter("Of those that left", unit="share", low=0, high=1, drawn="daily"),
    ] = 0.05
    calls_per_hour: Annotated[
        float, parameter("Of each user, by day and night", unit="1/h", low=0, high=3600)
    ] = 1.0

    def check(self) -> None:
        """See `Scenario.check`."""
        if self.users // self.ratio < 1:
            raise ConfigError("--ratio", str(self.ratio), f"at most {self.users}")
        if self.days * _DAY_H / self.step_h > _MAX_STEPS:
            limit = f"at most {_MAX_STEPS} steps in all"
            raise ConfigError("--step-h", str(self.step_h), limit)

    def perform(self, run: Run) -> Measured[VolunteersFigures]:
        """See `Scenario.perform`."""
        costs = measure_costs(self.seed)
        servers = self.users // self.ratio + self.seeds
        needed = demand(costs, sample_lookups(servers, run.rng))
        village = Village(
            users=self.users,
            volunteers=self.users // self.ratio,
            seeds=self.seeds,
            accepts_median=self.accepts,
            leaves=self.leaves,
            returns=self.returns_per_day * self.step_h / _DAY_H,
            calls_per_s=self.calls_per_hour / HOUR_S,
            step_h=self.step_h,
        )
        volunteers = Volunteers(village, needed, self.limits, run.generator)
        steps = []
        count = round(self.days * _DAY_H / self.step_h)
        for number in range(count):
            step = volunteers.step()
            steps.append(step)
            at = (number + 1) * self.step_h / _DAY_H
            run.row("steps", day=at, **step._asdict())
            run.fold(repr(step).encode())
            run.progress(at, self.days, "days")
        seconds = self.days * _DAY_H * HOUR_S
        return Measured(self._judged(steps), count * self.users, seconds)

    def _judged(self, steps: list[Step]) -> VolunteersFigures:
        per_day = _DAY_H / self.step_h
        last = steps[-1]
        success = sum(one.success for one in steps) / len(steps)
        return VolunteersFigures(
            met=last.stay >= _STAY and success >= _SUCCESS,
            stay_after_day=steps[min(round(per_day), len(steps)) - 1].stay,
            stay_after_week=steps[min(round(7 * per_day), len(steps)) - 1].stay,
            stay=last.stay,
            over_last=last.over,
            success=success,
            success_worst=min(one.success for one in steps),
            served_bytes_per_s=last.served_bytes_per_s,
            seed_bytes_per_s_max=max(one.seed_bytes_per_s_max for one in steps),
        )
