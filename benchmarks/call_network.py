"""The network of the calls benchmark: users behind NATs who call each other.

Owns who is behind what, who calls whom and when, and what each call was like. Runs in
virtual time; refuses to know how figures are shown.
"""

import contextlib
import dataclasses
import itertools
import random
import struct
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import trio

import opnode
from opnode.drivers.connections import Connection
from opnode.node.node import OverlayNode
from opnode.protocols.relay import RelayConfig
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.virtual_network import Link

MIX: Final = (("port", 0.4), ("full", 0.3), ("sym", 0.15), ("open", 0.15))
"""What users are behind, and which share of them."""
_HOPELESS: Final = ({"sym"}, {"sym", "port"})
"""Pairs of boxes without a direct path in principle (ports are random)."""
_LETS_STRANGERS_IN: Final = frozenset({"open", "full"})

_LINK: Final = Link(latency_s=(0.0, 0.005), distance_s=(0.01, 0.07))
_SETTLE_S: Final = 120.0
_JOIN_WITHIN_S: Final = 120.0
_CALL_S: Final = 20.0
_BETWEEN_S: Final = 0.3
"""Between two set-ups of the many, so that a dozen are under way at a time."""

_HOUR_S: Final = 3600.0
_SLOW_S, _FAST_S = 20.0, 0.5
"""Pauses between two words: an hour of a hundred calls at the pace of speech would be
forty million datagrams, so both talk fast only around what happens."""
_FAST_BEFORE_S, _FAST_AFTER_S = 5.0, 20.0
_SILENCE_S: Final = 120.0
"""A call without a word for so long is dropped: people hung up long before."""
_WORD: Final = struct.Struct(">d")


_FAILURES: Final = (opnode.OpnodeError, trio.TooSlowError, trio.BrokenResourceError)

_Pair = tuple[OverlayNode, OverlayNode]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """Sizes.

    Attributes:
        nodes: of the DHT.
        relays: how many of them relay.
        users: everybody calls and is called.
        set_ups: one after the other, and as many at once (half of the users at most).
        many: set-ups for the share that fails.
        long_calls: that last an hour, at five seconds of CPU each; a hundred of them
            take longer than all the rest.
    """

    nodes: int = 30
    relays: int = 1
    users: int = 200
    set_ups: int = 100
    many: int = 1000
    long_calls: int = 20


class SetUp(NamedTuple):
    """One set-up; the seconds of one that failed say nothing.

    ``is_hopeless``: no direct path in principle. ``path``: by which the first byte
    came; a better one may have been found later.
    """

    pair: str
    is_hopeless: bool
    failure: str | None = None
    path: str = ""
    setup_s: float = 0.0
    lookup_s: float = 0.0
    introduction_s: float = 0.0
    ice_s: float = 0.0
    first_byte_s: float = 0.0


