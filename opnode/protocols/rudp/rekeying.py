"""When a connection's keys are exchanged, replaced and worn out; seals nothing.

Stands between a connection and its keys: what has to be done before a burst, after a
run, and for a KEY_SHARE frame.
"""

from typing import Final

from opnode.core.crypto import Kem
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.frames import FrameType, KeyShareFrame, encode_key_share
from opnode.protocols.rudp.hybrid import PARTS, HybridExchange
from opnode.protocols.rudp.recovery import Recovery
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# How often an acknowledgement is asked for that the next update waits for.
_ASK_INTERVAL_S: Final = 1.0


class Rekeying:
    """The exchange inside a connection, and the key updates from then on."""

    __slots__ = (
        "_asked_at",
        "_controls",
        "_exchange",
        "_recovery",
        "_sealer",
        "_waits_to_offer",
        "keys",
    )

    def __init__(
        self,
        kem: Kem,
        sealer: PacketSealer,
        controls: ControlQueue,
        recovery: Recovery,
    ) -> None:
        """Start with the keys of the handshake.

        Args:
            kem: Makes the post-quantum secret.
            sealer: Knows the number of the next packet, and the keys.
            controls: Asked to send what the exchange has to say.
            recovery: Knows the probe timeout.
        """
        self.keys = sealer.keys
        self._exchange = HybridExchange(sealer.keys, kem)
        self._sealer = sealer
        self._controls = controls
        self._recovery = recovery
        self._asked_at = float("-inf")
        self._waits_to_offer = self._exchange.wants_start
        controls.encoders[FrameType.KEY_SHARE] = self._encode_part

    def before_burst(self, now: float) -> bool:
        """Do what is due before packets leave; false when none may leave any more.

        The first byte of a connection does not wait for the exchange: a key pair takes
        0.1 ms, so it is made when the first packet is out.
        """
        keys, number = self.keys, self._sealer.next_number
        if number and self._waits_to_offer:
            self._waits_to_offer = False
            self._exchange.offer()
            self._send_parts()
        if number < keys.update_from and now < keys.update_at:
            return True
        if keys.update(number, now):
            return True
        if now >= self._asked_at + _ASK_INTERVAL_S and not keys.is_confirmed:
            # An end that sends nothing but acknowledgements is never acknowledged.
            self._asked_at = now
            self._controls.add_probe()
        return not keys.is_exhausted(number, now)

    def after_run(self, forged: int, now: float) -> None:
        """Do what packets of a new phase ask for.

        Args:
            forged: How many forged packets there were in all.
            now: The present.

        Raises:
            PeerViolationError: KEY_EXHAUSTED; too many were forged under one key.
        """
        keys = self.keys
        if keys.is_unsettled:
            self._exchange.finish()
            keys.settle(
                next_number=self._sealer.next_number,
                forged=forged,
                timeout_s=self._recovery.probe_timeout_s,
                now=now,
            )
        if forged >= keys.forged_limit:
            raise PeerViolationError(
                CloseCode.KEY_EXHAUSTED, "too many packets were forged under one key"
            )

    def on_key_share(self, frame: KeyShareFrame, now: float) -> None:
        """Take in a part of the peer's message.

        Raises:
            PeerViolationError: KEY_SHARE; it cannot be right.
        """
        if not self._exchange.on_part(frame.part, frame.data):
            return
        if self._exchange.wants_answer:
            self._send_parts()
        elif self.keys.update(self._sealer.next_number, now):
            # The answer to this PING comes under the new keys, and confirms them.
            self._controls.add_probe()

    def _encode_part(self, key: tuple[int, int]) -> bytes:
        """Return a KEY_SHARE frame; empty when the peer needs it no more."""
        _, number = key
        part = self._exchange.part(number)
        return encode_key_share(number, part) if part else b""

    def _send_parts(self) -> None:
        for number in range(PARTS):
            self._controls.add(FrameType.KEY_SHARE, number)
