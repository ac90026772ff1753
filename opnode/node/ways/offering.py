"""One offer on its way: everybody who may bring it to its target, and the first answer.

Owns whom the offer is sent through and when, and which failure is told when all fail.
Refuses to know what the offer says and what becomes of the answer.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    IceFailed,
    IntroductionRefused,
    PeerUnreachable,
    RefusalCode,
    RemoteProtocolError,
)
from opnode.core.peerfile import IntroducerEntry
from opnode.drivers.clock import WallClock
from opnode.drivers.connections import Connection
from opnode.drivers.introductions import Introductions
from opnode.node.parcels import exchange
from opnode.protocols.introductions.session import Established, OutgoingIntroduction
from opnode.protocols.rpc.messages import handle_of

INTRODUCERS_AT_ONCE: Final = 2
"""The offer goes to two introducers at once, so that one dead one costs nothing."""

NEXT_INTRODUCERS_S: Final = 1.0
"""After this long without an answer the others are asked, too: a dead introducer is
known as such only after seconds."""

AFTER_FORESEEN_S: Final = 1.0
"""Behind a NAT that gives its ports in a row remembered addresses wait so long for an
answer by introducers: a call there takes a port, and all that was foretold is wrong."""

MAX_WAYS: Final = 16
"""Ways of one offer: four addresses, and four introducers each of a remembered, a found
and a renewed presence."""

Way = Callable[[bytes], Awaitable[bytes]]
"""Carries a part of an offer and brings one of the answer; raises PeerUnreachable."""


class Offering:
    """One offer under way to one location.

    The first answer that opens counts: a way that makes one up, refuses or is silent
    only wastes its own turn.
    """

    def __init__(
        self,
        introductions: Introductions,
        outgoing: OutgoingIntroduction,
        wall_clock: WallClock,
        rng: random.Random,
    ) -> None:
        self._introductions = introductions
        self._outgoing = outgoing
        self._wall_clock = wall_clock
        self._rng = rng
        self._ways = 0
        self._introducers: set[Endpoint] = set()
        self._under_way = 0
        self._nursery: trio.Nursery | None = None
        self._answers: list[Established] = []
        self._failures: list[PeerUnreachable] = []

    async def run(
        self,
        introducers: Sequence[IntroducerEntry],
        endpoints: Sequence[Endpoint],
        late: Sequence[Endpoint] = (),
    ) -> Established:
        """Send the offer on every way until one brings the answer.

        Args:
            introducers: two are asked at once, the others later.
            endpoints: where the target was reached before; all are tried at once.
            late: such that are left alone as long as introducers may bring the answer.

        Raises:
            PeerUnreachable: no way led anywhere; IntroductionRefused if the target
                itself said no.
        """
        if not introducers and not endpoints and not late:
            raise PeerUnreachable("the peer's presence names no introducer")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for endpoint in endpoints:
                    self._start(self._try_directly, endpoint, 0.0)
                for endpoint in late:
                    self._start(self._try_directly, endpoint, AFTER_FORESEEN_S)
                self.add(introducers)
        finally:
            self._nursery = None
        if self._answers:
            return self._answers[0]
        raise _weightiest(self._failures)

    def add(self, introducers: Sequence[IntroducerEntry]) -> bool:
        """Try these introducers, too; False when the offer is over."""
        if self._nursery is None:
            return False
        shuffled = self._rng.sample(introducers, len(introducers))
        # Whoever was asked during the lookup needs no round trip for a token.
        ordered = sorted(shuffled, key=self._introductions.is_stranger)
        fresh = [entry for entry in ordered if entry.endpoint not in self._introducers]
        for place, entry in enumerate(fresh):
            self._introducers.add(entry.endpoint)
            delay_s = place // INTRODUCERS_AT_ONCE * NEXT_INTRODUCERS_S
            self._start(self._try_through, entry, delay_s)
        return True

    def _start(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self._nursery is not None and self._ways < MAX_WAYS:
            self._ways += 1
            self._under_way += 1
            self._nursery.start_soon(self._go, work, arguments)

    async def _go(
        self, work: Callable[..., Awaitable[None]], arguments: Sequence[object]
    ) -> None:
        await work(*arguments)
        self._under_way -= 1
        if not self._under_way:
            # The nursery takes nobody in any more, which is to be told to who comes.
            self._nursery = None

    async def _try_through(self, entry: IntroducerEntry, delay_s: float) -> None:
        await trio.sleep(delay_s)
        failure = await self._try(partial(self._introductions.introduce, entry))
        if _is_glare(failure):
            self._end()

    async def _try_directly(self, endpoint: Endpoint, delay_s: float) -> None:
        """Offer at an address where somebody else may live by now.

        What is said there ends nothing: whoever has the address of old could keep us
        from reaching the peer through its introducers.
        """
        await trio.sleep(delay_s)
        handle = handle_of(self._outgoing.remote.location_public)
        await self._try(partial(self._introductions.offer_directly, endpoint, handle))

    async def _try(self, way: Way) -> PeerUnreachable | None:
        """Go one way to its end; the failure, unless the answer is here."""
        try:
            answer = self._open_untrusted(await exchange(self._outgoing.message, way))
        except PeerUnreachable as failure:
            self._failures.append(failure)
            return failure
        self._answers.append(answer)
        self._end()
        return None

    def _end(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _open_untrusted(self, sealed: bytes) -> Established:
        try:
            return self._outgoing.receive_answer_untrusted(sealed, self._wall_clock())
        except RemoteProtocolError as error:
            text = f"an introducer brought a bad answer: {error}"
            raise PeerUnreachable(text) from None


def _is_glare(failure: PeerUnreachable | None) -> bool:
    return (
        isinstance(failure, IntroductionRefused) and failure.code is RefusalCode.GLARE
    )


def _weightiest(failures: Sequence[PeerUnreachable]) -> PeerUnreachable:
    """The target's own word says more than an introducer's silence."""
    refusals = [f for f in failures if isinstance(f, IntroductionRefused)]
    for refusal in refusals:
        if refusal.code is RefusalCode.GLARE:
            return refusal
    for refusal in refusals:
        if refusal.code is not RefusalCode.UNKNOWN_TARGET:
            return refusal
    for failure in failures:
        if isinstance(failure, (IntroductionRefused, IceFailed)):
            return failure
    return failures[-1]


@dataclass(slots=True, eq=False)
class Calling:
    """One outgoing connect to one location, until either side's offer succeeds.

    ``introducers``: found by others who want to get there, before the offer leaves.
    ``has_offered``: whether it has left; ``failure``: why there is no connection.
    ``freed``: set when a call of the other side's came to nothing.
    """

    early_data: bytes
    introducers: list[IntroducerEntry] = field(default_factory=list)
    offering: Offering | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    arrived: trio.Event = field(default_factory=trio.Event)
    has_offered: bool = False
    freed: trio.Event = field(default_factory=trio.Event)
    connection: Connection | None = None
    failure: PeerUnreachable = field(default_factory=lambda: PeerUnreachable("no path"))

    async def join(self, introducers: Sequence[IntroducerEntry]) -> Connection | None:
        """Wait for its outcome, by these introducers too; None: without them.

        Raises:
            PeerUnreachable: it failed with them.
        """
        is_taken = self.take(introducers)
        await self.arrived.wait()
        if self.connection is None and is_taken:
            raise PeerUnreachable(f"the attempt under way failed: {self.failure}")
        return self.connection

    def take(self, introducers: Sequence[IntroducerEntry]) -> bool:
        """Offer by way of these, too; False when the offer is over."""
        if self.offering is not None:
            return self.offering.add(introducers)
        # Kept also when it is over: another one may follow, see ``freed``.
        self.introducers += introducers
        return not self.has_offered
