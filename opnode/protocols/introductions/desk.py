"""All introductions of one location: who calls whom, and which call goes on.

Owns the offers under way in both directions, the answers kept for repeated offers, the
memory of replays and withdrawals, and the rule for glare. Sans-I/O: bytes come in and
go out as values, `now` is monotonic. Refuses to know how messages travel, what the
owner's policy is, and whether a connection comes of an introduction.

The numbered rules (I-…) are those of ``docs/protocols/introductions.md``.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from opnode.core.addresses import IceHalf
from opnode.core.crypto import StaticKey, sha256
from opnode.core.errors import (
    IntroductionRefused,
    LocalProtocolError,
    RefusalCode,
    RemoteProtocolError,
)
from opnode.core.ids import PeerId, short
from opnode.core.peerfile import Location, LocationCertificate
from opnode.protocols.introductions.events import (
    Event,
    IncomingWithdrawn,
    OutgoingSuperseded,
)
from opnode.protocols.introductions.handshake import Handshakes, Responder
from opnode.protocols.introductions.messages import (
    MAX_WITHDRAWN,
    NO_RENDEZVOUS,
    WITHDRAWN_LENGTH,
    Half,
    Rendezvous,
    encode,
)
from opnode.protocols.introductions.parts import MAX_SEALED, MAX_WHOLE
from opnode.protocols.introductions.replay import ReplayMemory
from opnode.protocols.introductions.session import (
    IncomingIntroduction,
    IntroductionState,
    OutgoingIntroduction,
    read_half_untrusted,
)

_PROLOGUE: Final = b"opnode introduction 2"
# Noise message 1 adds an ephemeral key, a sealed static key and two tags.
_OFFER_ROOMS: Final = tuple(
    size - (32 + 32 + 16 + 16) for size in (MAX_WHOLE, MAX_SEALED)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroductionConfig:
    """The desk's limits, each with its reason.

    Attributes:
        answer_lifetime_s: How long an offer may wait for a decision, and a decision
            is kept for copies of the offer: longer than introducers keep an offer.
        max_outgoing: Calls being made at once; a person makes few, a bot many.
        max_deciding: Offers awaiting a decision; more than a person can look at.
        max_deciding_per_caller: One call and the attempt that replaces it.
        max_decided: Answers and refusals kept, at 1.1 kB each half a megabyte.
        max_callers: Callers whose offers are remembered against replay.
        offers_per_caller: Remembered offers of each: five calls of three attempts.
    """

    answer_lifetime_s: float = 30.0
    max_outgoing: int = 256
    max_deciding: int = 64
    max_deciding_per_caller: int = 2
    max_decided: int = 512
    max_callers: int = 1024
    offers_per_caller: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroductionStatistics:
    """Counters since the desk began, and what it holds now."""

    offers_made: int
    offers_taken: int
    answers_given: int
    answers_taken: int
    superseded: int
    withdrawn: int
    refused: dict[RefusalCode, int]
    outgoing: int
    deciding: int
    decided: int
    callers_remembered: int


@dataclass(slots=True, kw_only=True)
class _Decision:
    """An offer's fate; `answer` is None when it was refused or is over."""

    remote_static: bytes
    answer: bytes | None
    refusal: RefusalCode
    expires_at: float


