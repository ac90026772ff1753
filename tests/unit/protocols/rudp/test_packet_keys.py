"""Epochs and updates of two ends that exchange single packets by hand."""

import contextlib
from typing import NamedTuple

import pytest

from opnode.core.crypto import new_aead
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.key_schedule import (
    MAX_PACKETS_PER_KEY,
    MIN_UPDATE_INTERVAL_S,
)
from opnode.protocols.rudp.packet import KEY_PHASE_FLAG
from opnode.protocols.rudp.packet_keys import MAX_FORGED_PER_KEY, PacketKeys
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError
from opnode.testing.pair import seeded_keys

PTO = 0.1
OLD_S = 3 * PTO
CONFIG = RudpConfig(key_update_packets=100, key_update_interval_s=60.0)


class Packet(NamedTuple):
    number: int
    phase: int
    sealed: bytes


class KeyEnd:
    """One end: its keys, and the little that a connection does with them."""

    def __init__(self, *, initiator: bool) -> None:
        keys = seeded_keys()[0 if initiator else 1]
        self.keys = PacketKeys(keys, initiator=initiator, config=CONFIG)
        self.keys.start(10.0)
        self.next_number = 0
        self.expected = 0

    def seal(self, text: bytes = b"hello") -> Packet:
        number = self.next_number
        self.next_number += 1
        sealed = self.keys.encrypt(nonce_of(number), text, None)
        return Packet(number, self.keys.send_phase, sealed)

    def open(self, packet: Packet, now: float = 10.0) -> bytes | None:
        keys, nonce = self.keys, nonce_of(packet.number)
        if packet.phase == keys.receive_phase:
            text = keys.open_same_phase(packet.number, nonce, packet.sealed)
        else:
            text = keys.open_other_phase(
                packet.number,
                nonce,
                packet.sealed,
                expected=self.expected,
                now=now,
            )
        if text is not None:
            self.expected = max(self.expected, packet.number + 1)
        if keys.is_unsettled:
            keys.settle(next_number=self.next_number, forged=0, timeout_s=PTO, now=now)
        return text

    def update(self, now: float = 10.0) -> bool:
        return self.keys.update(self.next_number, now)

    @property
    def epochs(self) -> tuple[int, int]:
        return self.keys.send_epoch, self.keys.receive_epoch


class KeyPair(NamedTuple):
    a: KeyEnd
    b: KeyEnd

    def exchange(self, now: float = 10.0) -> None:
        """One packet each way, each of which the other end acknowledges."""
        for sender, receiver in ((self.a, self.b), (self.b, self.a)):
            packet = sender.seal()
            assert receiver.open(packet, now) == b"hello"
            sender.keys.on_acked(packet.number)

    def settle_at(self, now: float) -> None:
        self.a.keys.on_deadline(now)
        self.b.keys.on_deadline(now)


def nonce_of(number: int) -> bytes:
    return number.to_bytes(12, "big")


def new_pair() -> KeyPair:
    """Two ends in epoch 0."""
    return KeyPair(KeyEnd(initiator=True), KeyEnd(initiator=False))


def mixed_pair() -> KeyPair:
    """Two ends in epoch 0 that have the next keys."""
    pair = new_pair()
    pair.exchange()
    tags = [end.keys.mix(b"s" * 32, b"t" * 32) for end in pair]
    assert tags[0] == tags[1]
    return pair


def updated_pair() -> KeyPair:
    """Two ends in epoch 1, all of it confirmed, at 10 s."""
    pair = mixed_pair()
    assert pair.a.update(8.0)
    pair.exchange(8.0)
    pair.exchange(8.0)
    pair.settle_at(10.0)
    assert pair.a.epochs == pair.b.epochs == (1, 1)
    return pair


# --- epoch 0 --------------------------------------------------------------------------


def test_both_ends_open_what_the_other_seals_from_the_first_packet_on():
    pair = new_pair()
    pair.exchange()
    assert pair.a.keys.send_phase == pair.b.keys.receive_phase == 0


def test_the_keys_of_the_handshake_seal_no_packet_themselves():
    ours, _ = seeded_keys()
    for key in (ours.send, ours.receive):
        sealed = new_aead(key).encrypt(nonce_of(0), b"hello", None)
        assert KeyEnd(initiator=True).seal().sealed != sealed


def test_there_is_no_update_before_the_exchange_is_complete():
    pair = new_pair()
    pair.exchange()
    assert not pair.a.update()
    assert pair.a.epochs == (0, 0)


