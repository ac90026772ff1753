"""Introductions over RPC: pass them for others, receive our own, send ours.

Owns the requests REGISTER, INTRODUCE, OFFER and SIGNAL, and how much it does for
callers who come without an introducer. Sees sealed bytes only: refuses to know who
talks to whom, what a candidate is, or how a connection comes to be.
"""

import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, verify
from opnode.core.errors import (
    IntroductionRefused,
    NetworkError,
    PeerUnreachable,
    RefusalCode,
    RequestRefused,
    RequestTimeout,
)
from opnode.core.ids import Contact, short
from opnode.core.peerfile import IntroducerEntry
from opnode.drivers.clock import WallClock
from opnode.drivers.rpc.exchange import IncomingRequest
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.introductions.introducer import (
    IntroducerConfig,
    IntroducerDesk,
    IntroducerStatistics,
    Standing,
)
from opnode.protocols.rpc.messages import (
    Answered,
    FailureCode,
    Introduce,
    Introduced,
    Noted,
    Offer,
    Ping,
    Refuse,
    Register,
    Registered,
    Reply,
    Signal,
    handle_of,
    registration_statement,
)

logger = logging.getLogger(__name__)

OFFER_LIFETIME_S: Final = 10
"""An offer that found no way in ten seconds is answered by nobody any more."""

TARGET_S: Final = 4.0
"""A target answers at once or is gone; the caller has other introducers to ask."""

DIRECT_S: Final = 5.0
"""How long somebody is called at an address without any sign of life: a machine that
restarts is back by then."""

DIRECT_PAUSE_S: Final = 0.25
"""After a PING of such a call that brought no token, however soon it was over."""

OfferHandler = Callable[[bytes], Awaitable[bytes]]
"""Takes a sealed offer, returns the sealed answer; raises IntroductionRefused."""

ContactReader = Callable[[Endpoint, Iterable[bytes]], Sequence[Contact]]
"""Takes who named them and packed contacts; drops what must not be believed."""

SignalHandler = Callable[[bytes], None]
"""Takes a sealed signal, from whoever; never raises."""