class LongCall(NamedTuple):
    """One call of an hour; ``move_gap_s`` is the gap in the seconds after the move."""

    pair: str
    dropped: str | None
    gap_s: float
    move_gap_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one network brought; ``cpu_s`` without the building of it."""

    set_ups: Mapping[str, Sequence[SetUp]]
    long_calls: Sequence[LongCall] = ()
    cpu_s: float = 0.0

    def with_long_calls(self, other: "Found") -> Self:
        """Together with what the other run brought."""
        return dataclasses.replace(
            self, long_calls=other.long_calls, cpu_s=self.cpu_s + other.cpu_s
        )


async def measure_set_ups(plan: CallPlan, seed: int) -> Found:
    """One after the other, at once, and many."""
    async with _open_crowd(plan, seed) as crowd:
        for user in crowd.users:
            crowd.overlay.start_soon(_echo, user)
        began_s = time.process_time()
        pairs = crowd.pairs()
        one_by_one = [
            await crowd.set_up(*pair) for pair in itertools.islice(pairs, plan.set_ups)
        ]
        at_once: list[SetUp] = []
        many: list[SetUp] = []

        async def one(pair: _Pair, to: list[SetUp]) -> None:
            to.append(await crowd.set_up(*pair))

        async with trio.open_nursery() as nursery:
            for pair in crowd.disjoint_pairs(plan.set_ups):
                nursery.start_soon(one, pair, at_once)
        async with trio.open_nursery() as nursery:
            for pair in itertools.islice(pairs, plan.many):
                nursery.start_soon(one, pair, many)
                await trio.sleep(_BETWEEN_S)
        return Found(
            set_ups={"one_by_one": one_by_one, "at_once": at_once, "many": many},
            cpu_s=time.process_time() - began_s,
        )


async def measure_long_calls(plan: CallPlan, seed: int) -> Found:
    """An hour of calls; the DHT ends in the middle of it."""
    async with _open_crowd(plan, seed) as crowd:
        began_s = time.process_time()
        calls = [
            _Conversation(crowd, caller, callee)
            for caller, callee in crowd.disjoint_pairs(
                plan.long_calls, is_direct_possible=True
            )
        ]
        ends_at = trio.current_time() + _HOUR_S
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call.run, ends_at)
            await trio.sleep_until(ends_at - _HOUR_S / 2)
            for server in crowd.overlay.seeds:
                nursery.start_soon(crowd.overlay.kill, server)
        return Found(
            set_ups={},
            long_calls=[call.result() for call in calls],
            cpu_s=time.process_time() - began_s,
        )


class _Crowd:
    """The users and what they are behind."""

    def __init__(self, overlay: Overlay, seed: int) -> None:
        self.overlay = overlay
        self.users: list[OverlayNode] = []
        self.rng = random.Random(seed)
        self._kinds: dict[OverlayNode, str] = {}
        self._met: set[frozenset[OverlayNode]] = set()

    async def open(self, count: int) -> None:
        """Start the users and wait until all of them are found."""
        kinds = [kind for kind, share in MIX for _ in range(round(share * count))]
        self.rng.shuffle(kinds)
        config = opnode.NodeConfig(role=opnode.Role.LEAF)
        for kind in kinds:
            user = await self.overlay.start_user(kind, config)
            self.users.append(user)
            self._kinds[user] = kind
        with trio.fail_after(_JOIN_WITHIN_S):
            for user in self.users:
                await user.wait_published()

    def kind(self, user: OverlayNode) -> str:
        """What a user is behind."""
        return self._kinds[user]

    def is_hopeless(self, one: OverlayNode, other: OverlayNode) -> bool:
        """Whether there is no direct path in principle."""
        return {self._kinds[one], self._kinds[other]} in _HOPELESS

    def pairs(self) -> Iterator[_Pair]:
        """Random pairs that never met, without end."""
        while True:
            caller, callee = self.rng.sample(self.users, 2)
            if self._meet(caller, callee):
                yield caller, callee

    def disjoint_pairs(
        self, count: int, *, is_direct_possible: bool = False
    ) -> list[_Pair]:
        """Pairs that never met, no user in two of them."""
        left = self.rng.sample(self.users, len(self.users))
        chosen: list[_Pair] = []
        while left and len(chosen) < count:
            caller = left.pop()
            for callee in left:
                is_hopeless = is_direct_possible and self.is_hopeless(caller, callee)
                if not is_hopeless and self._meet(caller, callee):
                    left.remove(callee)
                    chosen.append((caller, callee))
                    break
        return chosen

    async def set_up(self, caller: OverlayNode, callee: OverlayNode) -> SetUp:
        """Call, hear one byte, hang up."""
        pair = f"{self._kinds[caller]} {self._kinds[callee]}"
        is_hopeless = self.is_hopeless(caller, callee)
        began_at = trio.current_time()
        try:
            with trio.fail_after(_CALL_S):
                connection = await caller.connect(callee.peer_id)
                async with aclosing(connection):
                    await _first_echo(connection)
                    setup_s = trio.current_time() - began_at
                    path = connection.path
        except (
            opnode.OpnodeError,
            trio.TooSlowError,
            trio.BrokenResourceError,
        ) as error:
            return SetUp(pair, is_hopeless, f"{type(error).__name__}: {error}")
        steps = connection.timings
        if steps is None:
            return SetUp(pair, is_hopeless, "the callee called at the same time")
        known_s = steps.lookup_s + steps.introduce_s + steps.ice_s
        return SetUp(
            pair,
            is_hopeless,
            None,
            path.kind.value if path is not None else "",
            setup_s,
            steps.lookup_s,
            steps.introduce_s,
            steps.ice_s,
            setup_s - known_s,
        )

    def _meet(self, one: OverlayNode, other: OverlayNode) -> bool:
        pair = frozenset((one, other))
        is_new = pair not in self._met
        self._met.add(pair)
        return is_new


@contextlib.asynccontextmanager
async def _open_crowd(plan: CallPlan, seed: int) -> AsyncIterator[_Crowd]:
    async with open_overlay(0, link=_LINK, seed=seed, public=True) as overlay:
        relay = opnode.NodeConfig(relay=RelayConfig())
        for number in range(plan.nodes):
            await overlay.seed(relay if number < plan.relays else None)
        crowd = _Crowd(overlay, seed)
        await crowd.open(plan.users)
        await trio.sleep(_SETTLE_S)
        yield crowd


async def _echo(node: OverlayNode) -> None:
    """Answer the first byte of every call."""

    async def answer(connection: Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            channel = await connection.accept_channel()
            await channel.send_all(await channel.receive_some(1))
            await connection.closed.wait()

    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(answer, await node.accept_connection())


async def _first_echo(connection: Connection) -> None:
    async with await connection.open_channel() as channel:
        await channel.send_all(b"?")
        await channel.receive_some(1)


class _Conversation:
    """Two who talk for an hour; one of them gets another address once."""

    def __init__(self, crowd: _Crowd, caller: OverlayNode, callee: OverlayNode) -> None:
        self._crowd = crowd
        self._caller = caller
        self._callee = callee
        self._mover, self._other = crowd.rng.sample((caller, callee), 2)
        self._events: tuple[float, ...] = ()
        self._moved_at = 0.0
        self._gap_s = self._move_gap_s = 0.0
        self._dropped: str | None = None

    async def run(self, ends_at: float) -> None:
        """Call, talk until then."""
        self._plan_events(ends_at)
        try:
            with trio.fail_after(_CALL_S):
                connection = await self._caller.connect(self._callee.peer_id)
                accepted = await self._callee.accept_connection()
        except (opnode.OpnodeError, trio.TooSlowError) as error:
            self._dropped = f"was not set up: {error}"
            return
        async with aclosing(connection):
            with trio.CancelScope(deadline=ends_at):
                await self._talk(connection, accepted)

    def result(self) -> LongCall:
        """What the call was like."""
        pair = f"{self._crowd.kind(self._mover)} moved, {self._crowd.kind(self._other)}"
        return LongCall(pair, self._dropped, self._gap_s, self._move_gap_s)

    def _plan_events(self, ends_at: float) -> None:
        middle = ends_at - _HOUR_S / 2
        first = ends_at - _HOUR_S + 60.0
        is_late_possible = self._crowd.kind(self._other) in _LETS_STRANGERS_IN
        last = ends_at - 60.0 if is_late_possible else middle - 60.0
        self._moved_at = self._crowd.rng.uniform(first, last)
        self._events = (self._moved_at, middle)

    async def _talk(self, mine: Connection, theirs: Connection) -> None:
        async with trio.open_nursery() as nursery:
            for one in (mine, theirs):
                nursery.start_soon(self._speak, one)
                nursery.start_soon(self._listen, one, nursery.cancel_scope)
            await trio.sleep_until(self._moved_at)
            self._crowd.overlay.move(self._mover)

    async def _speak(self, connection: Connection) -> None:
        """Each word tells the pause before it."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                pause_s = self._pause_s()
                await trio.sleep(pause_s)
                await connection.send_datagram(_WORD.pack(pause_s))

    async def _listen(self, connection: Connection, end: trio.CancelScope) -> None:
        heard_at = trio.current_time()
        try:
            while True:
                with trio.fail_after(_SILENCE_S):
                    (pause_s,) = _WORD.unpack(await connection.receive_datagram())
                now = trio.current_time()
                self._note(now - heard_at - pause_s, now)
                heard_at = now
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._dropped = connection.close_reason or "silence"
            self._note(trio.current_time() - heard_at, trio.current_time())
            end.cancel()

    def _note(self, gap_s: float, now: float) -> None:
        self._gap_s = max(self._gap_s, gap_s)
        if self._moved_at <= now <= self._moved_at + 2 * _FAST_AFTER_S:
            self._move_gap_s = max(self._move_gap_s, gap_s)

    def _pause_s(self) -> float:
        """Until the next word: short around events, and never into one."""
        now = trio.current_time()
        begins = [at - _FAST_BEFORE_S for at in self._events]
        ends = [at + _FAST_AFTER_S for at in self._events]
        if any(b <= now <= e for b, e in zip(begins, ends, strict=True)):
            return _FAST_S
        return min([_SLOW_S, *(begin - now for begin in begins if begin > now)])
