"""Receivers that lie about what they got (R-40), each played against a sender.

One lie passes once in 256 times, so a liar is tried many times: with 300 seeds one or
two get away with their first lie, and none with ten.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.events import Closed
from opnode.protocols.rudp.frames import encode_ack, encode_data
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.protocols.rudp.receipts import Receipt
from opnode.protocols.rudp.violation import CloseCode
from opnode.testing.pair import LinkConfig, Pair
from tests.unit.protocols.rudp.far_end import FarEnd

SEEDS = 300
INITIAL_BYTES = RudpConfig().initial_window_packets * packet.BASE_PACKET_SIZE
RTT_S = 0.05


class Verdict(NamedTuple):
    """How many ACKs with a lie were borne, what the end was, and what was sent."""

    borne: int
    closed: Closed | None
    bytes_sent: int


class Liar:
    """A peer that takes in what it likes and acknowledges what it likes."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.far = FarEnd(seed=seed)
        self.offset = self.far.own_id(0).offset
        self._agree_on_the_round_trip()
        self.got: set[int] = set()
        self.lies = 0

    def _agree_on_the_round_trip(self) -> None:
        far = self.far
        far.feed(encode_data(0, 0, b"go", fin=False))
        while sent := far.sent():
            far.now += RTT_S
            far.acknowledge(*(number for number, _ in sent))
            far.connection.handle_deadline(far.now)

    @property
    def sent_below(self) -> int:
        return self.far.connection._sealer.next_number

    @property
    def is_believed(self) -> bool:
        return self.far.connection.state is ConnectionState.OPEN

    def receive(self, takes: Callable[[int], bool]) -> None:
        """Let the sender send; open the packets whose numbers are taken."""
        far = self.far
        far.connection.send(0, bytes(1 << 20), far.now)
        while bursts := far.connection.datagrams_to_send(far.now):
            for burst in bursts:
                size = burst.segment_size
                for at in range(0, len(burst.data), size):
                    self._take(burst.data[at : at + size], takes)

    def _take(self, wire: bytes, takes: Callable[[int], bool]) -> None:
        (found,) = packet.unpack_wire_number(wire, packet.PREFIX_SIZE)
        number = (found & packet.WIRE_NUMBER_MASK) - self.offset
        if takes(number):
            self.far.open(wire)
            self.got.add(number)

    def claim(self, *ranges: tuple[int, int]) -> None:
        """Acknowledge ranges, highest first, guessing what is not known."""
        self.far.now += RTT_S
        self.far.connection.handle_deadline(self.far.now)
        told = [self._receipt(start, stop) for start, stop in ranges]
        self.lies += any(
            not self.got.issuperset(range(start, stop)) for start, stop in ranges
        )
        self.far.feed(encode_ack(0.0, told))

    def _receipt(self, start: int, stop: int) -> Receipt:
        start, stop, proof = self.far.receipt(start, stop)
        if not self.got.issuperset(range(start, stop)):
            proof ^= self.dice.randrange(256)
        return start, stop, proof

    def honest_ranges(self) -> list[tuple[int, int]]:
        """Return what was received, highest first."""
        ranges: list[tuple[int, int]] = []
        for number in sorted(self.got, reverse=True):
            if ranges and ranges[-1][0] == number + 1:
                ranges[-1] = (number, ranges[-1][1])
            else:
                ranges.append((number, number + 1))
        return ranges[:64]

    def verdict(self) -> Verdict:
        closed = self.far.closed()
        sent = self.far.connection.statistics().bytes_sent
        return Verdict(self.lies - (closed is not None), closed, sent)


def acknowledges_ahead(liar: Liar) -> None:
    """Takes the first packet of each flight and acknowledges all of it."""
    first = liar.sent_below
    liar.receive(lambda number: number == first)
    liar.claim((first, liar.sent_below))


def acknowledges_everything(liar: Liar) -> None:
    """Reads nothing at all, as somebody who floods a third party with our help."""
    first = liar.sent_below
    liar.receive(lambda _: False)
    liar.claim((first, liar.sent_below))


def hides_one_loss(liar: Liar) -> None:
    """Misses a single packet of a flight and does not want to be slowed down."""
    first = liar.sent_below
    liar.receive(lambda number: number != first + 3)
    liar.claim((first, liar.sent_below))


def hides_losses_by_single_packets(liar: Liar) -> None:
    """Claims a missing packet in a range of its own, beside honest ones."""
    first = liar.sent_below
    liar.receive(lambda number: (number - first) % 5 != 2)
    liar.claim((first + 4, first + 7), (first + 2, first + 3), (first, first + 1))