class IntroductionDesk:
    """The introductions of one location."""

    def __init__(
        self,
        location: Location,
        *,
        handshakes: Handshakes,
        new_ephemeral: Callable[[], StaticKey] = StaticKey.generate,
        config: IntroductionConfig | None = None,
    ) -> None:
        """Open a desk.

        Args:
            location: Our keys and the certificate that others get to see.
            handshakes: The two roles of the handshake that seals introductions.
            new_ephemeral: Source of fresh keys, one for each introduction.
            config: The limits.
        """
        self._location = location
        self._certificate = location.certificate.pack()
        self._own_static = location.static.public
        self._handshakes = handshakes
        self._new_ephemeral = new_ephemeral
        self._config = config or IntroductionConfig()
        self._outgoing: dict[bytes, OutgoingIntroduction] = {}
        self._deciding: OrderedDict[bytes, tuple[float, IncomingIntroduction]] = (
            OrderedDict()
        )
        self._decided: OrderedDict[bytes, _Decision] = OrderedDict()
        self._withdrawn: OrderedDict[bytes, deque[bytes]] = OrderedDict()
        self._replays = ReplayMemory(
            max_callers=self._config.max_callers,
            per_caller=self._config.offers_per_caller,
        )
        # The owner takes events after every call; one that does not loses old ones.
        self._events: deque[Event] = deque(
            maxlen=self._config.max_outgoing + self._config.max_decided
        )
        self._counters: Counter[str] = Counter()
        self._refused: Counter[RefusalCode] = Counter()
        self._now = 0.0

    def adopt(self, location: Location) -> None:
        """Show a renewed certificate of the same location from now on."""
        assert location.static.public == self._own_static
        self._location = location
        self._certificate = location.certificate.pack()

    def offer(
        self,
        remote: LocationCertificate,
        ice: IceHalf,
        now: float,
        *,
        early_data: bytes = b"",
        rendezvous: Rendezvous = NO_RENDEZVOUS,
    ) -> OutgoingIntroduction:
        """Call a location.

        Args:
            remote: Its certificate, verified by the caller of this method.
            ice: Our ICE half.
            now: Monotonic seconds.
            early_data: Bytes for the application over there; replayable.
            rendezvous: Our introducers and relays.

        Raises:
            IntroductionRefused: GLARE: that location is calling us, use that call.
                BUSY: too many calls are being made.
            LocalProtocolError: That location is being called already, is ourselves, or
                the early data does not fit.
            RemoteProtocolError: The location's key is a low-order point.
        """
        self._advance(now)
        static = remote.static_public
        self._require_may_call(static)
        handshake = self._handshakes.initiator(
            self._location.static,
            static,
            ephemeral=self._new_ephemeral(),
            prologue=_prologue(remote.peer_id),
        )
        half = self.own_half(static, ice, early_data, rendezvous)
        payload = encode(half, _OFFER_ROOMS)
        message = handshake.write_message_1(payload)
        outgoing = OutgoingIntroduction(
            self, handshake, remote=remote, message=message, digest=sha256(message)
        )
        self._outgoing[static] = outgoing
        self._counters["offers made"] += 1
        return outgoing

    def cached_answer(self, data: bytes, now: float) -> bytes | None:
        """Return the answer given before to exactly this offer, for 30 s (I-6)."""
        self._advance(now)
        decision = self._decided.get(sha256(data))
        return None if decision is None else decision.answer

    def receive_offer_untrusted(
        self, data: bytes, now: float, *, wall_now: float
    ) -> IncomingIntroduction | None:
        """Take an offer; ask `cached_answer` first.

        Args:
            data: The sealed offer, from whoever.
            now: Monotonic seconds.
            wall_now: Unix seconds, for the expiry of the caller's certificate.

        Returns:
            The introduction to answer or decline, or None when it is being decided
            already: stay silent, a later copy will find the answer.

        Raises:
            IntroductionRefused: With the code to send back.
        """
        self._advance(now)
        try:
            return self._receive_offer_untrusted(data, wall_now)
        except IntroductionRefused as refusal:
            self._refused[refusal.code] += 1
            raise

    def finish(self, introduction: OutgoingIntroduction | IncomingIntroduction) -> None:
        """End an introduction: given up, or its connection is over.

        Afterwards the location may be called again, and the other side is told with
        the next message that an unanswered offer of ours is void (I-8).
        """
        if introduction.state is IntroductionState.SUPERSEDED:
            return
        if isinstance(introduction, OutgoingIntroduction):
            if introduction.state is IntroductionState.PENDING:
                self._give_up(introduction)
        else:
            self._deciding.pop(introduction.digest, None)
            decision = self._decided.get(introduction.digest)
            if decision is not None:
                decision.answer = None
        introduction.state = IntroductionState.FINISHED

    def next_event(self) -> Event | None:
        """Return what happened since, oldest first; None when nothing is left."""
        return self._events.popleft() if self._events else None

    def statistics(self) -> IntroductionStatistics:
        """Return the counters."""
        return IntroductionStatistics(
            offers_made=self._counters["offers made"],
            offers_taken=self._counters["offers taken"],
            answers_given=self._counters["answers given"],
            answers_taken=self._counters["answers taken"],
            superseded=self._counters["superseded"],
            withdrawn=self._counters["withdrawn"],
            refused=dict(self._refused),
            outgoing=len(self._outgoing),
            deciding=len(self._deciding),
            decided=len(self._decided),
            callers_remembered=len(self._replays),
        )

    # What sessions report: the `Ledger` of session.py.

    def own_half(
        self,
        remote_static: bytes,
        ice: IceHalf,
        early_data: bytes,
        rendezvous: Rendezvous = NO_RENDEZVOUS,
    ) -> Half:
        """Return what we say to that location, with the offers we disown (I-8)."""
        return Half(
            certificate=self._certificate,
            ice=ice,
            withdrawn=tuple(self._withdrawn.get(remote_static, ())),
            early_data=early_data,
            rendezvous=rendezvous,
        )

    def outgoing_answered(
        self, introduction: OutgoingIntroduction, withdrawn: tuple[bytes, ...]
    ) -> None:
        """Note that our offer was answered: the other side knows what we disowned."""
        static = introduction.remote.static_public
        introduction.state = IntroductionState.ESTABLISHED
        self._outgoing.pop(static, None)
        self._withdrawn.pop(static, None)
        self._withdraw_incoming(static, withdrawn)
        self._counters["answers taken"] += 1

    def outgoing_failed(self, introduction: OutgoingIntroduction) -> None:
        """Note that our offer was answered with what cannot be used."""
        self._give_up(introduction)
        introduction.state = IntroductionState.FINISHED

    def incoming_answered(
        self, introduction: IncomingIntroduction, answer: bytes
    ) -> None:
        """Keep the answer for copies of the offer."""
        introduction.state = IntroductionState.ESTABLISHED
        self._decide(introduction, answer, RefusalCode.EXPIRED)
        self._counters["answers given"] += 1

    def incoming_declined(
        self, introduction: IncomingIntroduction, code: RefusalCode
    ) -> None:
        """Keep the refusal for copies of the offer."""
        introduction.state = IntroductionState.DECLINED
        self._decide(introduction, None, code)
        self._refused[code] += 1

    # Helpers, in the order of their use.

    def _advance(self, now: float) -> None:
        """Let go of what is too old; both tables are in order of their time."""
        assert now >= self._now, f"now went back from {self._now} to {now}"
        self._now = now
        while self._deciding:
            expires_at, introduction = next(iter(self._deciding.values()))
            if expires_at > now:
                break
            self._deciding.popitem(last=False)
            introduction.state = IntroductionState.FINISHED
        while self._decided:
            if next(iter(self._decided.values())).expires_at > now:
                break
            self._decided.popitem(last=False)

    def _require_may_call(self, static: bytes) -> None:
        if static == self._own_static:
            raise LocalProtocolError("a location cannot call itself")
        if static in self._outgoing:
            raise LocalProtocolError(
                f"location {short(static)} is being called; finish that call first"
            )
        if self._is_called_by(static):
            raise IntroductionRefused(
                RefusalCode.GLARE, f"location {short(static)} is calling us"
            )
        if len(self._outgoing) >= self._config.max_outgoing:
            raise IntroductionRefused(
                RefusalCode.BUSY, f"{len(self._outgoing)} calls are being made"
            )

    def _is_called_by(self, static: bytes) -> bool:
        """I-5: whoever has taken a call from there does not call back."""
        return self._count_deciding(static) > 0 or any(
            decision.remote_static == static and decision.answer is not None
            for decision in self._decided.values()
        )

    def _count_deciding(self, static: bytes) -> int:
        return sum(
            introduction.peer.static_public == static
            for _, introduction in self._deciding.values()
        )

    def _receive_offer_untrusted(
        self, data: bytes, wall_now: float
    ) -> IncomingIntroduction | None:
        digest = sha256(data)
        if digest in self._deciding:
            return None
        self._require_new(digest, len(data))
        handshake, payload = self._open_untrusted(data)
        static = handshake.remote_static
        if self._replays.has(static, digest[:WITHDRAWN_LENGTH]):
            _refuse(RefusalCode.EXPIRED, "this offer was seen before")
        half, peer = read_half_untrusted(payload, static, wall_now)
        self._withdraw_incoming(static, half.withdrawn)
        if self._count_deciding(static) >= self._config.max_deciding_per_caller:
            _refuse(RefusalCode.BUSY, "earlier offers of this caller await a decision")
        self._decide_glare(static, digest)
        self._replays.remember(static, [digest[:WITHDRAWN_LENGTH]])
        incoming = IncomingIntroduction(
            self, handshake, half=half, peer=peer, digest=digest
        )
        expires_at = self._now + self._config.answer_lifetime_s
        self._deciding[digest] = (expires_at, incoming)
        self._counters["offers taken"] += 1
        return incoming

    def _require_new(self, digest: bytes, size: int) -> None:
        """Refuse what costs nothing to refuse, before any cryptography."""
        decision = self._decided.get(digest)
        if decision is not None:
            _refuse(decision.refusal, "this offer was decided before")
        if size > MAX_SEALED:
            _refuse(
                RefusalCode.MALFORMED,
                f"offer: found {size} bytes, expected at most {MAX_SEALED}",
            )
        if len(self._deciding) >= self._config.max_deciding:
            _refuse(RefusalCode.BUSY, f"{len(self._deciding)} offers await a decision")

    def _open_untrusted(self, data: bytes) -> tuple[Responder, bytes]:
        handshake = self._handshakes.responder(
            self._location.static,
            ephemeral=self._new_ephemeral(),
            prologue=_prologue(self._location.certificate.peer_id),
        )
        try:
            payload = handshake.read_message_1_untrusted(data)
        except RemoteProtocolError as error:
            raise IntroductionRefused(RefusalCode.MALFORMED, str(error)) from None
        if handshake.remote_static == self._own_static:
            _refuse(RefusalCode.MALFORMED, "an offer in our own name")
        return handshake, payload

    def _decide_glare(self, static: bytes, digest: bytes) -> None:
        """I-4: of two offers that cross, the one with the lower digest goes on."""
        ours = self._outgoing.get(static)
        if ours is None:
            return
        if ours.digest < digest:
            _refuse(RefusalCode.GLARE, "our own offer to the caller goes on")
        self._give_up(ours)
        ours.state = IntroductionState.SUPERSEDED
        self._counters["superseded"] += 1
        self._events.append(OutgoingSuperseded(static, ours.digest))

    def _give_up(self, introduction: OutgoingIntroduction) -> None:
        static = introduction.remote.static_public
        self._outgoing.pop(static, None)
        disowned = self._withdrawn.setdefault(static, deque(maxlen=MAX_WITHDRAWN))
        disowned.append(introduction.digest[:WITHDRAWN_LENGTH])
        self._withdrawn.move_to_end(static)
        if len(self._withdrawn) > self._config.max_callers:
            self._withdrawn.popitem(last=False)

    def _withdraw_incoming(self, static: bytes, withdrawn: tuple[bytes, ...]) -> None:
        """I-8: a caller's word that its earlier offers are void, about its own only."""
        if not withdrawn:
            return
        self._replays.remember(static, withdrawn)
        undecided = [item for _, item in self._deciding.values()]
        for introduction in undecided:
            if (
                introduction.peer.static_public == static
                and introduction.digest[:WITHDRAWN_LENGTH] in withdrawn
            ):
                del self._deciding[introduction.digest]
                introduction.state = IntroductionState.FINISHED
                self._note_withdrawn(static, introduction.digest)
        for digest, decision in self._decided.items():
            if (
                decision.remote_static == static
                and decision.answer is not None
                and digest[:WITHDRAWN_LENGTH] in withdrawn
            ):
                decision.answer = None
                self._note_withdrawn(static, digest)

    def _note_withdrawn(self, static: bytes, digest: bytes) -> None:
        self._counters["withdrawn"] += 1
        self._events.append(IncomingWithdrawn(static, digest))

    def _decide(
        self,
        introduction: IncomingIntroduction,
        answer: bytes | None,
        refusal: RefusalCode,
    ) -> None:
        del self._deciding[introduction.digest]
        self._decided[introduction.digest] = _Decision(
            remote_static=introduction.peer.static_public,
            answer=answer,
            refusal=refusal,
            expires_at=self._now + self._config.answer_lifetime_s,
        )
        if len(self._decided) > self._config.max_decided:
            self._decided.popitem(last=False)


def _prologue(callee: PeerId) -> bytes:
    """Bind both messages to the callee's identity, not to its static key alone.

    Without it somebody could certify another's static key as their own location and
    have calls meant for them delivered there.
    """
    return _PROLOGUE + callee


def _refuse(code: RefusalCode, why: str) -> NoReturn:
    """Refuse without naming the caller: the text travels back in the clear (I-2)."""
    raise IntroductionRefused(code, why)
