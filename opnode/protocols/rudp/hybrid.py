"""The post-quantum half of the keys: one ML-KEM-768 exchange inside the connection.

The initiator sends an encapsulation key, the responder answers with a ciphertext and a
proof that it holds the new keys. Both travel in KEY_SHARE frames, two parts each, in
packets that the handshake's keys protect: only the peer of the handshake can take part,
and nobody can take the exchange out. What comes of it is mixed into the first key
update. Owns the two messages; sends nothing.
"""

import enum
from typing import Final

from opnode.core.crypto import (
    CIPHERTEXT_SIZE,
    ENCAPSULATION_KEY_SIZE,
    DecapsulationKey,
    Kem,
    constant_time_equal,
    sha256,
)
from opnode.protocols.rudp.key_schedule import CONFIRMATION_SIZE
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# A message is cut in two so that a part leaves room in a packet of 1200 bytes.
PARTS: Final = 2
# Of the message that the initiator, or not the initiator, sends.
PART_SIZES: Final = {
    True: ENCAPSULATION_KEY_SIZE // PARTS,
    False: (CIPHERTEXT_SIZE + CONFIRMATION_SIZE) // PARTS,
}
_TRANSCRIPT = b"opnode rudp hybrid ML-KEM-768"


class ExchangeState(enum.Enum):
    """How far the exchange is; it only moves downwards.

    WAITING: nothing was sent. OFFERED: the initiator's key is on its way. ANSWERED:
    the responder has the secret, and its answer is on its way. DONE: both have it.
    """

    WAITING = "waiting"
    OFFERED = "offered"
    ANSWERED = "answered"
    DONE = "done"


class HybridExchange:
    """One end's half of the exchange; forgets all of it when it is done."""

    __slots__ = (
        "_initiator",
        "_kem",
        "_key",
        "_message",
        "_parts",
        "keys",
        "state",
    )

    def __init__(self, keys: PacketKeys, kem: Kem) -> None:
        """Start with nothing exchanged.

        Args:
            keys: Where the secret is mixed in.
            kem: Makes the secret.
        """
        self.state = ExchangeState.WAITING
        self._initiator = keys.is_initiator
        self._kem = kem
        self.keys = keys
        self._key: DecapsulationKey | None = None
        self._message = b""
        self._parts: dict[int, bytes] = {}

    @property
    def wants_start(self) -> bool:
        """Whether ``offer`` is to be called, once the first packet has left."""
        return self._initiator and self.state is ExchangeState.WAITING

    @property
    def wants_answer(self) -> bool:
        """Whether the peer waits for our answer."""
        return self.state is ExchangeState.ANSWERED

    def offer(self) -> None:
        """Make a key pair; all parts of our message may be sent from now on."""
        self._key = self._kem.generate()
        self._message = self._key.public
        self.state = ExchangeState.OFFERED

    def part(self, number: int) -> bytes:
        """Return a part of our message; empty when the peer needs it no more."""
        size = PART_SIZES[self._initiator]
        return self._message[number * size : (number + 1) * size]

    def on_part(self, number: int, data: bytes) -> bool:
        """Take in a part of the peer's message; true when it has become complete.

        The next keys are there then, and the responder has a message to send.

        Raises:
            PeerViolationError: KEY_SHARE; the part cannot be right, or it differs
                from what came before, or the two ends have other keys.
        """
        size = PART_SIZES[not self._initiator]
        if number >= PARTS or len(data) != size:
            raise _violation(
                f"part {number} of a key share has {len(data)} bytes, expected "
                f"part 0 to {PARTS - 1} with {size}"
            )
        if self.state in {ExchangeState.ANSWERED, ExchangeState.DONE}:
            # A copy that was sent again before our acknowledgement had arrived.
            return False
        if self.wants_start:
            raise _violation("a key share answers one that was not sent")
        if self._parts.setdefault(number, data) != data:
            raise _violation(f"part {number} of a key share came with other bytes")
        if len(self._parts) < PARTS:
            return False
        message = b"".join(self._parts[index] for index in range(PARTS))
        self._parts.clear()
        if self._initiator:
            self._finish_offer(message)
        else:
            self._answer(message)
        return True

    def finish(self) -> None:
        """The peer uses the new keys: forget the exchange."""
        self.state = ExchangeState.DONE
        self._message = b""
        self._key = None

    def _answer(self, public: bytes) -> None:
        try:
            secret, ciphertext = self._kem.encapsulate(public)
        except ValueError:
            raise _violation("the key share is no encapsulation key") from None
        tag = self.keys.mix(secret, sha256(_TRANSCRIPT, public, ciphertext))
        self._message = ciphertext + tag
        self.state = ExchangeState.ANSWERED

    def _finish_offer(self, answer: bytes) -> None:
        # Made by ``offer``, without which no part is taken in.
        assert self._key is not None
        ciphertext, tag = answer[:CIPHERTEXT_SIZE], answer[CIPHERTEXT_SIZE:]
        secret = self._key.decapsulate(ciphertext)
        transcript = sha256(_TRANSCRIPT, self._key.public, ciphertext)
        if not constant_time_equal(self.keys.mix(secret, transcript), tag):
            raise _violation("the key share gives other keys here than to its sender")
        self.finish()


def _violation(detail: str) -> PeerViolationError:
    return PeerViolationError(CloseCode.KEY_SHARE, detail)
