"""The keys that seal and open packets, and when others take their place.

Key updates after RFC 9001 §6, told by one bit of the header. Knows neither frames nor
paths; the derivations are those of ``key_schedule``.
"""

from collections.abc import Callable
from typing import Final

from opnode.core.crypto import Aead, AeadError, TransportKeys, new_aead
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.key_schedule import (
    MAX_PACKETS_PER_KEY,
    MIN_UPDATE_INTERVAL_S,
    confirmation,
    first_root,
    hybrid_root,
    next_root,
    packet_key,
)
from opnode.protocols.rudp.packet import KEY_PHASE_FLAG
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# Forged packets under one key: far below the 2^52 of RFC 9001 §6.6, and still nothing
# that a stranger can reach before the key is replaced.
MAX_FORGED_PER_KEY: Final = 1 << 36
# What a peer may start at once all the same: the network can hold packets up and then
# bring those of several updates together.
_UPDATE_ALLOWANCE: Final = 8.0
# Keys are kept this many probe timeouts for packets that were overtaken (§6.5).
_OLD_KEY_TIMEOUTS: Final = 3
# An update may take this long whatever the interval: no path that is alive needs more.
_MIN_PATIENCE_S: Final = 120.0
# An epoch in which nothing was sent yet; above every packet number.
_NOTHING_SENT: Final = 1 << 62

Seal = Callable[[bytes, bytes, bytes | None], bytes]
SealInto = Callable[[bytes, memoryview, bytes | None, memoryview], int]


