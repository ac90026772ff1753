"""Do introductions succeed behind a NAT with room for few sessions?

Everybody is behind a port-restricted box with 64 places and a timer of 30 seconds that
refuses a new session when it is full. Random pairs call each other, some of them for
the first time: a lookup, an introduction, the checks and the other side's answers all
take places.
"""

import dataclasses
from typing import Annotated, ClassVar, Final

import trio

from opnode.node.config import NodeConfig
from opnode.node.node import OverlayNode
from opnode.testing.nat_behaviour import PRESETS, Overflow
from opnode.testing.overlay import Overlay
from simulations.backends.real import OverlayScenario
from simulations.introductions import Calls, call, calls_of, take_calls
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_PLACES: Final = 64
_TIMEOUT_S: Final = 30.0
_SETTLE_S: Final = 120.0
_SUCCESS: Final = 0.999


class NatTableFigures(Figures, frozen=True, kw_only=True):
    """``first``: calls of a pair that never met; ``later``: all other calls.

    ``refused``: datagrams that found no place; ``sessions_max``: most at once in a box.
    """

    first: Calls
    later: Calls
    refused: int
    sessions_max: int


class NatTableScenario(OverlayScenario[NatTableFigures], frozen=True, kw_only=True):
    """``calls`` between ``users``, ``pause_s`` apart on average, all together.

    ``drops_oldest``: a full box forgets in place of refusing. ``few_bindings``: servers
    look up for the users.
    """

    name: ClassVar[str] = "nat-table"
    question: ClassVar[str] = (
        "Do introductions succeed behind a NAT with room for 64 sessions?"
    )
    expected: ClassVar[str] = (
        "At least 99.9 %, because a user needs three bindings and one for each call."
    )

    servers: Annotated[int, parameter("Servers", low=1, high=1000)] = 30
    users: Annotated[
        int, parameter("Users, each behind a NAT of its own", low=2, high=1000)
    ] = 20
    calls: Annotated[int, parameter("Calls, all together", low=1)] = 1000
    pause_s: Annotated[
        float,
        parameter(
            "Between two calls",
            unit="s",
            low=0,
            high=86_400,
            drawn="mean of an exponential",
        ),
    ] = 2.0
    places: Annotated[int, parameter("Sessions that a NAT has room for", low=1)] = (
        _PLACES
    )
    drops_oldest: Annotated[
        bool,
        parameter(
            "A full NAT forgets its oldest session in place of refusing a new one"
        ),
    ] = False
    few_bindings: Annotated[bool, parameter("Servers look up for the users")] = False

    async def measure(self, overlay: Overlay, run: Run) -> NatTableFigures:
        """Open the users, let them call, count."""
        overflow = Overflow.DROP_OLDEST if self.drops_oldest else Overflow.REFUSE_NEW
        behaviour = dataclasses.replace(
            PRESETS["port"],
            timeout_s=_TIMEOUT_S,
            max_sessions=self.places,
            overflow=overflow,
        )
        config = NodeConfig(few_bindings=self.few_bindings)
        users = []
        for number in range(self.users):
            run.progress(number, self.users, "users")
            user = await overlay.user(behind=behaviour, config=config)
            overlay.start_soon(take_calls, user)
            users.append(user)
        await trio.sleep(_SETTLE_S)
        first, later = await self._call(overlay, users)
        tables = [overlay.nat_of(user).statistics().table for user in users]
        both = calls_of(first + later)
        return NatTableFigures(
            met=both.success >= _SUCCESS,
            first=calls_of(first),
            later=calls_of(later),
            refused=sum(table.refused for table in tables),
            sessions_max=max(table.most_sessions for table in tables),
        )

    async def _call(
        self, overlay: Overlay, users: list[OverlayNode]
    ) -> tuple[list[float | None], list[float | None]]:
        """The seconds of first calls, and of all others."""
        rng = overlay.rng("calls")
        first: list[float | None] = []
        later: list[float | None] = []
        met: set[frozenset[OverlayNode]] = set()

        async def one(caller: OverlayNode, callee: OverlayNode) -> None:
            pair = frozenset((caller, callee))
            seconds = later if pair in met else first
            met.add(pair)
            seconds.append(await call(caller, callee.peer_id))

        async with trio.open_nursery() as nursery:
            for _ in range(self.calls):
                await trio.sleep(rng.expovariate(1 / self.pause_s))
                caller, callee = rng.sample(users, 2)
                nursery.start_soon(one, caller, callee)
        return first, later