def test_a_packet_of_the_other_phase_is_forged_before_the_exchange_is_complete():
    end = new_pair().b
    packet = Packet(5, KEY_PHASE_FLAG, bytes(40))
    assert end.open(packet) is None


def test_the_responder_does_not_start_the_first_update():
    pair = mixed_pair()
    assert not pair.b.update()
    assert pair.a.update()


# --- updates --------------------------------------------------------------------------


def test_the_other_end_follows_with_its_next_packet():
    pair = mixed_pair()
    assert pair.a.update()
    assert pair.a.epochs == (1, 0)
    assert pair.b.open(pair.a.seal()) == b"hello"
    assert pair.b.epochs == (1, 1)
    answer = pair.b.seal()
    assert answer.phase == KEY_PHASE_FLAG
    assert pair.a.open(answer) == b"hello"
    assert pair.a.epochs == (1, 1)


def test_post_quantum_says_when_both_directions_are_protected():
    pair = mixed_pair()
    pair.a.update(11.0)
    assert pair.a.keys.post_quantum_at is None
    pair.b.open(pair.a.seal(), 11.5)
    pair.a.open(pair.b.seal(), 12.0)
    assert pair.b.keys.post_quantum_at == 11.5
    assert pair.a.keys.post_quantum_at == 12.0


def test_post_quantum_does_not_change_with_later_updates():
    pair = updated_pair()
    before = pair.a.keys.post_quantum_at
    assert pair.b.update(20.0)
    pair.exchange(20.0)
    pair.exchange(20.0)
    assert pair.a.epochs == (2, 2)
    assert pair.a.keys.post_quantum_at == before


@pytest.mark.parametrize("starter", [0, 1])
def test_either_end_starts_an_update_and_the_phase_bit_alternates(starter):
    pair = updated_pair()
    now = 10.0
    for epoch in range(2, 7):
        now += 10.0
        assert pair[starter].update(now)
        pair.exchange(now)
        pair.exchange(now)
        pair.settle_at(now + OLD_S)
        assert pair.a.epochs == pair.b.epochs == (epoch, epoch)
        assert pair.a.keys.send_phase == KEY_PHASE_FLAG * (epoch % 2)


def test_both_ends_may_start_the_same_update_at_once():
    pair = updated_pair()
    assert pair.a.update(20.0)
    assert pair.b.update(20.0)
    pair.exchange(20.0)
    assert pair.a.epochs == pair.b.epochs == (2, 2)


def test_no_second_update_before_a_packet_of_this_epoch_was_acknowledged():
    pair = updated_pair()
    assert pair.a.update(20.0)
    first = pair.a.next_number
    packet = pair.a.seal()
    pair.b.open(packet, 20.0)
    pair.a.open(pair.b.seal(), 20.0)
    pair.settle_at(30.0)
    pair.a.keys.on_acked(first - 1)
    assert not pair.a.update(30.0)
    pair.a.keys.on_acked(first)
    assert pair.a.update(30.0)


def test_an_end_that_followed_waits_for_an_acknowledgement_of_its_own():
    pair = updated_pair()
    assert pair.a.update(20.0)
    pair.b.open(pair.a.seal(), 20.0)
    pair.settle_at(30.0)
    pair.b.keys.on_acked(pair.b.next_number - 1)
    assert not pair.b.update(30.0)
    pair.b.seal()
    pair.b.keys.on_acked(pair.b.next_number - 1)
    assert pair.b.update(30.0)


def test_no_second_update_before_the_peer_followed():
    pair = updated_pair()
    assert pair.a.update(20.0)
    pair.a.keys.on_acked(pair.a.seal().number)
    assert not pair.a.update(30.0)


def test_no_second_update_while_old_keys_are_kept():
    pair = updated_pair()
    assert pair.a.update(20.0)
    pair.exchange(22.0)
    pair.exchange(22.0)
    assert not pair.a.update(22.1)
    pair.settle_at(22.0 + OLD_S)
    assert pair.a.update(22.4)


def test_an_end_keeps_its_updates_a_second_apart():
    pair = updated_pair()
    assert pair.a.update(20.0)
    pair.exchange(20.0)
    pair.exchange(20.0)
    pair.settle_at(20.0 + OLD_S)
    assert not pair.a.update(20.0 + MIN_UPDATE_INTERVAL_S - 0.01)
    assert pair.a.update(20.0 + MIN_UPDATE_INTERVAL_S)


def test_an_update_is_wanted_after_so_many_packets_or_so_long():
    pair = updated_pair()
    keys, number = pair.a.keys, pair.a.next_number
    assert pair.a.update(20.0)
    assert (keys.update_from, keys.update_at) == (number + 100, 80.0)