class PacketKeys:
    """What protects packets now, and the epochs before and after.

    ``encrypt`` and ``send_phase`` belong together, and so do ``decrypt`` and
    ``receive_phase``: the phases are 0 or ``KEY_PHASE_FLAG``, as they stand in the
    header's last field. All may change with every call of ``open_other_phase``.
    ``encrypt_into`` and ``decrypt_into`` do the same to buffers of the caller.

    Attributes:
        send_epoch: Counts updates of what we send; the same as ``receive_epoch``, or
            one more until the peer has followed.
        receive_epoch: Counts updates of what we receive.
        first_received: The lowest packet number received in ``receive_epoch``.
        is_confirmed: Whether the peer acknowledged a packet of ``send_epoch``.
        is_initiator: Whether we began the handshake.
        is_unsettled: Whether ``settle`` must be called, as the peer's phase changed.
        old_until: When the keys before ``decrypt`` are dropped, None without any.
        forged_limit: How many forged packets in all the present key bears.
        update_from: The packet number from which on an update is wanted.
        update_at: The time from which on an update is wanted.
        post_quantum_at: Since when all that is sent and received is protected by keys
            of the hybrid exchange.
    """

    __slots__ = (
        "_allowance",
        "_charged_at",
        "_config",
        "_current",
        "_first_root",
        "_first_sent",
        "_floor",
        "_new",
        "_next_key",
        "_next_root",
        "_old",
        "_receive_key",
        "_send_key",
        "_started_at",
        "_waiting_since",
        "decrypt",
        "decrypt_into",
        "encrypt",
        "encrypt_into",
        "first_received",
        "forged_limit",
        "is_confirmed",
        "is_initiator",
        "is_unsettled",
        "old_until",
        "post_quantum_at",
        "receive_epoch",
        "receive_phase",
        "send_epoch",
        "send_phase",
        "update_at",
        "update_from",
    )

    encrypt: Seal
    encrypt_into: SealInto
    decrypt: Seal
    decrypt_into: SealInto
    _current: Aead | None

    def __init__(
        self, keys: TransportKeys, *, initiator: bool, config: RudpConfig
    ) -> None:
        """Start in epoch 0, which only the initiator can end.

        Args:
            keys: What the handshake left.
            initiator: Whether we began the handshake.
            config: How long a key is used.
        """
        root = first_root(keys, initiator=initiator)
        self._send_key = packet_key(root, by_initiator=initiator)
        self._receive_key = packet_key(root, by_initiator=not initiator)
        self._seal_with(new_aead(self._send_key))
        self._open_with(new_aead(self._receive_key))
        self.send_phase = self.receive_phase = 0
        self.send_epoch = self.receive_epoch = 0
        self.first_received = 0
        self.is_unsettled = False
        self.old_until: float | None = None
        self.forged_limit = MAX_FORGED_PER_KEY
        self.post_quantum_at: float | None = None
        self.is_initiator = initiator
        self._config = config
        self._first_root = root
        self._next_root = self._next_key = b""
        # What opens the epochs before and after the present one.
        self._old: Aead | None = None
        self._new: Aead | None = None
        # Packets of this epoch below it came after one of an older epoch: a violation.
        self._floor = 0
        self._first_sent = 0
        self.is_confirmed = False
        self._started_at = self._charged_at = float("-inf")
        self.update_from = config.key_update_packets
        self.update_at = float("inf")
        self._allowance = _UPDATE_ALLOWANCE
        self._waiting_since: float | None = None

    def start(self, now: float) -> None:
        """The first packet may leave: keys grow old from now on."""
        self.update_at = now + self._config.key_update_interval_s

    def mix(self, secret: bytes, transcript: bytes) -> bytes:
        """Prepare epoch 1 from the post-quantum secret; only once.

        Args:
            secret: What both ends share now.
            transcript: 32-byte digest of how they came to it.

        Returns:
            The bytes by which the peer sees that both came to the same keys.
        """
        root = hybrid_root(self._first_root, secret, transcript)
        self._first_root = b""
        self._prepare(root)
        # The other half of the exchange has shown that our packets arrive.
        self.is_confirmed = True
        return confirmation(root)

    def rest(self) -> None:
        """Let go of the ciphers while nothing happens: 2.5 kB each.

        The next packet makes them again from their keys, in 1 µs.
        """
        self._current = None
        self.encrypt, self.encrypt_into = self._encrypt_again, self._encrypt_into_again
        self.decrypt, self.decrypt_into = self._decrypt_again, self._decrypt_into_again

    # --- sending --------------------------------------------------------------------

    def update(self, next_number: int, now: float) -> bool:
        """Send under the next key from this packet number on, if that is allowed now.

        It is when the peer has followed the last update, has acknowledged a packet of
        this epoch, and no older keys are kept (RFC 9001 §6.1, §6.5); before the
        exchange is complete there is no next key.
        """
        is_ours = self.is_initiator or self.send_epoch > 0
        if (
            not self._next_root
            or not is_ours
            or not self.is_confirmed
            or self.send_epoch != self.receive_epoch
            or self.old_until is not None
            or now < self._started_at + MIN_UPDATE_INTERVAL_S
        ):
            if self._waiting_since is None:
                self._waiting_since = now
            return False
        self._started_at = now
        self._send_next()
        self._note_start(next_number, now)
        return True

    def is_exhausted(self, next_number: int, now: float) -> bool:
        """Whether nothing may be sent any more: no update was possible for too long."""
        if next_number - self._first_sent >= MAX_PACKETS_PER_KEY:
            return True
        waiting_since = self._waiting_since
        patience_s = max(self._config.key_update_interval_s, _MIN_PATIENCE_S)
        return waiting_since is not None and now >= waiting_since + patience_s

    def on_acked(self, largest: int) -> None:
        """The peer acknowledged packets up to this number."""
        if largest >= self._first_sent:
            self.is_confirmed = True

    # --- receiving ------------------------------------------------------------------

    def open_other_phase(
        self,
        number: int,
        nonce: bytes,
        sealed: bytes,
        *,
        expected: int,
        now: float,
    ) -> bytes | None:
        """Open a packet whose phase bit is not ``receive_phase``; None if forged.

        Its number tells the epoch: one below ``first_received`` belongs to the last,
        any other to the next (RFC 9001 §6.5).

        Args:
            number: Its packet number.
            nonce: The end of its header.
            sealed: The rest.
            expected: One above the highest number received so far.
            now: The present.

        Raises:
            PeerViolationError: KEY_UPDATE; the packet is authentic, but the peer
                updates too often or goes back to older keys.
        """
        if number < self.first_received:
            plaintext = _open(self._old, nonce, sealed)
            if plaintext is not None:
                self._floor = max(self._floor, number + 1)
            return plaintext
        if self._new is None and self._next_key:
            self._new = new_aead(self._next_key)
        plaintext = _open(self._new, nonce, sealed)
        if plaintext is None:
            return None
        if number < expected:
            raise _violation(
                f"packet {number} is of a newer phase than packet {expected - 1}"
            )
        if self.send_epoch == self.receive_epoch:
            self._charge(now)
        self._receive_next(number, expected, now)
        return plaintext

    def open_same_phase(self, number: int, nonce: bytes, sealed: bytes) -> bytes | None:
        """Open a packet of ``receive_phase`` that came out of order; None if forged.

        Raises:
            PeerViolationError: KEY_UPDATE; a later packet was of an older phase.
        """
        plaintext = _open(self._wake(), nonce, sealed)
        if plaintext is not None and number < self.first_received:
            if number < self._floor:
                above = self._floor - 1
                raise _violation(f"packet {above} is of an older phase than {number}")
            self.first_received = number
        return plaintext

    def settle(
        self, *, next_number: int, forged: int, timeout_s: float, now: float
    ) -> None:
        """Note what an update by packets of the last run means from now on.

        Args:
            next_number: The number of the next packet that we send.
            forged: How many forged packets there were in all.
            timeout_s: The probe timeout.
            now: The present.
        """
        self.is_unsettled = False
        self.old_until = now + _OLD_KEY_TIMEOUTS * timeout_s
        self.forged_limit = forged + MAX_FORGED_PER_KEY
        if self._first_sent == _NOTHING_SENT:
            self._note_start(next_number, now)

    def on_deadline(self, now: float) -> None:
        """Drop old keys when it is time; Python frees them, OpenSSL wipes them."""
        if self.old_until is not None and now >= self.old_until:
            self.old_until = self._old = None

    def _charge(self, now: float) -> None:
        """Count an update that the peer started.

        Raises:
            PeerViolationError: KEY_UPDATE; there were too many.
        """
        earned = (now - self._charged_at) / MIN_UPDATE_INTERVAL_S
        self._allowance = min(self._allowance + earned, _UPDATE_ALLOWANCE)
        self._charged_at = now
        if self._allowance < 1:
            raise _violation(
                f"key update {self.receive_epoch + 1} comes too early, one in "
                f"{MIN_UPDATE_INTERVAL_S:g} s is allowed"
            )
        self._allowance -= 1

    def _receive_next(self, number: int, expected: int, now: float) -> None:
        """The peer sends in the next epoch: follow."""
        # It opened a packet, so it is there.
        assert self._new is not None
        self._old = self._wake()
        self._open_with(self._new)
        self._receive_key = self._next_key
        self.receive_phase ^= KEY_PHASE_FLAG
        self.receive_epoch += 1
        self.first_received, self._floor = number, expected
        if self.send_epoch < self.receive_epoch:
            self._send_next()
            self._first_sent = self.update_from = _NOTHING_SENT
        self._prepare(next_root(self._next_root))
        self.is_unsettled = True
        if self.post_quantum_at is None:
            self.post_quantum_at = now

    def _send_next(self) -> None:
        self._send_key = packet_key(self._next_root, by_initiator=self.is_initiator)
        self._seal_with(new_aead(self._send_key))
        self.send_phase ^= KEY_PHASE_FLAG
        self.send_epoch += 1
        self.is_confirmed = False

    def _note_start(self, next_number: int, now: float) -> None:
        self._first_sent = next_number
        self.update_from = next_number + self._config.key_update_packets
        self.update_at = now + self._config.key_update_interval_s
        self._waiting_since = None

    def _prepare(self, root: bytes) -> None:
        """Derive what opens the next epoch ahead of the first packet that asks for it.

        Otherwise the time that a packet takes would tell that its phase bit was
        believed (RFC 9001 §9.5). The cipher itself, 2.5 kB, is made when it is tried.
        """
        self._next_root = root
        self._next_key = packet_key(root, by_initiator=not self.is_initiator)
        self._new = None

    def _wake(self) -> Aead:
        """Return the cipher that opens the present epoch."""
        if self._current is None:
            self._open_with(new_aead(self._receive_key))
        # It was there, or has just been made.
        assert self._current is not None
        return self._current

    def _encrypt_again(self, nonce: bytes, data: bytes, more: bytes | None) -> bytes:
        self._seal_with(new_aead(self._send_key))
        return self.encrypt(nonce, data, more)

    def _encrypt_into_again(
        self, nonce: bytes, data: memoryview, more: bytes | None, out: memoryview
    ) -> int:
        self._seal_with(new_aead(self._send_key))
        return self.encrypt_into(nonce, data, more, out)

    def _decrypt_again(self, nonce: bytes, data: bytes, more: bytes | None) -> bytes:
        return self._wake().decrypt(nonce, data, more)

    def _decrypt_into_again(
        self, nonce: bytes, data: memoryview, more: bytes | None, out: memoryview
    ) -> int:
        return self._wake().decrypt_into(nonce, data, more, out)

    def _seal_with(self, aead: Aead) -> None:
        self.encrypt = aead.encrypt
        self.encrypt_into = aead.encrypt_into

    def _open_with(self, aead: Aead) -> None:
        self._current = aead
        self.decrypt = aead.decrypt
        self.decrypt_into = aead.decrypt_into


def _open(aead: Aead | None, nonce: bytes, sealed: bytes) -> bytes | None:
    if aead is None:
        return None
    try:
        return aead.decrypt(nonce, sealed, None)
    except AeadError:
        return None


def _violation(detail: str) -> PeerViolationError:
    return PeerViolationError(CloseCode.KEY_UPDATE, detail)
