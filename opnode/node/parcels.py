"""Offers and answers on their way: each in one datagram, or in two when it is long.

Owns the waiting for the other part and the fetching of an answer's second one. Refuses
to know what the messages say and how datagrams travel.
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
            sealed = await answer(part.chunk)
        else:
            sealed = await self._answer_both(part, answer)
        answers = split(sealed)
        return answers[min(part.wanted, len(answers) - 1)]

    async def _answer_both(self, part: Part, answer: Answer) -> bytes:
        waiting = self._wholes.setdefault(part.tag, _Whole())
        waiting.users += 1
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
            waiting.users -= 1
            if not waiting.users:
                self._wholes.pop(part.tag, None)
                self._parts.forget(part.tag)


class _Whole:
    """An offer that comes in two parts, while somebody waits for it."""

    def __init__(self) -> None:
        self.users = 0
        self.offer: bytes | None = None
        self.is_here = trio.Event()
        self.turn = trio.Lock()