def test_an_end_that_followed_counts_from_then_on():
    pair = updated_pair()
    assert pair.a.update(20.0)
    pair.b.open(pair.a.seal(), 30.0)
    keys, number = pair.b.keys, pair.b.next_number
    assert (keys.update_from, keys.update_at) == (number + 100, 90.0)


# --- reordering -----------------------------------------------------------------------


def test_packets_that_an_update_overtook_are_opened_with_the_old_key():
    pair = updated_pair()
    late = [pair.a.seal(b"late") for _ in range(3)]
    assert pair.a.update(20.0)
    new = [pair.a.seal(b"new") for _ in range(3)]
    assert pair.b.open(new[1], 20.0) == b"new"
    assert pair.b.open(late[2], 20.0) == b"late"
    assert pair.b.open(new[2], 20.0) == b"new"
    assert pair.b.open(late[0], 20.0) == b"late"
    assert pair.b.open(new[0], 20.0) == b"new"
    assert pair.b.open(late[1], 20.0) == b"late"
    assert pair.b.epochs == (2, 2)


def test_old_keys_are_gone_after_three_probe_timeouts():
    pair = updated_pair()
    late = [pair.a.seal(b"late") for _ in range(2)]
    assert pair.a.update(20.0)
    pair.b.open(pair.a.seal(), 20.0)
    keys = pair.b.keys
    assert keys.old_until == pytest.approx(20.0 + OLD_S)
    keys.on_deadline(20.0 + OLD_S - 0.01)
    assert pair.b.open(late[0], 20.2) == b"late"
    keys.on_deadline(20.0 + OLD_S)
    assert keys.old_until is None
    assert pair.b.open(late[1], 20.4) is None


def test_a_second_update_replaces_the_old_keys_of_the_first():
    pair = updated_pair()
    late = pair.a.seal(b"two epochs late")
    assert pair.a.update(20.0)
    pair.exchange(20.0)
    pair.exchange(20.0)
    pair.a.keys.on_deadline(20.0 + OLD_S)
    assert pair.a.update(21.0)
    assert pair.b.open(pair.a.seal(), 21.0) == b"hello"
    assert pair.b.epochs == (3, 3)
    assert pair.b.open(late, 21.0) is None


def test_a_forged_packet_of_the_other_phase_changes_nothing():
    pair = updated_pair()
    before = pair.b.epochs
    for number in (0, pair.b.expected, 1 << 40):
        assert pair.b.open(Packet(number, 0, bytes(40)), 20.0) is None
    assert pair.b.epochs == before
    assert not pair.b.keys.is_unsettled
    pair.exchange(20.0)


def test_a_replayed_packet_of_an_older_epoch_does_not_look_like_an_update():
    pair = updated_pair()
    old = pair.a.seal()
    pair.b.open(old, 10.0)
    assert pair.a.update(20.0)
    pair.b.open(pair.a.seal(), 20.0)
    epochs = pair.b.epochs
    # The old key opens it, and the replay window, which is not here, knows it.
    assert pair.b.open(old, 20.0) == b"hello"
    pair.b.keys.on_deadline(30.0)
    assert pair.b.open(old, 30.0) is None
    assert pair.b.epochs == epochs


def test_a_newer_phase_below_an_older_packet_closes():
    pair = updated_pair()
    older, newer = pair.a.next_number + 5, pair.a.next_number
    pair.a.next_number = older
    assert pair.b.open(pair.a.seal(), 20.0) == b"hello"
    assert pair.a.update(20.0)
    pair.a.next_number = newer
    with pytest.raises(PeerViolationError, match="newer phase") as caught:
        pair.b.open(pair.a.seal(), 20.0)
    assert caught.value.code is CloseCode.KEY_UPDATE


def test_an_older_phase_above_a_newer_packet_closes():
    pair = updated_pair()
    number = pair.a.next_number
    pair.a.next_number = number + 5
    old = pair.a.seal(b"old")
    assert pair.a.update(20.0)
    pair.a.next_number = number + 8
    assert pair.b.open(pair.a.seal(), 20.0) == b"hello"
    assert pair.b.open(old, 20.0) == b"old"
    pair.a.next_number = number + 3
    with pytest.raises(PeerViolationError, match="older phase") as caught:
        pair.b.open(pair.a.seal(), 20.0)
    assert caught.value.code is CloseCode.KEY_UPDATE


# --- limits ---------------------------------------------------------------------------


