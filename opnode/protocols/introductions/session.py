"""One introduction, seen from the caller's or from the callee's end.

Owns the steps of a single offer and its answer, and the proof of who sent them.
Refuses to know other introductions: glare, replays and limits are the desk's, which a
session sees only as its `Ledger`.
"""

import enum
from dataclasses import dataclass, field
from typing import Final, Protocol

from opnode.core.addresses import IceHalf
from opnode.core.crypto import TransportKeys
from opnode.core.errors import (
    ExpiredRecord,
    IntroductionRefused,
    LocalProtocolError,
    RecordError,
    RefusalCode,
    RemoteProtocolError,
)
from opnode.core.peerfile import LocationCertificate, unpack_certificate_untrusted
from opnode.protocols.introductions.handshake import Initiator, Responder
from opnode.protocols.introductions.messages import (
    NO_RENDEZVOUS,
    Half,
    Rendezvous,
    decode_untrusted,
    encode,
)
from opnode.protocols.introductions.parts import MAX_SEALED, MAX_WHOLE

# Noise message 2 adds an ephemeral key and a tag to its payload.
_SEAL_SIZE: Final = 32 + 16
ANSWER_ROOMS: Final = (MAX_WHOLE - _SEAL_SIZE, MAX_SEALED - _SEAL_SIZE)


class IntroductionState(enum.Enum):
    """Where an introduction stands; only the first state can be left."""

    PENDING = "pending"
    ESTABLISHED = "established"
    DECLINED = "declined"
    SUPERSEDED = "superseded by the other side's call"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Established:
    """What both ends hold after an introduction.

    Attributes:
        keys: Transport keys; the other end has them with directions exchanged.
        peer: The verified certificate of the other location.
        ice: The other end's ICE half.
        rendezvous: The other end's introducers and relays.
        early_data: What the other end sent along; replayable when it is an offer's.
        initiator: Whether we made the offer.
        offer_digest: SHA-256 of the offer; names the introduction at both ends.
    """

    keys: TransportKeys
    peer: LocationCertificate
    ice: IceHalf
    rendezvous: Rendezvous
    early_data: bytes = field(repr=False)
    initiator: bool
    offer_digest: bytes


class Ledger(Protocol):
    """What a session reports to its desk, and what it needs from there."""

    def outgoing_answered(
        self, introduction: "OutgoingIntroduction", withdrawn: tuple[bytes, ...]
    ) -> None:
        """An authentic answer came in."""
        ...

    def outgoing_failed(self, introduction: "OutgoingIntroduction") -> None:
        """An authentic answer came in that cannot be used."""
        ...

    def own_half(
        self,
        remote_static: bytes,
        ice: IceHalf,
        early_data: bytes,
        rendezvous: Rendezvous,
    ) -> Half:
        """Return what we say to that location."""
        ...

    def incoming_answered(
        self, introduction: "IncomingIntroduction", answer: bytes
    ) -> None:
        """The answer was written; it must be the same for every copy of the offer."""
        ...

    def incoming_declined(
        self, introduction: "IncomingIntroduction", code: RefusalCode
    ) -> None:
        """The owner said no."""
        ...


class OutgoingIntroduction:
    """Our offer to one location; made by `IntroductionDesk.offer`."""

    __slots__ = ("_handshake", "_ledger", "digest", "message", "remote", "state")

    message: bytes
    digest: bytes
    remote: LocationCertificate
    state: IntroductionState

    def __init__(
        self,
        ledger: Ledger,
        handshake: Initiator,
        *,
        remote: LocationCertificate,
        message: bytes,
        digest: bytes,
    ) -> None:
        self._ledger = ledger
        self._handshake = handshake
        self.remote = remote
        self.message = message
        self.digest = digest
        self.state = IntroductionState.PENDING

    def receive_answer_untrusted(self, data: bytes, wall_now: float) -> Established:
        """Turn the answer into a connection's beginnings.

        Args:
            data: The sealed answer, from whoever.
            wall_now: Unix seconds, for the expiry of the certificate.

        Raises:
            RemoteProtocolError: Not an answer to this offer; ignore it and go on
                waiting for the genuine one.
            IntroductionRefused: GLARE: the other side's call won meanwhile. EXPIRED:
                answered or finished before, or the callee's certificate has expired.
                MALFORMED: the callee answered what makes no sense; the attempt is over.
        """
        if self.state is IntroductionState.SUPERSEDED:
            raise IntroductionRefused(RefusalCode.GLARE, "this offer was superseded")
        if self.state is not IntroductionState.PENDING:
            raise IntroductionRefused(
                RefusalCode.EXPIRED, f"this offer is {self.state.value}"
            )
        if len(data) > MAX_SEALED:
            raise RemoteProtocolError(
                f"answer: found {len(data)} bytes, expected at most {MAX_SEALED}"
            )
        payload = self._handshake.read_message_2_untrusted(data)
        try:
            half, peer = read_half_untrusted(
                payload, self.remote.static_public, wall_now
            )
            self._require_called(peer)
        except IntroductionRefused:
            self._ledger.outgoing_failed(self)
            raise
        self._ledger.outgoing_answered(self, half.withdrawn)
        return Established(
            keys=self._handshake.keys,
            peer=peer,
            ice=half.ice,
            rendezvous=half.rendezvous,
            early_data=half.early_data,
            initiator=True,
            offer_digest=self.digest,
        )

    def _require_called(self, peer: LocationCertificate) -> None:
        if peer.peer_id != self.remote.peer_id:
            raise IntroductionRefused(
                RefusalCode.MALFORMED, "another identity answered than was called"
            )


