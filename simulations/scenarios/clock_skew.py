"""Are records found where a share of the clocks is wrong, and do they end in time?

Nothing in the overlay compares clocks; the expiry of a record is the one date that
others judge. A presence lives for 20 minutes by the clock of whoever made it, a peer
file for two years. Holders, writers and readers may each be ahead or behind. Then the
writers fall silent, and a quarter of an hour after their presences should have ended
everybody is asked for them once more. At last they start anew with their clocks set
right, as a machine does after it asked a time server.
"""

import enum
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec
import trio

from opnode.core.errors import RecordNotFound
from opnode.core.ids import peer_key
from opnode.core.peerfile import (
    HANDLE_SIZE,
    Identity,
    IntroducerEntry,
    certify_location,
    read_presence,
)
from opnode.core.records import RecordKind, SignedRecord
from opnode.node.config import NodeConfig
from opnode.node.presence.publishing import PresencePublisher
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.keys import seeded_signing_key, seeded_static_key
from opnode.testing.virtual_network import Link
from simulations.backends.real import DhtScenario
from simulations.model.durations import LATENCY_S
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_LIFETIME_S: Final = NodeConfig().presence_lifetime_s
_READ_AFTER_S: Final = 300.0
_SILENT_S: Final = 900.0
"""After the end of the presences, by right clocks."""
_CERTIFIED_S: Final = 365 * 86_400


class Clock(enum.StrEnum):
    """How a node's clock goes."""

    RIGHT = "right"
    AHEAD = "ahead"
    BEHIND = "behind"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Reads of what writers with one kind of clock wrote, by readers with another.

    Attributes:
        reads: of each kind of record.
        files, presences: share of the writers' peer files and presences that came.
        overdue: share whose presence still came when it should have ended.
        returned: share whose new presence came, after their clocks were set right.
    """

    writer: Clock
    reader: Clock
    reads: int
    files: float
    presences: float
    overdue: float
    returned: float


class ClockSkewFigures(Figures, frozen=True, kw_only=True):
    """Everybody with everybody.

    Attributes:
        right_files, right_presences: where writer and reader are right and only holders
            and others may be wrong.
        right_overdue: of these, presences that outlived their end.
        holders_min, holders_mean: of a right writer's presence, of eight.
        cells: all nine.
    """

    right_files: float
    right_presences: float
    right_overdue: float
    holders_min: int
    holders_mean: float
    cells: tuple[Cell, ...]


class ClockSkewScenario(DhtScenario[ClockSkewFigures], frozen=True, kw_only=True):
    """Half of the wrong clocks are ahead, half behind, all by as much."""

    name: ClassVar[str] = "clock-skew"
    question: ClassVar[str] = (
        "Are records found where clocks are wrong, and do they end when they should?"
    )
    expected: ClassVar[str] = (
        "Peer files up to a day off. A presence of 20 minutes only if the writer's and"
        " the reader's clock differ by less than what is left of it."
    )
    maintained: ClassVar[bool] = True
    link: ClassVar[Link] = Link(latency_s=LATENCY_S, grain_s=0.01)

    nodes: Annotated[int, parameter("Nodes of the DHT", low=5, high=20_000)] = 60
    share: Annotated[
        float,
        parameter(
            "Nodes whose clock is wrong", unit="share", low=0, high=0.9, drawn="a coin"
        ),
    ] = 0.3
    skew_s: Annotated[
        float,
        parameter("How wrong these clocks are", unit="s", low=0, high=315_576_000),
    ] = 3600.0
    writers: Annotated[
        int, parameter("Writers with each of the three clocks", low=1, high=1000)
    ] = 8
    readers: Annotated[
        int, parameter("Readers with each clock for every writer", low=1, high=1000)
    ] = 3

    async def measure(
        self,
        network: DhtNetwork,
        run: Run,
    ) -> ClockSkewFigures:
        """Set clocks wrong, write, read, fall silent, read, return, read."""
        groups = self._set_clocks(network)
        run.progress(0, 3, "moments")
        writers = [
            _Writer(await self._leaf(network, clock), clock, f"{clock} {n}")
            for clock in Clock
            for n in range(self.writers)
        ]
        for writer in writers:
            await writer.publish()
        written_at = trio.current_time()
        await trio.sleep(_READ_AFTER_S)
        questions = [
            _Question(writer, clock, reader)
            for writer, clock in itertools.product(writers, Clock)
            for reader in network.rng.choices(groups[clock], k=self.readers)
        ]
        holders = [_holders(network, w) for w in writers if w.clock is Clock.RIGHT]
        files = await _ask(questions, _is_file)
        presences = await _ask(questions, _is_presence)
        await trio.sleep_until(written_at + _LIFETIME_S + _SILENT_S)
        run.progress(1, 3, "moments")
        overdue = await _ask(questions, _is_presence)
        for writer in writers:
            await writer.start_anew(-self._offset_s(writer.clock))
        run.progress(2, 3, "moments")
        returned = await _ask(questions, _is_new)
        each = len(questions) / len(Clock) ** 2
        cells = {
            (writer, reader): Cell(
                writer=writer,
                reader=reader,
                reads=int(each),
                files=files[writer, reader] / each,
                presences=presences[writer, reader] / each,
                overdue=overdue[writer, reader] / each,
                returned=returned[writer, reader] / each,
            )
            for writer, reader in itertools.product(Clock, Clock)
        }
        right = cells[Clock.RIGHT, Clock.RIGHT]
        return ClockSkewFigures(
            met=right.files == right.presences == 1.0 and not right.overdue,
            right_files=right.files,
            right_presences=right.presences,
            right_overdue=right.overdue,
            holders_min=min(holders),
            holders_mean=sum(holders) / len(holders),
            cells=tuple(cells.values()),
        )

    async def _leaf(self, network: DhtNetwork, clock: Clock) -> DhtNode:
        """A user's node with such a clock."""
        leaf = await network.add(leaf=True)
        known = network.rng.sample(network.nodes[: self.nodes], 3)
        await leaf.dht.join([node.hub.local for node in known])
        leaf.wall_clock.jump(self._offset_s(clock))
        return leaf

    def _offset_s(self, clock: Clock) -> float:
        return {
            Clock.RIGHT: 0.0,
            Clock.AHEAD: self.skew_s,
            Clock.BEHIND: -self.skew_s,
        }[clock]

    def _set_clocks(self, network: DhtNetwork) -> dict[Clock, list[DhtNode]]:
        """Choose whose clocks are wrong, at least one of each, and set them so."""
        each = max(1, int(self.share * self.nodes / 2))
        mixed = network.rng.sample(network.nodes, len(network.nodes))
        groups = {
            Clock.RIGHT: mixed[2 * each :],
            Clock.AHEAD: mixed[:each],
            Clock.BEHIND: mixed[each : 2 * each],
        }
        for clock, nodes in groups.items():
            for node in nodes:
                node.wall_clock.jump(self._offset_s(clock))
        return groups


