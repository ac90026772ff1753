"""Do users stay reachable behind NATs that forget soon, and what does it cost them?

Behind port-restricted boxes with timers of 30, 60 and 180 seconds, which nothing from
outside refreshes, half of the users are called now and then and half are left alone.
Calls to one user are further apart than any timer, so that none of them keeps a mapping
open; when one fails, it is tried again until one succeeds.
"""

import dataclasses
import statistics
from typing import Annotated, ClassVar, Final

import msgspec
import trio

from opnode.core.errors import ConfigError
from opnode.node.config import NodeConfig, Role
from opnode.node.node import OverlayNode
from opnode.testing.nat_behaviour import PRESETS
from opnode.testing.overlay import Overlay
from simulations.backends.real import OverlayScenario
from simulations.introductions import Calls, call, calls_of, take_calls
from simulations.model.durations import HOUR_S, NAT_TIMERS_S
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_APART_S: Final = (240.0, 480.0)
"""Between two calls to one user: longer than the slowest timer."""
_AGAIN_S: Final = 1.0
_WARM_UP_S: Final = 300.0
"""Users join and learn how long their mappings live; then the figures begin."""
_PACKETS_PER_S: Final = 0.3
_BYTES_PER_S: Final = 25.0
_BINDINGS: Final = 3
_SERVER_BYTES_PER_S: Final = 2000.0
_SERVER_USERS: Final = 100


class IdleUsers(msgspec.Struct, frozen=True, kw_only=True):
    """What users cost whom nobody calls, both ways, on average and at worst.

    Bytes are those inside of UDP; 28 more a packet are on the wire. Bindings are the
    sessions in the box, counted once a minute: usually, on average, and at most, as
    every sixteen minutes eight holders are sent the presence anew.
    """

    packets_per_s: float
    packets_per_s_max: float
    bytes_per_s: float
    bytes_per_s_max: float
    bindings_median: float
    bindings_mean: float
    bindings_max: int


class TimerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was found behind boxes with one timer.

    ``unreachable_s_max``: from a call that failed to the next one that did not.
    """

    timer_s: float
    calls: Calls
    unreachable_s_max: float
    idle: IdleUsers


class NatTimersFigures(Figures, frozen=True, kw_only=True):
    """One figure for each timer, and the servers' cost, calls included.

    ``registrations_max``: users whom the busiest server introduced, at the end.
    ``server_bytes_per_s_max``: both ways, of the server that had most to do.
    """

    timers: tuple[TimerFigures, ...]
    registrations_max: int
    server_bytes_per_s_max: float


class NatTimersScenario(OverlayScenario[NatTimersFigures], frozen=True, kw_only=True):
    """``users`` for each timer; ``hours`` of virtual time; ``kind`` of NAT."""

    name: ClassVar[str] = "nat-timers"
    question: ClassVar[str] = (
        "Do users stay reachable behind NATs that forget after 30, 60 or 180 seconds?"
    )
    expected: ClassVar[str] = (
        "Always: the keep-alive follows the measured lifetime of a binding."
    )

    users: Annotated[int, parameter("Users for each timer", low=2, high=1000)] = 8
    hours: Annotated[
        float, parameter("Time after the start", unit="h", low=0, high=1000)
    ] = 2.0
    kind: Annotated[str, parameter("Kind of NAT that all users are behind")] = "port"

    def check(self) -> None:
        """See `Scenario.check`."""
        if self.kind not in PRESETS:
            raise ConfigError("--kind", self.kind, "one of " + ", ".join(PRESETS))

    async def measure(self, overlay: Overlay, run: Run) -> NatTimersFigures:
        """Open the users, let the hours pass, count."""
        groups: list[_Group] = []
        for timer_s in NAT_TIMERS_S:
            run.progress(len(groups), len(NAT_TIMERS_S), "groups of users")
            group = _Group(overlay, self.kind, timer_s)
            await group.open(self.users)
            groups.append(group)
        await trio.sleep(_WARM_UP_S)
        ends_at = trio.current_time() + self.hours * HOUR_S
        before = [_traffic(server) for server in overlay.seeds]
        async with trio.open_nursery() as watches:
            for group in groups:
                watches.start_soon(group.watch, ends_at)
        timers = tuple(group.figures() for group in groups)
        period_s = NodeConfig().nat_keepalive_s
        held = [s.statistics().introductions.registered for s in overlay.seeds]
        rates = [
            (_traffic(server)[1] - bytes_before) / (self.hours * HOUR_S)
            for server, (_, bytes_before) in zip(overlay.seeds, before, strict=True)
        ]
        allowed = _SERVER_BYTES_PER_S * max(1.0, max(held) / _SERVER_USERS)
        return NatTimersFigures(
            met=all(_is_met(timer, period_s) for timer in timers)
            and max(rates) <= allowed,
            timers=timers,
            registrations_max=max(held),
            server_bytes_per_s_max=max(rates),
        )


class _Group:
    """The users behind boxes with one timer, and who calls them."""

    def __init__(self, overlay: Overlay, kind: str, timer_s: float) -> None:
        self._overlay = overlay
        self._timer_s = timer_s
        self._behaviour = dataclasses.replace(PRESETS[kind], timeout_s=timer_s)
        self._called: list[OverlayNode] = []
        self._idle: list[OverlayNode] = []
        self._seconds: list[float | None] = []
        self._unreachable_s = 0.0
        self._before: dict[OverlayNode, tuple[int, int]] = {}
        self._bindings: dict[OverlayNode, list[int]] = {}
        self._watched_s = 0.0

    async def open(self, users: int) -> None:
        for number in range(users):
            user = await self._overlay.user(behind=self._behaviour)
            self._overlay.start_soon(take_calls, user)
            (self._idle if number % 2 else self._called).append(user)

    async def watch(self, ends_at: float) -> None:
        """Call some, count what the others send, until then."""
        began_at = trio.current_time()
        self._before = {user: _traffic(user) for user in self._idle}
        with trio.CancelScope(deadline=ends_at):
            async with trio.open_nursery() as nursery:
                for number, user in enumerate(self._called):
                    nursery.start_soon(self._call_now_and_then, user, number)
                nursery.start_soon(self._count_bindings)
        self._watched_s = trio.current_time() - began_at

    async def _call_now_and_then(self, user: OverlayNode, number: int) -> None:
        config = NodeConfig(role=Role.LEAF)
        caller = await self._overlay.user(behind="open", config=config)
        rng = self._overlay.rng(f"calls {self._timer_s} {number}")
        while True:
            await trio.sleep(rng.uniform(*_APART_S))
            began_at = trio.current_time()
            self._seconds.append(await call(caller, user.peer_id))
            if self._seconds[-1] is not None:
                continue
            await _reach_again(caller, user)
            outage_s = trio.current_time() - began_at
            self._unreachable_s = max(self._unreachable_s, outage_s)

    async def _count_bindings(self) -> None:
        self._bindings = {user: [] for user in self._idle}
        while True:
            await trio.sleep(60.0)
            for user, counts in self._bindings.items():
                table = self._overlay.nat_of(user).statistics().table
                counts.append(table.sessions)

    def figures(self) -> TimerFigures:
        """What was found."""
        spent = [
            tuple(
                (after - before) / self._watched_s
                for after, before in zip(
                    _traffic(user), self._before[user], strict=True
                )
            )
            for user in self._idle
        ]
        packets, sizes = zip(*spent, strict=True)
        bindings = [count for counts in self._bindings.values() for count in counts]
        return TimerFigures(
            timer_s=self._timer_s,
            calls=calls_of(self._seconds),
            unreachable_s_max=self._unreachable_s,
            idle=IdleUsers(
                packets_per_s=sum(packets) / len(packets),
                packets_per_s_max=max(packets),
                bytes_per_s=sum(sizes) / len(sizes),
                bytes_per_s_max=max(sizes),
                bindings_median=statistics.median(bindings or [0]),
                bindings_mean=sum(bindings) / max(len(bindings), 1),
                bindings_max=max(bindings, default=0),
            ),
        )


async def _reach_again(caller: OverlayNode, user: OverlayNode) -> None:
    while True:
        await trio.sleep(_AGAIN_S)
        if await call(caller, user.peer_id) is not None:
            return


def _traffic(user: OverlayNode) -> tuple[int, int]:
    """Packets and bytes so far, both ways."""
    seen = user.statistics().traffic.socket
    return seen.datagrams_in + seen.datagrams_out, seen.bytes_in + seen.bytes_out


def _is_met(timer: TimerFigures, period_s: float) -> bool:
    return (
        timer.unreachable_s_max <= period_s
        and timer.idle.packets_per_s <= _PACKETS_PER_S
        and timer.idle.bytes_per_s <= _BYTES_PER_S
        and timer.idle.bindings_median <= _BINDINGS
    )
