"""A checkup: what a node can find out about itself by asking others, right now.

Owns the questions and the facts that come of them. Refuses to judge the facts and to
know how they are shown. It leaves nothing behind but two tiny records that expire
within minutes.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from opnode.core.ids import Contact
from opnode.core.records import SignedRecord, build_chunk
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.probing import PutAnswer
from opnode.node.bootstrap import BootstrapEntry, Verdict

EXPIRED: Final = "expired record"
"""How a holder refuses what is over by its own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckupConfig:
    """Limits of a checkup.

    Attributes:
        asked: nodes that get the test record: enough for one of them to be wrong.
        clock_s: a clock that is off by less does no harm: presences live for twenty
            minutes and are renewed after sixteen.
        steps_s: how far off a clock may be found to be, in steps.
        question_s: after so long one question to all of them is over.
        payload: random bytes of the test record, so that no two have one key.
    """

    asked: int = 8
    clock_s: int = 120
    steps_s: tuple[int, ...] = (600, 3600, 86_400, 30 * 86_400)
    question_s: float = 10.0
    payload: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFacts:
    """What became of a record of ours at other nodes.

    Attributes:
        asked: nodes that were offered it.
        took: those that said they hold it.
        read: those of them that handed it out again when asked.
        refusals: reasons of the others, and how often each was given.
        seconds: from the first question to the last answer.
    """

    asked: int
    took: int
    read: int
    refusals: tuple[tuple[str, int], ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFacts:
    """Our clock beside the clocks of others.

    Told from what they take: whoever holds a record of ours that is over, has a clock
    behind ours; who refuses one that is not, has a clock ahead of ours.

    Attributes:
        tolerance_s: a clock nearer to ours than this agrees.
        agree: nodes whose clock agrees.
        ahead: nodes whose clock is ahead of ours.
        behind: nodes whose clock is behind ours.
        at_least_s: by how much at least most of them differ; 0 while most agree.
    """

    tolerance_s: int
    agree: int
    ahead: int
    behind: int
    at_least_s: int


class SingleAsker(Protocol):
    """What is needed of ``Prober``."""

    async def offer(
        self, record: SignedRecord, contacts: Sequence[Contact]
    ) -> list[PutAnswer]:
        """Offer a record to each."""

    async def holders(
        self, record: SignedRecord, contacts: Sequence[Contact]
    ) -> list[Contact]:
        """Who of them hands out the record."""


class NodeFinder(Protocol):
    """What is needed of ``Dht``."""

    @property
    def prober(self) -> SingleAsker:
        """Asks single nodes."""

    async def closest_nodes(self, key: bytes) -> list[Contact]:
        """The closest nodes to a key that answered."""


Probe = Callable[[BootstrapEntry], Awaitable[Verdict]]


class Checkup:
    """The questions of one node; any number of times."""

    def __init__(
        self,
        dht: NodeFinder,
        entries: Sequence[BootstrapEntry],
        probe: Probe,
        *,
        wall_clock: WallClock,
        rng: random.Random,
        config: CheckupConfig | None = None,
    ) -> None:
        """``probe`` asks one entry to prove its key."""
        self.entries = tuple(entries)
        self._dht = dht
        self._probe = probe
        self._wall_clock = wall_clock
        self._rng = rng
        self._config = config or CheckupConfig()

    async def probe_entries(self) -> list[Verdict]:
        """Ask every bootstrap entry again, all at once; verdicts in their order."""
        verdicts: dict[int, Verdict] = {}

        async def ask(number: int, entry: BootstrapEntry) -> None:
            verdicts[number] = await self._probe(entry)

        async with trio.open_nursery() as nursery:
            for number, entry in enumerate(self.entries):
                nursery.start_soon(ask, number, entry)
        return [verdicts[number] for number in range(len(self.entries))]

    async def write_through(self) -> WriteFacts:
        """Have a record held by other nodes, and read it back from them alone."""
        began_at = trio.current_time()
        record = self._record(self._config.clock_s)
        others = await self._others(record.key)
        answers = await self._offer(record, others)
        takers = [answer.contact for answer in answers if answer.took]
        read: list[Contact] = []
        with trio.move_on_after(self._config.question_s):
            read = await self._dht.prober.holders(record, takers)
        refusals = Counter(a.refusal for a in answers if a.refusal is not None)
        return WriteFacts(
            asked=len(others),
            took=len(takers),
            read=len(read),
            refusals=tuple(sorted(refusals.items())),
            seconds=trio.current_time() - began_at,
        )

    async def compare_clocks(self) -> ClockFacts:
        """Find out whether others' clocks differ from ours, and by how much."""
        tolerance_s = self._config.clock_s
        key = self._record(tolerance_s).key
        others = await self._others(key)
        ahead = await self._ahead(tolerance_s, others)
        behind = await self._behind(tolerance_s, others)
        heard = ahead.keys() & behind.keys()
        is_ahead = [c for c in heard if ahead[c]]
        is_behind = [c for c in heard if behind[c] and not ahead[c]]
        at_least_s = 0
        if 2 * len(is_ahead) > len(heard):
            at_least_s = await self._farthest(self._ahead, is_ahead)
        elif 2 * len(is_behind) > len(heard):
            at_least_s = await self._farthest(self._behind, is_behind)
        return ClockFacts(
            tolerance_s=tolerance_s,
            agree=len(heard) - len(is_ahead) - len(is_behind),
            ahead=len(is_ahead),
            behind=len(is_behind),
            at_least_s=at_least_s,
        )

    async def _farthest(
        self,
        differs: Callable[[int, Sequence[Contact]], Awaitable[dict[Contact, bool]]],
        others: Sequence[Contact],
    ) -> int:
        """The largest step by which most of these differ from us at least."""
        farthest_s = self._config.clock_s
        for step_s in self._config.steps_s:
            answers = await differs(step_s, others)
            if 2 * sum(answers.values()) <= len(answers):
                break
            farthest_s = step_s
        return farthest_s

    async def _ahead(self, by_s: int, others: Sequence[Contact]) -> dict[Contact, bool]:
        """Whether each clock is ahead of ours: what we think good is over there."""
        answers = await self._offer(self._record(by_s), others)
        return {a.contact: not a.took for a in answers if _tells_time(a)}

    async def _behind(
        self, by_s: int, others: Sequence[Contact]
    ) -> dict[Contact, bool]:
        """Whether each clock is behind ours: what we think is over is good there."""
        answers = await self._offer(self._record(-by_s), others)
        return {a.contact: a.took for a in answers if _tells_time(a)}

    async def _others(self, key: bytes) -> list[Contact]:
        nearest: list[Contact] = []
        with trio.move_on_after(self._config.question_s):
            nearest = await self._dht.closest_nodes(key)
        return nearest[: self._config.asked]

    async def _offer(
        self, record: SignedRecord, others: Sequence[Contact]
    ) -> list[PutAnswer]:
        with trio.move_on_after(self._config.question_s):
            return await self._dht.prober.offer(record, others)
        return []

    def _record(self, lifetime_s: int) -> SignedRecord:
        payload = b"opnode checkup " + self._rng.randbytes(self._config.payload)
        return build_chunk(payload, int(self._wall_clock()) + lifetime_s)


def _tells_time(answer: PutAnswer) -> bool:
    """Whether an answer depends on the clock: a full store or silence does not."""
    return answer.took or answer.refusal == EXPIRED