class _Writer:
    """Somebody with a device at a node, who publishes as shipped nodes do."""

    def __init__(self, node: DhtNode, clock: Clock, label: str) -> None:
        self.clock = clock
        self.identity = Identity(seeded_signing_key(f"identity {label}"))
        self.key = peer_key(self.identity.peer_id)
        self._node = node
        self._location = certify_location(
            self.identity,
            signing=seeded_signing_key(f"location {label}"),
            static=seeded_static_key(f"location {label}"),
            name=label,
            wall_now=node.wall_clock(),
            lifetime_s=_CERTIFIED_S,
        )
        self._publisher = self._publish()

    async def publish(self) -> None:
        """Put the peer file and the presence."""
        await self._publisher.publish_peer_file()
        await self._publisher.publish(())

    async def start_anew(self, corrected_s: float) -> None:
        """Set the clock by so much, and publish a presence as after a restart.

        It has an introducer, by which it differs from the one before.
        """
        self._node.wall_clock.jump(corrected_s)
        self._publisher = self._publish()
        contact = self._node.contact
        entry = IntroducerEntry(
            node_id=contact.node_id,
            endpoint=contact.endpoint,
            handle=bytes(HANDLE_SIZE),
        )
        await self._publisher.publish((entry,))

    def _publish(self) -> PresencePublisher:
        return PresencePublisher(
            identity=self.identity,
            location=self._location,
            dht=self._node.dht,
            wall_clock=self._node.wall_clock,
            lifetime_s=_LIFETIME_S,
        )


class _Question(NamedTuple):
    """Who asks for whose records."""

    writer: _Writer
    clock: Clock
    reader: DhtNode


async def _ask(
    questions: Sequence[_Question], is_wanted: Callable[[SignedRecord], bool]
) -> Counter[tuple[Clock, Clock]]:
    """How many brought what is wanted, by writer's and reader's clock."""
    found: Counter[tuple[Clock, Clock]] = Counter()
    for writer, clock, reader in questions:
        try:
            await reader.dht.find_first(writer.key, is_wanted)
        except RecordNotFound:
            continue
        found[writer.clock, clock] += 1
    return found


def _is_file(record: SignedRecord) -> bool:
    return record.kind is RecordKind.PEER_FILE


def _is_presence(record: SignedRecord) -> bool:
    return record.kind is RecordKind.PRESENCE


def _is_new(record: SignedRecord) -> bool:
    return _is_presence(record) and bool(read_presence(record).introducers)


def _holders(network: DhtNetwork, writer: _Writer) -> int:
    """Nodes that would give a presence to whoever asks."""
    return sum(
        any(map(_is_presence, node.store.records(writer.key, node.wall_clock())))
        for node in network.nodes
    )
