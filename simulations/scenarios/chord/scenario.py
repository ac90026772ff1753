"""What does a Chord ring cost firewalled users, and when does it collapse?

Open Peer's authors dropped Chord because firewalled peers broke the ring and because of
its chatter. Here the same users, with the same comings and goings, NATs and calls, live
twice: as members of a ring (`ring`, over `bindings`) and as leaves of the shipped
overlay (`introduced`). A call is an introduction that reaches the callee; it is tried
again once, a second later. Nobody is called in the first two minutes after coming.
"""

import random
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final

from opnode.core.errors import ConfigError
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter
from simulations.scenarios.chord.bindings import Reach
from simulations.scenarios.chord.both import OurWorld, RingRules, RingWorld
from simulations.scenarios.chord.ring import Duties
from simulations.scenarios.chord.users import Census, populate
from simulations.scenarios.chord.worlds import Plan, WorldFigures

_LEAST_OPEN: Final = 3
_OUR_SUCCESS: Final = 0.999


class ChordFigures(Figures, frozen=True, kw_only=True):
    """Both worlds; ``met``: ours reaches 99.9 % of the callees.

    Attributes:
        ring_right: share of members whose first successor is the next one that is
            there, mean over the minutes.
        ring_out: share of users that are in no ring, mean.
        hops_mean: to the member who names the callee, in lookups for calls.
        joins: ... again, of those who had lost everybody, included.
        impossible: links that two NATs do not allow and no relay made up for.
        chatter_ratio: packets of a firewalled user in the ring, to one of ours.
    """

    ring: WorldFigures
    ours: WorldFigures
    ring_right: float
    ring_out: float
    hops_mean: float
    joins: int
    impossible: int
    chatter_ratio: float


class ChordScenario(Scenario[ChordFigures], frozen=True, kw_only=True):
    """A ring of firewalled peers beside our overlay."""

    name: ClassVar[str] = "chord"
    question: ClassVar[str] = (
        "What does a Chord ring of firewalled users cost, and when does it collapse?"
    )
    expected: ClassVar[str] = (
        "A member keeps about 2 (log2 N + successors) bindings open, so packets grow"
        " with log N and homes overflow a table of 64; a leaf of ours keeps three."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.EVENT,)

    backend: Backend = Backend.EVENT
    users: Annotated[int, parameter("Users at any time", low=8, high=200_000)] = 500
    firewalled: Annotated[
        float, parameter("Homes behind a NAT", unit="share", low=0.0, high=0.999)
    ] = 0.7
    home: Annotated[int, parameter("Users behind one NAT", low=1, high=100)] = 1
    places: Annotated[
        int, parameter("Sessions that a NAT has room for; 0: any number", low=0)
    ] = 0
    reach: Annotated[Reach, parameter("How the ring reaches members behind NATs")] = (
        Reach.PUNCHED
    )
    hours: Annotated[
        float, parameter("Virtual time that is measured", unit="h", low=0.01, high=720)
    ] = 1.0
    warm_up_h: Annotated[
        float, parameter("Virtual time before that", unit="h", low=0.0, high=720)
    ] = 0.5
    session_h: Annotated[
        float,
        parameter(
            "Scale of the sessions",
            unit="h",
            low=0.01,
            high=8760,
            drawn="Weibull, shape 0.608; 3.66 h is what was measured in the field",
        ),
    ] = 3.66
    calls_per_h: Annotated[
        float, parameter("Calls that each user makes", unit="1/h", low=0.0, high=60)
    ] = 2.0
    successors: Annotated[
        int, parameter("Length of the ring's lists of successors", low=1, high=64)
    ] = 4
    stabilize_s: Annotated[
        float, parameter("Period of the ring's stabilize", unit="s", low=1, high=3600)
    ] = 120.0
    fix_finger_s: Annotated[
        float,
        parameter("Period of the ring's fix_fingers", unit="s", low=1, high=3600),
    ] = 300.0

    def check(self) -> None:
        """See `Scenario.check`."""
        homes = -(-self.users // self.home)
        is_open = homes - round(self.firewalled * homes)
        if is_open < _LEAST_OPEN:
            raise ConfigError(
                "firewalled",
                f"{is_open} open homes of {homes}",
                f"at least {_LEAST_OPEN} open ones, who introduce the others",
            )

    def perform(self, run: Run) -> Measured[ChordFigures]:
        """Let the same users live in both worlds, one after the other."""
        until_s = (self.warm_up_h + self.hours) * HOUR_S
        census = Census(
            users=self.users,
            firewalled=self.firewalled,
            home=self.home,
            sessions=Sessions(scale_s=self.session_h * HOUR_S),
            until_s=until_s,
        )
        population = populate(census, random.Random(f"{self.seed} users"))
        plan = Plan(
            seed=self.seed,
            places=self.places,
            warm_up_s=self.warm_up_h * HOUR_S,
            until_s=until_s,
            calls_per_s=self.users * self.calls_per_h / HOUR_S,
        )
        ring = RingWorld(plan, population, run, self._rules())
        ours = OurWorld(plan, population, run)
        for world in (ring, ours):
            world.live()
            run.fold(world.loop.digest())
        events = ring.loop.count + ours.loop.count
        return Measured(self._figures(ring, ours), events, 2 * until_s)

    def _rules(self) -> RingRules:
        duties = Duties(
            successors=self.successors,
            stabilize_s=self.stabilize_s,
            fix_finger_s=self.fix_finger_s,
        )
        return RingRules(reach=self.reach, duties=duties)

    def _figures(self, ring: RingWorld, ours: OurWorld) -> ChordFigures:
        members, leaves = ring.figures(), ours.figures()
        ratio = 0.0
        if self.firewalled:
            ratio = members.firewalled.packets_per_s / leaves.firewalled.packets_per_s
        return ChordFigures(
            met=1 - leaves.calls_failed >= _OUR_SUCCESS,
            ring=members,
            ours=leaves,
            ring_right=_mean(ring.right),
            ring_out=_mean(ring.out),
            hops_mean=_mean(ring.hops),
            joins=ring.ring.joins,
            impossible=ring.bindings.impossible,
            chatter_ratio=ratio,
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
