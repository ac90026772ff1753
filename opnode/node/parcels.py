"""Offers and answers on their way: each in one datagram, or in two when it is long.

Owns the waiting for the other part, the turns of copies that come at once, and the
fetching of an answer's second part. Refuses to know what the messages say and how
datagrams travel.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from opnode.core.errors import (
    IntroductionRefused,
    PeerUnreachable,
    RefusalCode,
    RemoteProtocolError,
)
from opnode.protocols.introductions.parts import (
    OfferParts,
    Part,
    asking_for,
    join_untrusted,
    parse_untrusted,
    split,
)

OTHER_PART_S: Final = 3.0
"""For so long one part of an offer waits for the other: less than an introducer waits
for the answer. Both leave at once, and are repeated alike."""

Carry = Callable[[bytes], Awaitable[bytes]]
"""Takes a datagram's worth to its target and brings as much back."""

Answer = Callable[[bytes], Awaitable[bytes]]
"""Makes the sealed answer to a sealed offer; raises IntroductionRefused."""


async def exchange(sealed: bytes, carry: Carry) -> bytes:
    """Take an offer to its target, in as many parts as it needs; returns the answer.

    Raises:
        PeerUnreachable: a part found no way, or the answer's parts are of no answer;
            IntroductionRefused if somebody said no.
    """
    parts = split(sealed)
    answers: list[bytes] = []
    failures: list[PeerUnreachable] = []

    async def bring(part: bytes) -> None:
        try:
            answers.append(await carry(part))
        except PeerUnreachable as failure:
            failures.append(failure)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for part in parts:
            nursery.start_soon(bring, part)
    if failures:
        raise failures[0]
    try:
        known = [parse_untrusted(answer) for answer in answers]
        missing = known[0].count - len({part.index for part in known})
        if missing > 0:
            # Its early data is long, and our offer was short.
            index = next(n for n in range(2) if n != known[0].index)
            known.append(parse_untrusted(await carry(asking_for(parts[0], index))))
        return join_untrusted(tuple({part.index: part for part in known}.values()))
    except RemoteProtocolError as error:
        raise PeerUnreachable(f"a bad answer came: {error}") from None


class Parcels:
    """Parts of offers that came to us."""

    def __init__(self) -> None:
        self._parts = OfferParts()
        self._wholes: dict[bytes, _Whole] = {}

    async def answer(self, data: bytes, answer: Answer) -> bytes:
        """Take a part of an offer; returns the part of the answer that it asks for.

        Raises:
            IntroductionRefused: the offer is refused, or its other part does not come.
        """
        try:
            part = parse_untrusted(data)
        except RemoteProtocolError as error:
            raise IntroductionRefused(RefusalCode.MALFORMED, str(error)) from None
        if part.count == 1:
            sealed = await self._answer_in_turn(part.chunk, answer)
        else:
            sealed = await self._answer_both(part, answer)
        answers = split(sealed)
        return answers[min(part.wanted, len(answers) - 1)]

    async def _answer_in_turn(self, offer: bytes, answer: Answer) -> bytes:
        """Answer an offer that several introducers may bring at the same moment.

        Each of them gets the answer: one alone may lose it, or be dead by then.
        """
        waiting = self._enter(offer)
        try:
            async with waiting.turn:
                return await answer(offer)
        finally:
            self._leave(offer, waiting)

    async def _answer_both(self, part: Part, answer: Answer) -> bytes:
        waiting = self._enter(part.tag)
        try:
            whole = self._parts.add(part)
            if whole is not None:
                waiting.offer = whole
                waiting.is_here.set()
            with trio.move_on_after(OTHER_PART_S):
                await waiting.is_here.wait()
            if waiting.offer is None:
                raise IntroductionRefused(RefusalCode.EXPIRED, "half an offer came")
            # One after the other: the second one finds the answer that was given.
            async with waiting.turn:
                return await answer(waiting.offer)
        finally:
            if self._leave(part.tag, waiting):
                self._parts.forget(part.tag)

    def _enter(self, name: bytes) -> "_Whole":
        waiting = self._wholes.setdefault(name, _Whole())
        waiting.users += 1
        return waiting

    def _leave(self, name: bytes, waiting: "_Whole") -> bool:
        """Whether that was the last who waits."""
        waiting.users -= 1
        if not waiting.users:
            del self._wholes[name]
        return not waiting.users


class _Whole:
    """An offer that comes in parts or copies, while somebody waits for its answer."""

    def __init__(self) -> None:
        self.users = 0
        self.offer: bytes | None = None
        self.is_here = trio.Event()
        self.turn = trio.Lock()
