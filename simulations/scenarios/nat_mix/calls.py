"""Calls between whole nodes behind virtual NATs, and which path each of them got.

Owns the users, who calls whom, and the judgement of a call. Refuses to know which mix
is asked for and what law is expected.
"""

from contextlib import aclosing
from typing import Final, NamedTuple

import trio

from opnode.core.errors import NetworkError
from opnode.drivers.connections import Connection
from opnode.node.config import NodeConfig, Role
from opnode.node.node import OverlayNode
from opnode.testing.overlay import Overlay
from simulations.introductions import CALL_S, take_calls
from simulations.run_context import Run

_SETTLE_S: Final = 120.0
_BETTER_S: Final = 5.0
"""For so long a call by the relay may still become direct."""
_LOOK_S: Final = 0.25
_BETWEEN_S: Final = 0.5


class Call(NamedTuple):
    """One call: the kinds of its ends, the path at last, the seconds until the first.

    ``path`` is "direct", "relay" or, when the call failed, empty.
    """

    caller: str
    callee: str
    path: str
    seconds: float


class Crowd:
    """Users who call each other; no pair does so twice while there are others."""

    def __init__(self, overlay: Overlay, run: Run) -> None:
        self._overlay = overlay
        self._run = run
        self._users: list[tuple[str, OverlayNode]] = []
        self._met: set[frozenset[OverlayNode]] = set()
        self._calls: list[Call] = []

    async def open(self, kinds: list[str]) -> None:
        """Start a user behind a box of its own for each of these kinds."""
        config = NodeConfig(role=Role.LEAF)
        for kind in kinds:
            user = await self._overlay.user(behind=kind, config=config)
            self._overlay.start_soon(take_calls, user)
            self._users.append((kind, user))
            self._run.progress(len(self._users), len(kinds), "users")
        await trio.sleep(_SETTLE_S)

    async def call(self, count: int) -> list[Call]:
        """So many calls, several under way at a time."""
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(self._call, *self._pair(), count)
                await trio.sleep(_BETWEEN_S)
        return self._calls

    def _pair(self) -> tuple[tuple[str, OverlayNode], tuple[str, OverlayNode]]:
        rng = self._run.rng
        for _ in range(100):
            one, other = rng.sample(self._users, 2)
            pair = frozenset((one[1], other[1]))
            if pair not in self._met:
                break
        self._met.add(pair)
        return one, other

    async def _call(
        self, one: tuple[str, OverlayNode], other: tuple[str, OverlayNode], count: int
    ) -> None:
        caller, callee = one[1], other[1]
        began_at = trio.current_time()
        path, seconds = "", 0.0
        try:
            with trio.fail_after(CALL_S):
                connection = await caller.connect(callee.peer_id)
            seconds = trio.current_time() - began_at
            async with aclosing(connection):
                path = await _last_path(connection)
        except (NetworkError, trio.TooSlowError):
            pass
        self._calls.append(Call(one[0], other[0], path, seconds))
        self._run.progress(len(self._calls), count, "calls")


async def _last_path(connection: Connection) -> str:
    """Which kind of path it has when it is direct, or had its time to become so."""
    with trio.move_on_after(_BETTER_S):
        # Virtual time makes looking cheap.
        while _path(connection) != "direct":  # noqa: ASYNC110 - nobody is told
            await trio.sleep(_LOOK_S)
    return _path(connection)


def _path(connection: Connection) -> str:
    path = connection.path
    return path.kind.value if path is not None else ""
