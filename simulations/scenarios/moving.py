"""Does a transfer survive a change of address, and how long does it pause?

Two users behind boxes; one sends to the other without end. Then the sender or the
receiver moves to another box (from Wi-Fi to mobile), at once or after seconds without
coverage; or its box gets another address or reboots, of which the host sees nothing.
The bytes go on on the same connection, or it is lost.
"""

import contextlib
import itertools
from contextlib import aclosing
from typing import Annotated, ClassVar, Final

import msgspec
import trio

from opnode.core.errors import ConfigError, NetworkError
from opnode.drivers.connections import Connection
from opnode.node.config import NodeConfig, Role
from opnode.node.node import OverlayNode
from opnode.testing.nat_behaviour import PRESETS
from opnode.testing.overlay import Overlay
from simulations.backends.real import OverlayScenario
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_GAP_S: Final = 3.0
_CONNECT_S: Final = 20.0
_BEFORE_S: Final = 20.0
_AFTER_S: Final = 60.0
_CHUNK: Final = bytes(500)
_EVERY_S: Final = 0.05
"""A call's worth of data: twenty packets a second."""
_WAYS: Final = ("move", "new-address", "reboot")
_KINDS: Final = ("open", "full", "addr", "port", "sym")


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One pair, of which the one behind ``mover`` moved; ``role``: what it did.

    ``gap_s``: longest silence at the receiver without the time without coverage; the
    whole time left when nothing came any more, or the two never met.
    """

    mover: str
    other: str
    role: str
    is_kept: bool
    gap_s: float


class MovingFigures(Figures, frozen=True, kw_only=True):
    """``kept``, ``smooth``: connections that went on, and those within the bar."""

    tried: int
    kept: int
    smooth: int
    gap_s_max: float
    not_smooth: tuple[Move, ...]


class MovingScenario(OverlayScenario[MovingFigures], frozen=True, kw_only=True):
    """``kinds``: of the boxes, with commas; every pair is tried in both roles.

    ``how``: ``move`` to another box, or the box does something: ``new-address``,
    ``reboot``. ``away_s``: seconds without coverage in between.
    """

    name: ClassVar[str] = "moving"
    question: ClassVar[str] = (
        "Does a transfer survive a change of address, and how long does it pause?"
    )
    expected: ClassVar[str] = (
        "Every pair with a direct path keeps its connection; pauses stay below 3 s."
    )

    kinds: Annotated[
        str, parameter("Kinds of NAT, with commas; every pair is tried in both roles")
    ] = ",".join(_KINDS)
    how: Annotated[
        str,
        parameter(
            "`move` to another box, or the box does something: `new-address`, `reboot`"
        ),
    ] = "move"
    away_s: Annotated[
        float, parameter("Without coverage in between", unit="s", low=0, high=600)
    ] = 0.0

    def check(self) -> None:
        """See `Scenario.check`."""
        for kind in self.kinds.split(","):
            if kind not in PRESETS:
                raise ConfigError("--kinds", kind, "some of " + ", ".join(PRESETS))
        if self.how not in _WAYS:
            raise ConfigError("--how", self.how, "one of " + ", ".join(_WAYS))

    async def measure(self, overlay: Overlay, run: Run) -> MovingFigures:
        """Move in each pair, one after the other."""
        kinds = self.kinds.split(",")
        tries = [
            (mover, other, role)
            for mover, other in itertools.product(kinds, kinds)
            # Others have no direct path in principle.
            if {mover, other} not in ({"sym"}, {"sym", "port"})
            for role in ("sender", "receiver")
        ]
        moves: list[Move] = []
        for mover, other, role in tries:
            run.progress(len(moves), len(tries), "moves")
            moves.append(await self._move(overlay, mover, other, role))
        kept = [move for move in moves if move.is_kept]
        smooth = [move for move in kept if move.gap_s <= _GAP_S]
        return MovingFigures(
            met=len(smooth) == len(moves),
            tried=len(moves),
            kept=len(kept),
            smooth=len(smooth),
            gap_s_max=max(move.gap_s for move in moves),
            not_smooth=tuple(move for move in moves if move not in smooth),
        )

    async def _move(self, overlay: Overlay, mover: str, other: str, role: str) -> Move:
        config = NodeConfig(role=Role.LEAF)
        one = await overlay.user(behind=mover, config=config)
        two = await overlay.user(behind=other, config=config)
        gap_s, is_kept = _AFTER_S, False
        with contextlib.suppress(NetworkError, trio.TooSlowError):
            gap_s, is_kept = await self._transfer(overlay, one, two, role)
        for node in (one, two):
            await overlay.stop(node)
        return Move(mover=mover, other=other, role=role, is_kept=is_kept, gap_s=gap_s)

    async def _transfer(
        self, overlay: Overlay, one: OverlayNode, two: OverlayNode, role: str
    ) -> tuple[float, bool]:
        """The longest silence after the move of ``one``, and whether it was kept."""
        transfer = _Transfer()
        with trio.fail_after(_CONNECT_S):
            mine = await one.connect(two.peer_id)
            theirs = await two.accept_connection()
        async with aclosing(mine), trio.open_nursery() as nursery:
            sender, receiver = (mine, theirs) if role == "sender" else (theirs, mine)
            nursery.start_soon(transfer.send, sender)
            nursery.start_soon(transfer.receive, receiver)
            await trio.sleep(_BEFORE_S)
            await self._change_address(overlay, one)
            transfer.begin()
            await trio.sleep(_AFTER_S)
            gap_s = transfer.end()
            is_kept = gap_s < _AFTER_S / 2 and mine.close_reason is None
            nursery.cancel_scope.cancel()
        return gap_s, is_kept

    async def _change_address(self, overlay: Overlay, node: OverlayNode) -> None:
        host, nat = overlay.host_of(node), overlay.nat_of(node)
        if self.away_s:
            host.move_to(None)
            await trio.sleep(self.away_s)
            host.move_to(nat)
        match self.how:
            case "move":
                overlay.move(node)
            case "new-address":
                nat.change_address(overlay.next_address())
            case _:
                nat.reboot()


class _Transfer:
    """Bytes from one end to the other, and the silences between them."""

    def __init__(self) -> None:
        self._heard_at = 0.0
        self._gap_s = 0.0

    async def send(self, connection: Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with await connection.open_channel() as channel:
                while True:
                    await channel.send_all(_CHUNK)
                    await trio.sleep(_EVERY_S)

    async def receive(self, connection: Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            channel = await connection.accept_channel()
            while await channel.receive_some():
                self._note()

    def begin(self) -> None:
        """Count silences from now on."""
        self._heard_at = trio.current_time()
        self._gap_s = 0.0

    def end(self) -> float:
        """The longest silence since."""
        self._note()
        return self._gap_s

    def _note(self) -> None:
        now = trio.current_time()
        self._gap_s = max(self._gap_s, now - self._heard_at)
        self._heard_at = now