RequestWork = Callable[[IncomingRequest], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroductionsConfig:
    """Limits.

    ``max_pending``: introductions under way at once, ours and others' together; each
    costs a task, so a flood is told "busy" instead of growing memory.
    ``max_remembered``: handles whose newest registration is remembered against replay;
    as many as an introducer serves.
    ``direct``: offers that come without an introducer. To open one takes 0.2 ms, so
    junk costs 1 % of a core at most; people who call again are few and call at once.
    """

    max_pending: int = 256
    max_remembered: int = 10_000
    direct: IntroducerConfig = field(
        default_factory=lambda: IntroducerConfig(
            offers_per_s=1.0,
            offers_burst=10.0,
            total_offers_per_s=50.0,
            total_burst=100.0,
            max_sources=1024,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroductionsStatistics:
    """Counters since the start; ``desk``: what is done for others, and its limits."""

    registered: int
    passed: int
    direct: int
    refused: int
    answered: int
    pending: int
    desk: IntroducerStatistics


class Introductions:
    """The node's part in introductions, as introducer, target and caller.

    Attributes:
        on_offer: takes the offers to us.
        alternates: servers that are named to a leaf when we are busy.
        read_contacts: which contacts, of those that a node names, may be asked.
    """

    def __init__(
        self,
        rpc: Rpc,
        desk: IntroducerDesk,
        *,
        wall_clock: WallClock,
        config: IntroductionsConfig | None = None,
    ) -> None:
        self.on_offer: OfferHandler | None = None
        self.alternates: Callable[[], Sequence[Contact]] = _nobody
        self.read_contacts: ContactReader = _read_nobody
        self.on_signal: SignalHandler | None = None
        self._rpc = rpc
        self._desk = desk
        self._wall_clock = wall_clock
        self._config = config or IntroductionsConfig()
        # Of a desk for others only its limits are used here.
        self._direct_desk = IntroducerDesk(self._config.direct)
        self._direct = 0
        self._own_handle: bytes | None = None
        self._is_own_introducer = False
        self._introducers: dict[Endpoint, float] = {}
        self._registered_from: dict[Endpoint, Endpoint] = {}
        self._issued_at: dict[bytes, int] = {}
        self._nursery: trio.Nursery | None = None
        self._word = b""
        self._word_came = trio.Event()
        self._pending = 0
        self._passed = 0
        self._refused = 0
        self._answered = 0
        rpc.serve(Register, self._serve_register)
        rpc.serve(Introduce, self._serve_introduce)
        rpc.serve(Offer, self._serve_offer)
        rpc.serve(Signal, self._serve_signal)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Host the introductions under way until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def is_stranger(self, entry: IntroducerEntry) -> bool:
        """Whether we hold no token of this introducer."""
        return not self._rpc.token_for(entry.endpoint)

    async def introduce(self, entry: IntroducerEntry, sealed: bytes) -> bytes:
        """Send a sealed offer through one introducer; returns the sealed answer.

        Raises:
            IntroductionRefused: the introducer or the target said no, and why.
            PeerUnreachable: the introducer did not answer, or is where a stranger's
                record cannot send us: in our own network.
        """
        if entry.node_id == self._rpc.node_id:
            return await self._pass_on(entry.handle, self._rpc.local, sealed)
        if not self._rpc.may_be_sent_to(entry.endpoint):
            await trio.lowlevel.checkpoint()
            raise PeerUnreachable(
                f"introducer {entry.endpoint} is in a private network, while our nodes "
                "are in the Internet"
            )
        request = Introduce(entry.handle, OFFER_LIFETIME_S, sealed)
        try:
            answer = await self._rpc.request(entry.endpoint, request)
        except RequestRefused as refusal:
            raise refused(refusal) from None
        except RequestTimeout:
            text = f"introducer {entry.endpoint} does not answer"
            raise PeerUnreachable(text) from None
        if not isinstance(answer.body, Introduced):
            raise PeerUnreachable(f"introducer {entry.endpoint} answered out of turn")
        return answer.body.sealed

    async def offer_directly(
        self, endpoint: Endpoint, handle: bytes, sealed: bytes
    ) -> bytes:
        """Send a sealed offer to where its target was reached before.

        A PING goes first: whoever lives there now may know nothing of us, and need not
        be sent a kilobyte to find out. It is repeated, as the target may just start.

        Raises:
            IntroductionRefused: whoever is there said no, and why.
            PeerUnreachable: nobody is there who answers.
        """
        try:
            with trio.fail_after(DIRECT_S):
                while not self._rpc.token_for(endpoint):
                    await self._ping(endpoint)
            answer = await self._rpc.request(endpoint, Offer(handle, sealed))
        except RequestRefused as refusal:
            raise refused(refusal) from None
        except (RequestTimeout, trio.TooSlowError):
            text = f"nobody answers at the last known address {endpoint}"
            raise PeerUnreachable(text) from None
        if not isinstance(answer.body, Answered):
            raise PeerUnreachable(f"{endpoint} answered an offer out of turn")
        return answer.body.sealed

    async def signal(
        self,
        endpoint: Endpoint,
        handle: bytes,
        sealed: bytes,
        *,
        is_hearsay: bool = False,
    ) -> None:
        """Send a sealed signal to an introducer of its target, or to the target.

        With `is_hearsay`, where only the target says that anybody is there, a PING goes
        first to whoever never answered us. Gateways do the same by themselves.

        Raises:
            IntroductionRefused: whoever is there said no, and why.
            PeerUnreachable: nobody is there who answers.
        """
        rpc = self._rpc
        is_strange = is_hearsay and rpc.last_heard(endpoint) is None
        try:
            if is_strange and not rpc.detour.gateways:
                await rpc.request(endpoint, Ping(), is_for_another=True)
            await rpc.request(endpoint, Signal(handle, sealed))
        except RequestRefused as refusal:
            raise refused(refusal) from None
        except RequestTimeout:
            raise PeerUnreachable(f"{endpoint} does not answer a signal") from None

    def may_be_asked(self, endpoint: Endpoint) -> bool:
        """Whether a peer's word is enough to take this for an introducer."""
        return self._rpc.may_be_sent_to(endpoint)

    def is_registered_here(self, handle: bytes) -> bool:
        """Whether we are ourselves an introducer of that handle."""
        return self._desk.holds(handle)

    async def signal_registered(self, handle: bytes, sealed: bytes) -> None:
        """Send a signal to whoever is registered with ourselves.

        Raises:
            IntroductionRefused, PeerUnreachable: nobody is, or it does not answer.
        """
        now = trio.current_time()
        size = len(sealed)
        target = self._desk.route(handle, self._rpc.local, now, sealed_size=size)
        await self.signal(target, handle, sealed)

    async def _ping(self, endpoint: Endpoint) -> None:
        with contextlib.suppress(RequestTimeout):
            await self._rpc.request(endpoint, Ping())
        if not self._rpc.token_for(endpoint):
            # It may have failed at once: too many requests are under way.
            await trio.sleep(DIRECT_PAUSE_S)

    def live_at(self, location_public: bytes) -> None:
        """Take offers for this location, from known addresses even unregistered."""
        self._own_handle = handle_of(location_public)

    def expect_word(self, word: bytes) -> trio.Event:
        """Answer an OFFER of just this word with it, and set what is returned.

        It is our own knock at our own door (`docs/protocols/introductions.md` section
        8), and counts only from an introducer. A new word replaces the one before.
        """
        self._word, self._word_came = word, trio.Event()
        return self._word_came

    async def is_alive(self, named: Contact) -> bool:
        """Whether a node that somebody named is there and is who it is said to be."""
        if not self._rpc.may_be_sent_to(named.endpoint):
            await trio.lowlevel.checkpoint()
            return False
        try:
            answer = await self._rpc.request(named.endpoint, Ping())
        except NetworkError:
            return False
        return answer.contact == named and not answer.leaf

    def alternates_of(
        self, introducer: Contact, refusal: RequestRefused
    ) -> Sequence[Contact]:
        """Whom a busy node named instead of itself, as far as they may be asked."""
        return self.read_contacts(introducer.endpoint, refusal.alternates)

    async def standing(self, introducer: Contact) -> Standing:
        """Whether an introducer answers and we are still where it knows us."""
        known = self._registered_from.get(introducer.endpoint)
        try:
            answer = await self._rpc.request(introducer.endpoint, Ping())
        except NetworkError:
            return Standing.GONE
        if answer.contact != introducer:
            return Standing.GONE
        return Standing.KEPT if answer.observed == known else Standing.MOVED

    async def register(
        self, introducer: Contact, location: SigningKey, lifetime_s: int
    ) -> int:
        """Register with an introducer; returns the seconds that it grants.

        Raises:
            RequestTimeout, RequestRefused: no answer, or a refusal.
        """
        observed = await self._rpc.observed_by(introducer.endpoint)
        try:
            return await self._register_from(observed, introducer, location, lifetime_s)
        except RequestRefused as refusal:
            # What we signed names our address. The refusal tells where it sees us now.
            moved = await self._rpc.observed_by(introducer.endpoint)
            if refusal.code != RefusalCode.MALFORMED or moved == observed:
                raise
        return await self._register_from(moved, introducer, location, lifetime_s)

    async def _register_from(
        self,
        observed: Endpoint,
        introducer: Contact,
        location: SigningKey,
        lifetime_s: int,
    ) -> int:
        unsigned = Register(
            handle_of(location.public),
            lifetime_s,
            int(self._wall_clock()),
            location.public,
            bytes(64),
        )
        statement = registration_statement(
            self._rpc.network_id, introducer.node_id, observed, unsigned
        )
        signed = Register(
            unsigned.handle,
            unsigned.lifetime_s,
            unsigned.issued_at,
            unsigned.public_key,
            location.sign(statement),
        )
        answer = await self._rpc.request(introducer.endpoint, signed)
        if not isinstance(answer.body, Registered):
            raise RequestRefused(0, "the introducer answered out of turn")
        granted_s = min(answer.body.lifetime_s, lifetime_s)
        self._own_handle = signed.handle
        self._note_introducer(introducer.endpoint, granted_s, observed)
        return granted_s

    def _note_introducer(
        self, endpoint: Endpoint, granted_s: float, observed: Endpoint
    ) -> None:
        now = trio.current_time()
        live = {e: until for e, until in self._introducers.items() if until >= now}
        self._introducers = live | {endpoint: now + granted_s}
        seen = {e: at for e, at in self._registered_from.items() if e in live}
        self._registered_from = seen | {endpoint: observed}
        self._rpc.watch_writes(self._introducers)

    def silence_s(self, introducer: Contact) -> float:
        """For how long we have sent nothing to an introducer, for whatever reason."""
        written_at = self._rpc.last_written(introducer.endpoint)
        return 0.0 if written_at is None else trio.current_time() - written_at

    def serve_own(self, location_public: bytes) -> IntroducerEntry:
        """Be our own introducer: for nodes that everybody can reach."""
        self._own_handle = handle_of(location_public)
        self._is_own_introducer = True
        return IntroducerEntry(
            node_id=self._rpc.node_id,
            endpoint=self._rpc.local,
            handle=self._own_handle,
        )

    def statistics(self) -> IntroductionsStatistics:
        """Counters since the start."""
        desk = self._desk.statistics()
        return IntroductionsStatistics(
            registered=desk.registrations,
            passed=self._passed,
            direct=self._direct,
            refused=self._refused,
            answered=self._answered,
            pending=self._pending,
            desk=desk,
        )

    def _serve_register(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Register)
        _require_proven_address(request)
        if body.handle != handle_of(body.public_key):
            raise Refuse(RefusalCode.MALFORMED, "the handle is not the key's")
        statement = registration_statement(
            self._rpc.network_id, self._rpc.node_id, request.seen_at, body
        )
        if not verify(body.public_key, statement, body.signature):
            raise Refuse(RefusalCode.MALFORMED, "the signature does not verify")
        now = trio.current_time()
        # An older statement is a replay: the address it names may be another's by now.
        if body.issued_at < self._issued_at.get(body.handle, 0):
            raise Refuse(RefusalCode.EXPIRED, "a newer registration is held")
        try:
            granted = self._desk.register(
                body.handle,
                request.source,
                body.lifetime_s,
                now,
                seen_at=request.seen_at,
            )
        except IntroductionRefused as refusal:
            others = tuple(self.alternates()) if body.lifetime_s else ()
            raise Refuse(refusal.code, refusal.detail, others) from None
        self._remember_issue(body.handle, body.issued_at)
        return Registered(int(granted))

    def _remember_issue(self, handle: bytes, issued_at: int) -> None:
        self._issued_at.pop(handle, None)
        self._issued_at[handle] = issued_at
        while len(self._issued_at) > self._config.max_remembered:
            del self._issued_at[next(iter(self._issued_at))]

    def _serve_introduce(self, request: IncomingRequest) -> Reply | None:
        _require_proven_address(request)
        self._start(request, self._pass_for)
        return None

    def _serve_offer(self, request: IncomingRequest) -> Reply | None:
        body = request.body
        assert isinstance(body, Offer)
        if body.handle != self._own_handle:
            raise Refuse(RefusalCode.UNKNOWN_TARGET, "nobody of that handle lives here")
        now = trio.current_time()
        if self._introducers.get(request.source, -math.inf) < now:
            self._admit_direct(request, now)
        elif body.sealed == self._word:
            self._word_came.set()
            return Answered(self._word)
        self._start(request, self._answer_for)
        return None

    def _serve_signal(self, request: IncomingRequest) -> Reply | None:
        body = request.body
        assert isinstance(body, Signal)
        if body.handle == self._own_handle:
            # Only the holder of a connection's keys can say anything by it, so from
            # where it comes does not matter.
            if self.on_signal is not None:
                self.on_signal(body.sealed)
            return Noted()
        _require_proven_address(request)
        self._start(request, self._pass_signal)
        return None

    async def _pass_signal(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Signal)
        now, size = trio.current_time(), len(body.sealed)
        target = self._desk.route(body.handle, request.source, now, sealed_size=size)
        # One way: who sends it learns from the target itself that it arrived.
        self._rpc.reply(request, Noted())
        with contextlib.suppress(NetworkError):
            await self._rpc.request(target, body)
            self._passed += 1
        return Noted()

    def _admit_direct(self, request: IncomingRequest, now: float) -> None:
        """Whether an offer without an introducer is worth opening.

        An introducer limits its callers; here we do it ourselves. The address must be
        proven: an answer makes us check the candidates that the caller names.
        """
        _require_proven_address(request)
        try:
            self._direct_desk.spend(request.seen_at, now)
        except IntroductionRefused as refusal:
            raise Refuse(refusal.code, refusal.detail) from None
        self._direct += 1

    def _start(self, request: IncomingRequest, work: RequestWork) -> None:
        if self._nursery is None or self._pending >= self._config.max_pending:
            self._refused += 1
            raise Refuse(RefusalCode.BUSY, "too many introductions under way")
        # Counted here, not in the task: a burst arrives before any task runs.
        self._pending += 1
        self._nursery.start_soon(self._run_one, request, work)

    async def _run_one(self, request: IncomingRequest, work: RequestWork) -> None:
        try:
            with trio.fail_after(OFFER_LIFETIME_S):
                self._rpc.reply(request, await work(request))
        except IntroductionRefused as refusal:
            self._refuse(request, refusal.code, refusal.detail)
        except (NetworkError, trio.TooSlowError):
            self._refuse(request, RefusalCode.UNKNOWN_TARGET, "no answer")
        finally:
            self._pending -= 1

    def _refuse(self, request: IncomingRequest, code: int, detail: str) -> None:
        self._refused += 1
        self._rpc.refuse(request, code, detail)

    async def _pass_for(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Introduce)
        answer = await self._pass_on(body.handle, request.seen_at, body.sealed)
        return Introduced(answer)

    async def _pass_on(self, handle: bytes, source: Endpoint, sealed: bytes) -> bytes:
        now = trio.current_time()
        if self._is_own_introducer and handle == self._own_handle:
            self._desk.spend(source, now)
            return await self._answer(sealed)
        target = self._desk.route(handle, source, now, sealed_size=len(sealed))
        try:
            with trio.fail_after(TARGET_S):
                answer = await self._rpc.request(target, Offer(handle, sealed))
        except RequestRefused as refusal:
            raise refused(refusal) from None
        except (RequestTimeout, trio.TooSlowError):
            logger.debug("the target of handle %s does not answer", short(handle))
            raise IntroductionRefused(
                RefusalCode.UNKNOWN_TARGET, "the target does not answer its introducer"
            ) from None
        if not isinstance(answer.body, Answered):
            raise IntroductionRefused(
                RefusalCode.MALFORMED, "the target answered out of turn"
            )
        self._passed += 1
        sealed_answer = answer.body.sealed
        now = trio.current_time()
        self._desk.answered(source, now, sealed_size=len(sealed_answer))
        return sealed_answer

    async def _answer_for(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Offer)
        return Answered(await self._answer(body.sealed))

    async def _answer(self, offer: bytes) -> bytes:
        if self.on_offer is None:
            raise IntroductionRefused(RefusalCode.UNKNOWN_TARGET, "nobody lives here")
        sealed = await self.on_offer(offer)
        self._answered += 1
        return sealed


def _nobody() -> Sequence[Contact]:
    return ()


def _read_nobody(reporter: Endpoint, packed: Iterable[bytes]) -> Sequence[Contact]:
    del reporter, packed
    return ()


def _require_proven_address(request: IncomingRequest) -> None:
    """Whoever makes us send to others shows first that it receives where it says.

    Otherwise a spoofed address could register a victim, and small requests in many
    names would become large offers to it.
    """
    if not request.verified:
        raise Refuse(FailureCode.TOKEN_NEEDED, "")


def refused(refusal: RequestRefused) -> PeerUnreachable:
    """The refusal of a request as the refusal of an introduction."""
    try:
        code = RefusalCode(refusal.code)
    except ValueError:
        return PeerUnreachable(f"the introducer refused: {refusal.detail}")
    return IntroductionRefused(code, refusal.detail)