class IncomingIntroduction:
    """A location's offer to us; made by `IntroductionDesk.receive_offer_untrusted`.

    Whoever holds our own static key can forge an offer in anybody's name, and anybody
    can replay one: `peer` is proven only by the first packet under the transport keys.
    """

    __slots__ = ("_half", "_handshake", "_ledger", "digest", "peer", "state")

    digest: bytes
    peer: LocationCertificate
    state: IntroductionState

    def __init__(
        self,
        ledger: Ledger,
        handshake: Responder,
        *,
        half: Half,
        peer: LocationCertificate,
        digest: bytes,
    ) -> None:
        self._ledger = ledger
        self._handshake = handshake
        self._half = half
        self.peer = peer
        self.digest = digest
        self.state = IntroductionState.PENDING

    @property
    def ice(self) -> IceHalf:
        """The caller's ICE half."""
        return self._half.ice

    @property
    def rendezvous(self) -> Rendezvous:
        """The caller's introducers and relays."""
        return self._half.rendezvous

    @property
    def early_data(self) -> bytes:
        """What the caller sent along; replayable, so act on it at most once."""
        return self._half.early_data

    def answer(
        self,
        ice: IceHalf,
        *,
        early_data: bytes = b"",
        rendezvous: Rendezvous = NO_RENDEZVOUS,
    ) -> tuple[bytes, Established]:
        """Accept: return the sealed answer and the connection's beginnings.

        Raises:
            IntroductionRefused: The caller withdrew the offer, or it waited too long.
            LocalProtocolError: Answered or declined before, or too much early data.
        """
        self._require_pending()
        static = self.peer.static_public
        half = self._ledger.own_half(static, ice, early_data, rendezvous)
        answer = self._handshake.write_message_2(encode(half, ANSWER_ROOMS))
        self._ledger.incoming_answered(self, answer)
        established = Established(
            keys=self._handshake.keys,
            peer=self.peer,
            ice=self.ice,
            rendezvous=self.rendezvous,
            early_data=self.early_data,
            initiator=False,
            offer_digest=self.digest,
        )
        return answer, established

    def decline(self, code: RefusalCode = RefusalCode.DECLINED) -> None:
        """Say no; further copies of the offer are refused with the same code.

        Raises:
            IntroductionRefused: The caller withdrew the offer, or it waited too long.
            LocalProtocolError: Answered or declined before.
        """
        self._require_pending()
        self._ledger.incoming_declined(self, code)

    def _require_pending(self) -> None:
        if self.state is IntroductionState.FINISHED:
            raise IntroductionRefused(
                RefusalCode.EXPIRED, "withdrawn by the caller or left undecided"
            )
        if self.state is not IntroductionState.PENDING:
            raise LocalProtocolError("an introduction is decided once, it was already")


def read_half_untrusted(
    payload: bytes, static_public: bytes, wall_now: float
) -> tuple[Half, LocationCertificate]:
    """Parse a payload and prove who sent it.

    Args:
        payload: As it came out of a handshake message.
        static_public: The static key that the handshake authenticated.
        wall_now: Unix seconds.

    Raises:
        IntroductionRefused: MALFORMED or EXPIRED. What exactly is wrong is its cause
            and not its text, which travels through introducers and must not tell them
            who calls or from where (I-2).
    """
    try:
        half = decode_untrusted(payload)
        certificate = unpack_certificate_untrusted(half.certificate)
        _require_certified(certificate, static_public)
        certificate.verify(wall_now)
    except ExpiredRecord as error:
        raise IntroductionRefused(
            RefusalCode.EXPIRED, "the sender's certificate has expired"
        ) from error
    except (RemoteProtocolError, RecordError) as error:
        raise IntroductionRefused(
            RefusalCode.MALFORMED, f"the sealed payload is a {type(error).__name__}"
        ) from error
    return half, certificate


def _require_certified(certificate: LocationCertificate, static_public: bytes) -> None:
    if certificate.static_public != static_public:
        raise RemoteProtocolError(
            "the certificate is for another static key than the handshake's"
        )