def storm(pair: KeyPair, count: int, *, interval_s: float) -> int:
    """Let the peer start updates without asking; returns how many were borne."""
    now = 20.0
    for done in range(count):
        pair.a.keys.old_until = None
        pair.a.keys._started_at = float("-inf")
        pair.a.keys.is_confirmed = True
        assert pair.a.update(now)
        with contextlib.suppress(PeerViolationError):
            pair.b.open(pair.a.seal(), now)
        if pair.b.keys.receive_epoch != pair.a.keys.send_epoch:
            return done
        pair.a.open(pair.b.seal(), now)
        now += interval_s
    return count


def test_a_storm_of_updates_closes_after_the_first_few():
    assert storm(updated_pair(), 1000, interval_s=0.001) == 8


def test_updates_at_the_pace_that_is_allowed_are_borne_for_ever():
    assert storm(updated_pair(), 1000, interval_s=MIN_UPDATE_INTERVAL_S) == 1000


def test_updates_that_we_start_are_not_charged_to_the_peer():
    pair = updated_pair()
    now = 20.0
    for _ in range(50):
        assert pair.b.update(now)
        pair.exchange(now)
        pair.exchange(now)
        pair.settle_at(now + OLD_S)
        now += MIN_UPDATE_INTERVAL_S
    assert storm(pair, 8, interval_s=0.0) == 8


def test_a_key_is_exhausted_after_2_to_the_23_packets():
    keys = updated_pair().a.keys
    first = keys._first_sent
    assert not keys.is_exhausted(first + MAX_PACKETS_PER_KEY - 1, 20.0)
    assert keys.is_exhausted(first + MAX_PACKETS_PER_KEY, 20.0)


def test_a_key_is_exhausted_when_no_update_was_possible_for_two_minutes():
    pair = updated_pair()
    assert pair.a.update(20.0)
    assert not pair.a.update(100.0)
    assert not pair.a.keys.is_exhausted(pair.a.next_number, 219.9)
    assert pair.a.keys.is_exhausted(pair.a.next_number, 220.0)


def test_a_long_silence_alone_exhausts_no_key():
    pair = updated_pair()
    assert not pair.a.keys.is_exhausted(pair.a.next_number, 1e9)
    assert pair.a.update(1e9)


def test_the_count_of_forged_packets_starts_anew_with_the_key():
    pair = updated_pair()
    keys = pair.b.keys
    pair.a.update(20.0)
    packet = pair.a.seal()
    keys.open_other_phase(
        packet.number,
        nonce_of(packet.number),
        packet.sealed,
        expected=pair.b.expected,
        now=20.0,
    )
    keys.settle(next_number=pair.b.next_number, forged=1000, timeout_s=PTO, now=20.0)
    assert keys.forged_limit == 1000 + MAX_FORGED_PER_KEY


# --- rest -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [new_pair, mixed_pair, updated_pair])
def test_keys_that_rested_seal_and_open_as_before(make):
    pair = make()
    before = pair.a.seal(b"sealed before")
    for end in pair:
        end.keys.rest()
        end.keys.rest()
    assert pair.b.open(before) == b"sealed before"
    pair.exchange()
    pair.exchange()


def test_keys_that_rested_work_on_the_caller_s_buffers():
    pair = updated_pair()
    pair.a.keys.rest()
    pair.b.keys.rest()
    nonce = nonce_of(7)
    sealed, opened = memoryview(bytearray(5 + 16)), memoryview(bytearray(5))
    for _ in range(2):
        pair.a.keys.encrypt_into(nonce, memoryview(b"hello"), None, sealed)
        pair.b.keys.decrypt_into(nonce, sealed, None, opened)
        assert opened == b"hello"
    pair.b.keys.rest()
    assert pair.b.keys.decrypt(nonce, bytes(sealed), None) == b"hello"


def test_keys_that_rested_follow_an_update_and_keep_the_old_ones():
    pair = mixed_pair()
    late = pair.a.seal(b"late")
    assert pair.a.update(12.0)
    packet = pair.a.seal()
    pair.a.keys.rest()
    pair.b.keys.rest()
    assert pair.b.open(packet, 12.0) == b"hello"
    assert pair.b.epochs == (1, 1)
    assert pair.b.open(late, 12.0) == b"late"
    pair.b.keys.rest()
    answer = pair.b.seal(b"answer")
    assert pair.a.open(answer, 12.0) == b"answer"
    assert pair.a.epochs == (1, 1)


def test_a_forged_packet_is_refused_at_rest():
    pair = updated_pair()
    pair.b.keys.rest()
    packet = pair.a.seal()
    forged = packet._replace(sealed=packet.sealed[:-1] + b"x")
    assert pair.b.open(forged) is None
    assert pair.b.open(packet) == b"hello"
