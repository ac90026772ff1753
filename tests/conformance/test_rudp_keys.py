"""The rules about keys, R-07 and R-51 to R-56, tried on whole connections."""

from collections.abc import Callable

import pytest

from opnode.core.crypto import CIPHERTEXT_SIZE, ML_KEM_768, Kem
from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.events import ChannelOpened, Closed, DatagramReceived
from opnode.protocols.rudp.frames import (
    KeyShareFrame,
    encode_datagram,
    encode_key_share,
    encode_ping,
)
from opnode.protocols.rudp.hybrid import PART_SIZES
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.protocols.rudp.packet import Transmission
from opnode.protocols.rudp.violation import CloseCode
from opnode.testing.keys import SeededDecapsulationKey, SeededKem
from opnode.testing.pair import End, LinkConfig, Pair
from tests.unit.protocols.rudp.far_end import ELSEWHERE, THERE, FarEnd

LATENCY_S = 0.05
OFTEN = RudpConfig(key_update_packets=50)


class CountingKem(SeededKem):
    """Counts how often it was asked for a key pair."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.generated = 0

    def generate(self) -> SeededDecapsulationKey:
        self.generated += 1
        return super().generate()


class WrongKem(SeededKem):
    """Answers with another ciphertext than that of its secret."""

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        secret, ciphertext = super().encapsulate(public)
        return secret, ciphertext[:-1] + b"\1"


class KeyShareWatch:
    """Notes the phase bit, sender and size of each packet that leaves."""

    def __init__(self, pair: Pair) -> None:
        self.phases: dict[End, list[int]] = {pair.a: [], pair.b: []}
        self.wires: list[tuple[End, bytes]] = []
        pair.on_transmission = self.watch

    def watch(self, end: End, burst: Transmission) -> list[bytes]:
        size = burst.segment_size
        wires = [burst.data[at : at + size] for at in range(0, len(burst.data), size)]
        self.phases[end] += [wire[packet.PREFIX_SIZE] for wire in wires]
        self.wires += [(end, wire) for wire in wires]
        return wires


def set_kem(connection: RudpConnection, kem: Kem) -> None:
    connection._rekeying._exchange._kem = kem


def is_post_quantum(pair: Pair) -> Callable[[], bool]:
    ends = (pair.a.connection, pair.b.connection)
    return lambda: all(end.statistics().post_quantum_at is not None for end in ends)


def epochs(pair: Pair) -> tuple[int, int]:
    return tuple(end.connection.statistics().key_epoch for end in (pair.a, pair.b))


def transfer(pair: Pair, size: int, *, within_s: float = 120.0) -> float:
    """Send so many bytes from a to b; returns how long it took."""
    text = bytes(range(256)) * (size // 256)
    begun_at = pair.now
    channel = pair.a.connection.open_channel(pair.now)
    sent, got = 0, bytearray()

    def work() -> bool:
        nonlocal sent
        if sent < len(text):
            sent += pair.a.connection.send(channel, text[sent:], pair.now)
        if pair.b.events_of(ChannelOpened):
            while piece := pair.b.connection.read(channel, 1 << 20, pair.now):
                got.extend(piece)
        return len(got) == len(text)

    pair.drive(work, within_s=within_s)
    assert got == text
    return pair.now - begun_at


# --- the exchange ---------------------------------------------------------------------


def test_r_51_the_first_packet_leaves_before_a_key_pair_is_made():
    pair = Pair(connect=False)
    kem = CountingKem()
    set_kem(pair.a.connection, kem)
    pair.a.connection.set_path(pair.b.endpoint, pair.now)
    assert pair.a.connection.datagrams_to_send(pair.now)
    assert kem.generated == 0
    assert pair.a.connection.datagrams_to_send(pair.now)
    assert kem.generated == 1


def test_r_51_a_connection_without_a_path_makes_no_key_pair():
    pair = Pair(connect=False)
    kem = CountingKem()
    set_kem(pair.a.connection, kem)
    pair.a.connection.open_channel(pair.now)
    assert pair.a.connection.datagrams_to_send(pair.now) == []
    assert kem.generated == 0


@pytest.mark.parametrize("kem", [None, ML_KEM_768])
def test_r_53_both_directions_have_new_keys_within_two_round_trips(kem):
    pair = Pair(link=LinkConfig(latency_s=LATENCY_S))
    if kem is not None:
        set_kem(pair.a.connection, kem)
        set_kem(pair.b.connection, kem)
    begun_at = pair.now
    pair.drive(is_post_quantum(pair))
    for end, half_trips in ((pair.a, 4), (pair.b, 3)):
        at = end.connection.statistics().post_quantum_at
        assert begun_at < at <= begun_at + half_trips * LATENCY_S + 1e-6
    assert epochs(pair) == (1, 1)


def test_r_53_statistics_say_none_until_then():
    pair = Pair(link=LinkConfig(latency_s=LATENCY_S))
    pair.run_for(2.9 * LATENCY_S)
    for end in (pair.a, pair.b):
        figures = end.connection.statistics()
        assert (figures.key_epoch, figures.post_quantum_at) == (0, None)


def test_r_53_data_flows_while_the_exchange_goes_on():
    pair = Pair(link=LinkConfig(latency_s=LATENCY_S))
    assert transfer(pair, 2560) <= LATENCY_S + 1e-6
    assert epochs(pair) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_r_51_lost_parts_are_sent_again(seed):
    pair = Pair(
        link=LinkConfig(latency_s=0.01, jitter_s=0.02, loss=0.4, duplication=0.2),
        seed=seed,
    )
    pair.drive(is_post_quantum(pair), within_s=60)
    assert epochs(pair) == (1, 1)
    transfer(pair, 25_600)


def test_r_51_the_old_phase_bit_is_0_and_the_new_1():
    pair = Pair(link=LinkConfig(latency_s=LATENCY_S))
    watch = KeyShareWatch(pair)
    pair.drive(is_post_quantum(pair))
    pair.run_for(1.0)
    for phases in watch.phases.values():
        assert phases[0] == 0
        assert phases[-1] == 1
        assert phases == sorted(phases)


@pytest.mark.parametrize(
    ("part", "data"),
    [
        (2, bytes(PART_SIZES[True])),
        (0, b"x"),
        (1, bytes(PART_SIZES[True] + 1)),
        (0, bytes(PART_SIZES[False])),
    ],
)
def test_r_52_a_malformed_part_closes(part, data):
    far = FarEnd()
    far.feed(encode_key_share(part, data))
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.KEY_SHARE


def test_r_52_a_part_that_changes_closes():
    far = FarEnd()
    far.feed(encode_key_share(0, bytes(592)))
    far.feed(encode_key_share(0, bytes(592)))
    assert far.connection.state is ConnectionState.OPEN
    far.feed(encode_key_share(0, b"\1" + bytes(591)))
    assert far.closed().code == CloseCode.KEY_SHARE


def test_r_52_a_wrong_encapsulation_key_closes():
    far = FarEnd()
    set_kem(far.connection, ML_KEM_768)
    far.feed(encode_key_share(0, b"\xff" * 592))
    far.feed(encode_key_share(1, b"\xff" * 592))
    closed = far.closed()
    assert (closed.code, closed.reason) == (
        CloseCode.KEY_SHARE,
        "the key share is no encapsulation key",
    )


def test_r_52_an_answer_with_other_keys_closes_both_ends():
    pair = Pair()
    set_kem(pair.b.connection, WrongKem("b"))
    pair.run_for(5.0)
    (closed,) = pair.a.events_of(Closed)
    assert closed.code == CloseCode.KEY_SHARE
    (told,) = pair.b.events_of(Closed)
    assert told.code == CloseCode.KEY_SHARE


def test_r_52_an_answer_that_nobody_asked_for_closes():
    pair = Pair(connect=False)
    b = pair.b.connection
    b.set_path(pair.a.endpoint, pair.now)
    b._controls.add(0x0E, 0)
    b._rekeying._exchange._message = bytes(CIPHERTEXT_SIZE + 16)
    pair.flush()
    pair.run_for(1.0)
    (closed,) = pair.a.events_of(Closed)
    assert closed.code == CloseCode.KEY_SHARE


def test_r_52_an_exchange_is_answered_once():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    far.feed(encode_ping(1))
    assert far.connection.statistics().key_epoch == 1
    for part in range(2):
        far.feed(encode_key_share(part, bytes(592)))
    assert far.frames(KeyShareFrame) == []
    assert far.closed() is None


# --- updates --------------------------------------------------------------------------


def test_r_54_keys_are_replaced_under_load_without_a_stall_or_a_loss():
    link = LinkConfig(latency_s=0.01, rate_Bps=2.5e5, queue_bytes=1 << 18)
    still, moving = Pair(link=link), Pair(link=link, config=OFTEN)
    unhurried = transfer(still, 1_280_000)
    hurried = transfer(moving, 1_280_000)
    assert epochs(still) == (1, 1)
    assert min(epochs(moving)) >= 5
    assert hurried <= unhurried * 1.01
    for end in (moving.a, moving.b):
        figures = end.connection.statistics()
        assert (figures.forged, figures.packets_lost) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_r_55_reordered_packets_find_their_key(seed):
    link = LinkConfig(latency_s=0.01, jitter_s=0.008, rate_Bps=1e6)
    pair = Pair(link=link, config=OFTEN, seed=seed)
    transfer(pair, 2_560_000)
    assert min(epochs(pair)) >= 5
    for end in (pair.a, pair.b):
        assert end.connection.statistics().forged == 0


@pytest.mark.parametrize("seed", range(3))
def test_r_55_updates_survive_loss_duplication_and_reordering(seed):
    link = LinkConfig(
        latency_s=0.01, jitter_s=0.03, loss=0.05, duplication=0.1, rate_Bps=1e6
    )
    pair = Pair(link=link, config=OFTEN, seed=seed)
    transfer(pair, 2_560_000)
    assert min(epochs(pair)) >= 2
    assert not pair.a.events_of(Closed)
    assert not pair.b.events_of(Closed)


def test_r_54_the_receiver_s_settings_start_updates_as_well():
    link = LinkConfig(latency_s=0.01, rate_Bps=2.5e5)
    pair = Pair(link=link)
    pair.b.connection._rekeying.keys._config = RudpConfig(key_update_packets=5)
    transfer(pair, 1_280_000)
    assert min(epochs(pair)) >= 4


def test_r_54_keys_are_replaced_by_age_when_little_is_said():
    pair = Pair(config=RudpConfig(key_update_interval_s=600.0))
    pair.run_for(3600.0)
    assert epochs(pair)[0] == epochs(pair)[1]
    assert 6 <= epochs(pair)[0] <= 7


def test_r_07_a_slow_path_is_no_reason_to_close_when_keys_change_every_second():
    config = RudpConfig(key_update_interval_s=1.0)
    pair = Pair(link=LinkConfig(latency_s=1.5, loss=0.1), config=config)
    for _ in range(100):
        pair.a.connection.ping(pair.now)
        pair.run_for(2.0)
    assert not pair.a.events_of(Closed)
    assert min(epochs(pair)) >= 10


def test_r_54_an_idle_connection_wakes_up_for_no_update():
    pair = Pair(config=RudpConfig(keep_alive_s=0.0, idle_timeout_s=1e6))
    pair.run_for(100.0)
    sent = pair.a.connection.statistics().packets_sent
    pair.run_for(5000.0)
    assert pair.a.connection.statistics().packets_sent == sent
    transfer(pair, 25_600)
    pair.run_for(1.0)
    assert epochs(pair) == (2, 2)


def test_r_54_the_other_end_follows_with_its_next_packet():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    for epoch in range(1, 5):
        far.feed(encode_ping(epoch))
        ((number, _),) = far.sent()
        assert far.keys.receive_epoch == epoch
        far.acknowledge(number)
        far.wait(2.0)
        far.update_keys()
    assert far.connection.state is ConnectionState.OPEN


def test_r_54_a_phase_may_change_within_a_run():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    far.feed(encode_ping(1))
    far.settle()
    far.events()
    run = [far.packet(encode_datagram(b"%04d" % index)) for index in range(10)]
    far.wait(2.0)
    far.update_keys()
    run += [far.packet(encode_datagram(b"%04d" % index)) for index in range(10, 20)]
    far.arrive(*run)
    assert far.events() == [DatagramReceived(b"%04d" % index) for index in range(20)]
    assert far.connection.statistics().key_epoch == 2
    assert far.connection.statistics().forged == 0


def test_r_55_phases_may_be_mixed_in_a_run():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    far.feed(encode_ping(1))
    far.settle()
    far.events()
    old = [far.packet(encode_datagram(b"old %04d" % index)) for index in range(10)]
    far.update_keys()
    new = [far.packet(encode_datagram(b"new %04d" % index)) for index in range(10)]
    far.arrive(*(wire for pair in zip(new, old, strict=True) for wire in pair))
    assert len(far.events()) == 20
    assert far.connection.statistics().forged == 0


def test_r_55_late_packets_are_forgeries_once_their_key_is_gone():
    far = FarEnd()
    far.settle()
    late = far.packet(encode_datagram(b"late"))
    far.exchange_keys()
    far.feed(encode_ping(1))
    far.settle()
    pto = far.connection._recovery.probe_timeout_s
    far.wait(3 * pto + 0.01)
    assert far.connection._rekeying.keys._old is None
    far.events()
    far.arrive(late)
    assert far.events() == []
    assert far.connection.statistics().forged == 1


@pytest.mark.parametrize("source", [THERE, ELSEWHERE])
def test_r_04_a_recording_of_all_phases_replayed_changes_nothing(source):
    far = FarEnd()
    far.settle()
    recorded = [far.packet(encode_datagram(b"0"))]
    far.arrive(*recorded)
    far.exchange_keys()
    for epoch in range(1, 4):
        text = encode_datagram(b"%d" % epoch)
        recorded.append(far.packet(text, encode_ping(epoch)))
        far.arrive(recorded[-1])
        far.settle()
        far.wait(2.0)
        far.update_keys()
    far.events()
    before = far.connection.statistics()
    for wire in recorded * 3:
        far.arrive(wire, source=source)
    after = far.connection.statistics()
    assert far.events() == []
    assert far.connection.state is ConnectionState.OPEN
    assert (after.key_epoch, after.path) == (before.key_epoch, before.path)
    assert after.packets_received == before.packets_received
    refused = after.duplicates + after.forged - before.duplicates - before.forged
    assert refused == 3 * len(recorded)


def test_r_56_a_storm_of_updates_closes():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    for borne in range(1000):
        far.feed(encode_ping(borne))
        if far.connection.state is not ConnectionState.OPEN:
            break
        far.sent()
        far.wait(0.01)
        far.update_keys()
    assert borne == 8
    assert far.closed().code == CloseCode.KEY_UPDATE


def test_r_56_a_newer_phase_below_an_older_number_closes():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    far.feed(encode_ping(1))
    far.settle()
    number = far.next_number
    far.feed(encode_ping(2), number=number + 1)
    far.update_keys()
    far.feed(encode_ping(3), number=number)
    assert far.closed().code == CloseCode.KEY_UPDATE


def test_r_56_an_older_phase_above_a_newer_number_closes():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    far.feed(encode_ping(1))
    far.settle()
    number = far.next_number
    old = far.packet(encode_ping(2), number=number + 5)
    far.update_keys()
    far.feed(encode_ping(3), number=number + 8)
    far.arrive(old)
    assert far.connection.state is ConnectionState.OPEN
    far.feed(encode_ping(4), number=number + 3)
    assert far.closed().code == CloseCode.KEY_UPDATE


def test_r_56_an_older_phase_above_a_whole_run_of_a_newer_one_closes():
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    far.feed(encode_ping(1))
    far.settle()
    number = far.next_number
    old = far.packet(encode_ping(2), number=number + 20)
    far.update_keys()
    far.feed(encode_ping(3), number=number + 30)
    far.arrive(old)
    text = encode_datagram(bytes(1000))
    far.arrive(*(far.packet(text, number=number + n) for n in range(8)))
    assert far.closed().code == CloseCode.KEY_UPDATE


# --- without keys ---------------------------------------------------------------------


def test_r_02_no_packet_without_the_keys_ends_a_connection_in_any_phase():
    """There is no stateless reset: what does not authenticate has no effect."""
    far = FarEnd()
    far.settle()
    far.exchange_keys()
    far.feed(encode_ping(1))
    far.settle()
    far.events()
    wire = far.packet(encode_datagram(b"genuine"))
    tail = far.its_id.prefix
    numbers = (0, 1, far.next_number, far.next_number + 50, 1 << 19)
    for phase in (0, packet.KEY_PHASE_FLAG):
        for number in numbers:
            header = packet.pack_header(tail, (number + far.its_id.offset) | phase)
            for body in (bytes(18), bytes(200), wire[17:], bytes(1183)):
                far.arrive(header + body)
                far.arrive(*[header + body] * 5, source=ELSEWHERE)
    assert far.connection.state is ConnectionState.OPEN
    assert far.connection.statistics().path == THERE
    assert far.sent() == []
    far.arrive(wire)
    assert far.events() == [DatagramReceived(b"genuine")]


def test_r_07_forged_packets_end_a_connection_at_2_to_the_36_under_one_key_only():
    far = FarEnd()
    far.settle()
    far.connection._receiver.forged = (1 << 36) - 2
    far.arrive(far.packet(encode_ping(1))[:-1] + b"x")
    assert far.connection.state is ConnectionState.OPEN
    far.connection._receiver.forged = (1 << 36) - 1
    far.arrive(far.packet(encode_ping(1))[:-1] + b"x")
    assert far.closed().code == CloseCode.KEY_EXHAUSTED