def takes_losses_back(liar: Liar) -> None:
    """Admits a loss, and calls it reordering when the window has been cut.

    What it takes back is in no range with a packet that is still in flight.
    """
    first = liar.sent_below
    missing = range(first + 2, first + 3)
    liar.receive(lambda number: number not in missing)
    stop = liar.sent_below
    if stop <= missing.stop + 4:
        liar.claim(*liar.honest_ranges())
        return
    liar.claim((missing.stop, stop), (first, missing.start))
    liar.receive(lambda _: True)
    liar.claim((missing.stop + 1, liar.sent_below), (missing.start, missing.stop))


LIARS = [
    acknowledges_ahead,
    acknowledges_everything,
    hides_one_loss,
    hides_losses_by_single_packets,
    takes_losses_back,
]


def play(lie: Callable[[Liar], None], seed: int, rounds: int = 10) -> Verdict:
    liar = Liar(seed)
    for _ in range(rounds):
        lie(liar)
        if not liar.is_believed:
            break
    return liar.verdict()


@pytest.mark.parametrize("lie", LIARS)
def test_r_40_who_lies_is_cut_off_within_ten_packets(lie):
    verdicts = [play(lie, seed) for seed in range(SEEDS)]
    assert all(
        verdict.closed is not None and verdict.closed.code == CloseCode.FALSE_RECEIPT
        for verdict in verdicts
    )
    assert max(verdict.borne for verdict in verdicts) <= 3
    assert sum(verdict.borne > 0 for verdict in verdicts) <= 8


@pytest.mark.parametrize("lie", [acknowledges_ahead, acknowledges_everything])
def test_r_40_who_acknowledges_ahead_is_sent_no_more_than_the_first_window(lie):
    for seed in range(50):
        verdict = play(lie, seed)
        assert verdict.bytes_sent <= 1.2 * INITIAL_BYTES * 2**verdict.borne


def test_r_40_who_takes_losses_back_does_not_get_its_window_again():
    for seed in range(20):
        liar = Liar(seed)
        first = liar.sent_below
        missing = range(first + 2, first + 6)
        liar.receive(lambda number, missing=missing: number not in missing)
        liar.claim((missing.stop, liar.sent_below), (first, missing.start))
        cut = liar.far.connection.statistics().congestion_window
        top = liar.sent_below
        liar.claim((missing.stop + 1, top), (missing.start, missing.stop))
        if liar.is_believed:
            continue
        assert liar.far.connection.statistics().congestion_window == cut


def test_r_40_a_loss_that_was_reordering_is_believed():
    liar = Liar(1)
    first = liar.sent_below
    late: list[bytes] = []
    far = liar.far
    far.connection.send(0, bytes(1 << 20), far.now)
    while bursts := far.connection.datagrams_to_send(far.now):
        for burst in bursts:
            size = burst.segment_size
            for at in range(0, len(burst.data), size):
                number = first + len(liar.got) + len(late)
                if number in range(first + 2, first + 6):
                    late.append(burst.data[at : at + size])
                else:
                    liar._take(burst.data[at : at + size], lambda _: True)
    liar.claim(*liar.honest_ranges())
    assert far.connection.statistics().packets_lost == len(late) == 4
    for wire in late:
        liar._take(wire, lambda _: True)
    liar.claim(*liar.honest_ranges())
    assert liar.lies == 0
    assert liar.is_believed


@pytest.mark.parametrize("seed", range(8))
def test_r_40_honest_receivers_are_never_accused(seed):
    dice = random.Random(seed)
    link = LinkConfig(
        latency_s=0.01,
        jitter_s=dice.choice([0.0, 0.005, 0.05]),
        loss=dice.choice([0.0, 0.02, 0.3]),
        duplication=dice.choice([0.0, 0.3]),
        rate_Bps=dice.choice([0.0, 1e6]),
    )
    config = RudpConfig(
        max_received_ranges=dice.choice([8, 64, 1024]), key_update_packets=100
    )
    pair = Pair(link=link, config=config, seed=seed)
    channel = pair.a.connection.open_channel(pair.now)
    left = 400_000

    def work() -> bool:
        nonlocal left
        if left:
            left -= pair.a.connection.send(channel, bytes(left), pair.now)
        while pair.b.connection.statistics().channels_open and (
            pair.b.connection.read(channel, 1 << 16, pair.now)
        ):
            pass
        done = pair.b.connection.statistics().bytes_received > 400_000
        return bool(pair.a.events_of(Closed) or pair.b.events_of(Closed)) or done

    pair.drive(work, within_s=600)
    assert not pair.a.events_of(Closed)
    assert not pair.b.events_of(Closed)
