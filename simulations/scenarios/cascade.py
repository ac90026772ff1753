"""Do users come back when servers die and everybody restarts (Skype, 2007 and 2010)?

In December 2010 a quarter of the super-nodes crashed, all clients restarted at once,
the nodes left shut themselves down under a hundred times their load, and the network
was away for a day; in August 2007 a restart of all clients was enough (``--dead 0``).
Here a share of the servers dies at one instant and every user restarts within half a
minute, without a word, with the keys and the memory of nodes that it had. One minute
after the instant all users are called.

``real`` runs whole nodes. ``event`` (`simulations.people.restart`, which tells what it
simplifies) takes a thousand users a server: a start makes as many requests as that of a
real node was measured to make, against the shipped limits of servers; twenty users for
each server are called. With ``--naive`` servers have no limits and name no others,
users pause without jitter, and a server ends when it has ``--shutdown-at`` times its
normal load.
"""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec
import trio

from opnode.core.errors import ConfigError
from opnode.core.ids import PeerId
from opnode.node.config import NodeConfig
from opnode.node.node import OverlayNode
from opnode.node.presence.introducers import INTRODUCERS
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.testing.nat import InsideHost, VirtualNat
from opnode.testing.overlay import Overlay
from simulations.backends.real import OverlayScenario
from simulations.introductions import Calls, call, calls_of, take_calls
from simulations.people.crash import Crashed, Plan, crash
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, parameter

_KINDS: Final = ("port", "port", "port", "full", "full", "addr", "sym", "open")
"""What users are behind, in turn."""
_RESTART_WITHIN_S: Final = 30.0
_BACK_WITHIN_S: Final = 60.0
_SETTLE_S: Final = 180.0
_JOIN_WITHIN_S: Final = 120.0
_SUCCESS: Final = 0.99
_CALLERS: Final = 20
_WATCHED_S: Final = 300.0
_REAL_USERS: Final = 5000
_DOWN_S: Final = 1.0
"""A restart takes a moment."""


class ServerLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The surviving servers at their worst second, and at the end.

    ``requests_per_s_max`` were admitted, ``offered_per_s_max`` came. ``exited``: shut
    themselves down.
    """

    registrations_max: int
    cap: int
    bytes_per_s_max: float
    requests_per_s_max: float
    offered_per_s_max: float
    refused: int
    alive: int
    died: int
    exited: int


class CascadeFigures(Figures, frozen=True, kw_only=True):
    """``after_60s``: users called once, a minute after the instant.

    ``before``: the same before anything happened. ``published``: users that were
    published again within the minute. ``reachable_*``: share of all users that were,
    one of whose introducers lives; ``back_s``: until that was 99 %, by ``event`` only.
    """

    before: Calls
    after_60s: Calls
    after_300s: Calls
    published: int
    reachable_60s: float
    reachable_300s: float
    back_s: float | None
    servers: ServerLoad


class CascadeScenario(OverlayScenario[CascadeFigures], frozen=True, kw_only=True):
    """``users`` of ``servers``, ``dead`` of which die; ``cap`` registrations each.

    A cap of 0 is twice of what each survivor gets on average.
    """

    name: ClassVar[str] = "cascade"
    question: ClassVar[str] = (
        "Do users come back when servers die and everybody restarts at once?"
    )
    expected: ClassVar[str] = (
        "Within a minute 99 % can be called, up to 200 users a server; 1000 take three "
        "minutes and miss the bar. No server is above its cap, none ends; without our "
        "limits and jitter all servers end."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.REAL, Backend.EVENT)

    servers: Annotated[
        int, parameter("Servers before the instant", low=1, high=10_000)
    ] = 10
    users: Annotated[
        int, parameter("Users behind NATs; at most 5000 on real", low=1, high=10**6)
    ] = 200
    dead: Annotated[
        float,
        parameter("Servers that die at the instant", unit="share", low=0, high=0.9),
    ] = 0.3
    cap: Annotated[
        int,
        parameter("Registrations a server takes; 0: twice what a survivor gets", low=0),
    ] = 0

    naive: Annotated[
        bool, parameter("No limits, no alternates, no jitter: as others were")
    ] = False
    shutdown_at: Annotated[
        float,
        parameter(
            "A naive server ends above so much",
            unit="times its normal load",
            low=1,
            high=10**6,
        ),
    ] = 10.0
    start_requests: Annotated[
        int, parameter("Of a user that starts; 0: as many as measured", low=0)
    ] = 0

    def check(self) -> None:
        """See `Scenario.check`."""
        if self.backend is not Backend.REAL:
            return
        if self.users > _REAL_USERS:
            raise ConfigError("--users", str(self.users), f"at most {_REAL_USERS}")
        if self.naive or self.start_requests:
            option = "--naive" if self.naive else "--start-requests"
            raise ConfigError(option, "with real nodes", "--backend event")

    def perform(self, run: Run) -> Measured[CascadeFigures]:
        """See `Scenario.perform`."""
        if self.backend is Backend.REAL:
            return super().perform(run)
        plan = Plan(
            servers=self.servers,
            users=self.users,
            dead=self.dead,
            cap=self.server_config().introducer.max_registrations,
            shutdown_at=self.shutdown_at if self.naive else 0.0,
            start_requests=self.start_requests,
        )
        found = crash(plan, run)
        return Measured(self._judged(found), found.restart.loop.count, _WATCHED_S)

    def _judged(self, found: Crashed) -> CascadeFigures:
        restart = found.restart
        cap = self.server_config().introducer.max_registrations
        died = round(self.servers * self.dead)
        servers = ServerLoad(
            registrations_max=restart.registrations_max,
            cap=cap,
            bytes_per_s_max=restart.bytes_max,
            requests_per_s_max=restart.requests_max,
            offered_per_s_max=restart.offered_max,
            refused=restart.refused,
            alive=restart.alive,
            died=died,
            exited=restart.exited,
        )
        is_within = servers.registrations_max <= cap and not servers.exited
        return CascadeFigures(
            met=found.calls[0].success >= _SUCCESS
            and found.reachable[0] >= _SUCCESS
            and is_within,
            before=calls_of([]),
            after_60s=found.calls[0],
            after_300s=found.calls[1],
            published=found.published,
            reachable_60s=found.reachable[0],
            reachable_300s=found.reachable[1],
            back_s=found.back_s if found.back_s < _WATCHED_S else None,
            servers=servers,
        )

    def server_config(self) -> NodeConfig:
        """What servers are told."""
        survivors = self.servers - round(self.servers * self.dead)
        registrations = INTRODUCERS * (self.users + _CALLERS)
        cap = self.cap or 2 * registrations // max(survivors, 1)
        return NodeConfig(introducer=IntroducerConfig(max_registrations=cap))

    async def measure(self, overlay: Overlay, run: Run) -> CascadeFigures:
        """Open the users, kill, restart, call."""
        with tempfile.TemporaryDirectory() as directory:
            crowd = _Crowd(overlay, pathlib.Path(directory))
            await crowd.open(self.users)
            await trio.sleep(_SETTLE_S)
            before = await crowd.call_all()
            run.progress(1, 3, "rounds of calls")
            dead = round(self.servers * self.dead)
            load = _Load(overlay.seeds[:-dead] if dead else overlay.seeds)
            instant = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.watch)
                for server in overlay.seeds[len(load.servers) :]:
                    nursery.start_soon(overlay.kill, server)
                await crowd.restart_all()
                await trio.sleep_until(instant + _BACK_WITHIN_S)
                published = crowd.published()
                after_60s = await crowd.call_all()
                run.progress(2, 3, "rounds of calls")
                await trio.sleep_until(instant + 5 * _BACK_WITHIN_S)
                after_300s = await crowd.call_all()
                nursery.cancel_scope.cancel()
            cap = self.server_config().introducer.max_registrations
            servers = load.figures(cap, died=dead)
        is_within = servers.registrations_max <= cap
        is_alive = servers.alive == self.servers - dead
        return CascadeFigures(
            met=after_60s.success >= _SUCCESS and is_within and is_alive,
            before=before,
            after_60s=after_60s,
            after_300s=after_300s,
            published=published,
            reachable_60s=after_60s.success,
            reachable_300s=after_300s.success,
            back_s=None,
            servers=servers,
        )


class _Home(NamedTuple):
    """Where a user starts again, and what it is told."""

    nat: VirtualNat
    host: InsideHost
    config: NodeConfig


class _Crowd:
    """The users, and some others who call them."""

    def __init__(self, overlay: Overlay, directory: pathlib.Path) -> None:
        self._overlay = overlay
        self._directory = directory
        self._rng = overlay.rng("crowd")
        self._users: list[OverlayNode] = []
        self._homes: list[_Home] = []

    async def open(self, count: int) -> None:
        overlay = self._overlay
        for number in range(count):
            kind = _KINDS[number % len(_KINDS)]
            config = NodeConfig(
                data_dir=self._directory / str(number),
                # Some know a server that will die.
                bootstrap=tuple(self._rng.sample(overlay.entries, 3)),
            )
            user = await overlay.start_user(kind, config)
            overlay.start_soon(take_calls, user)
            home = _Home(overlay.nat_of(user), overlay.host_of(user), config)
            self._homes.append(home)
            self._users.append(user)
        with trio.fail_after(_JOIN_WITHIN_S):
            for user in self._users:
                await user.wait_published()

    async def restart_all(self) -> None:
        """Restart everybody, each at a random moment of the half minute."""
        async with trio.open_nursery() as restarts:
            for number in range(len(self._users)):
                at_s = self._rng.uniform(0.0, _RESTART_WITHIN_S - _DOWN_S)
                restarts.start_soon(self._restart, number, at_s)

    async def _restart(self, number: int, at_s: float) -> None:
        await trio.sleep(at_s)
        nat, host, config = self._homes[number]
        await self._overlay.kill(self._users[number])
        await trio.sleep(_DOWN_S)
        host.move_to(nat)
        user = await self._overlay.start_user(host, config)
        self._overlay.start_soon(take_calls, user)
        self._users[number] = user

    def published(self) -> int:
        """Users that others can find by now."""
        return sum(bool(user.statistics().introducers) for user in self._users)

    async def call_all(self) -> Calls:
        """Call everybody once from newcomers that know of nobody."""
        config = NodeConfig(bootstrap=tuple(self._overlay.entries[:3]))
        callers = [
            await self._overlay.start_user("open", config) for _ in range(_CALLERS)
        ]
        for caller in callers:
            await caller.wait_joined()
        seconds: list[float | None] = []

        async def call_some(caller: OverlayNode, callees: Sequence[PeerId]) -> None:
            seconds.extend([await call(caller, callee) for callee in callees])

        ids = [user.peer_id for user in self._users]
        async with trio.open_nursery() as nursery:
            for number, caller in enumerate(callers):
                nursery.start_soon(call_some, caller, ids[number::_CALLERS])
        for caller in callers:
            await self._overlay.stop(caller)
        return calls_of(seconds)


class _Load:
    """What the surviving servers do, second by second."""

    def __init__(self, servers: list[OverlayNode]) -> None:
        self.servers = servers
        self._registrations_max = 0
        self._bytes_per_s_max = 0.0
        self._requests_per_s_max = self._offered_per_s_max = 0

    async def watch(self) -> None:
        """Look once a second until cancelled."""
        before = [self._bytes(server) for server in self.servers]
        requests = [self._requests(server) for server in self.servers]
        while True:
            await trio.sleep(1.0)
            later = [self._requests(server) for server in self.servers]
            for (served, limited), (a, b) in zip(requests, later, strict=True):
                admitted, dropped = a - served, b - limited
                self._requests_per_s_max = max(self._requests_per_s_max, admitted)
                offered = admitted + dropped
                self._offered_per_s_max = max(self._offered_per_s_max, offered)
            requests = later
            now = [self._bytes(server) for server in self.servers]
            rate = max(a - b for a, b in zip(now, before, strict=True))
            held = max(s.statistics().introductions.registered for s in self.servers)
            self._bytes_per_s_max = max(self._bytes_per_s_max, rate)
            self._registrations_max = max(self._registrations_max, held)
            before = now

    def figures(self, cap: int, *, died: int) -> ServerLoad:
        """What was seen."""
        statistics = [server.statistics() for server in self.servers]
        return ServerLoad(
            registrations_max=self._registrations_max,
            cap=cap,
            bytes_per_s_max=self._bytes_per_s_max,
            requests_per_s_max=self._requests_per_s_max,
            offered_per_s_max=self._offered_per_s_max,
            refused=sum(one.introductions.refused for one in statistics),
            alive=sum(one.joined for one in statistics),
            died=died,
            exited=sum(not one.joined for one in statistics),
        )

    def _requests(self, server: OverlayNode) -> tuple[int, int]:
        """Served so far, and dropped beyond the limits."""
        seen = server.statistics().rpc
        return seen.served, seen.limited

    def _bytes(self, server: OverlayNode) -> int:
        seen = server.statistics().traffic.socket
        return seen.bytes_in + seen.bytes_out
