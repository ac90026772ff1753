"""The paths of two ends: rules R-32, R-33, R-39, R-60 to R-66 of the RUDP page.

Every test says which path carried the bytes: the pair counts them by address.
"""

import dataclasses
import itertools

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import CongestionAlgorithm
from opnode.protocols.rudp.events import ChannelOpened, Closed, PathChanged
from opnode.protocols.rudp.path import CARRIED_RANK, Path, PathState
from opnode.testing.pair import End, LinkConfig, Pair

KB = 1000
LATENCY_S = 0.025
RTT_S = 2 * LATENCY_S
WIDE = LinkConfig(latency_s=LATENCY_S, rate_Bps=2e6)
# Its queue holds most of a second: a path under load answers late.
SLOW = LinkConfig(latency_s=LATENCY_S, rate_Bps=3e5)
NAT = Endpoint("192.0.2.1", 7777)
OTHER_HOST = Endpoint("198.51.100.9", 5000)
ATTACKER = Endpoint("203.0.113.66", 6666)


class Flow:
    """Bytes on one channel; remembers when they arrived."""

    def __init__(self, pair: Pair, sender: End, total: int) -> None:
        self.pair = pair
        self.sender, self.receiver = sender, pair.b if sender is pair.a else pair.a
        self.channel = sender.connection.open_channel(pair.now)
        self.left, self.got, self.total = total, 0, total
        self.arrived_at: list[float] = []
        self.pump()

    def pump(self) -> bool:
        """Write and read what is possible; true when all has arrived."""
        pair, channel = self.pair, self.channel
        while self.left:
            taken = self.sender.connection.send(
                channel, bytes(min(self.left, 64 * KB)), pair.now
            )
            if not taken:
                break
            self.left -= taken
        if self.got or ChannelOpened(channel) in self.receiver.events:
            while piece := self.receiver.connection.read(channel, 1 << 20, pair.now):
                self.got += len(piece)
                self.arrived_at.append(pair.now)
        return self.got == self.total

    def run_to(self, share: float) -> None:
        """Go on until this share has arrived."""
        self.pair.drive(lambda: self.pump() or self.got >= share * self.total)

    @property
    def longest_pause_s(self) -> float:
        times = self.arrived_at
        return max(after - before for before, after in itertools.pairwise(times))


def settled_pair(link: LinkConfig = WIDE, config: RudpConfig | None = None) -> Pair:
    """Two ends that have measured their round trip."""
    pair = Pair(link=link, config=config)
    for end in (pair.a, pair.b):
        end.connection.ping(pair.now)
    pair.run_for(0.3)
    return pair


def pto_s(end: End) -> float:
    figures = end.connection.statistics()
    assert figures.smoothed_rtt_s is not None
    assert figures.rtt_variation_s is not None
    return figures.smoothed_rtt_s + max(4 * figures.rtt_variation_s, 0.001) + 0.005


def with_warm_path(
    link: LinkConfig = WIDE, first: LinkConfig = WIDE
) -> tuple[Pair, Endpoint, Endpoint]:
    """A pair with a second way between them that has answered; a added it."""
    pair = settled_pair(first)
    ours, theirs = pair.add_way(link)
    assert pair.a.connection.add_path(theirs, pair.now)
    pair.run_for(0.5)
    return pair, ours, theirs


def state_of(end: End, endpoint: Endpoint) -> PathState | None:
    states = {path.endpoint: path.state for path in end.connection.paths()}
    return states.get(endpoint)


def path_of(end: End) -> Endpoint | None:
    return end.connection.statistics().path


# --- rebinding ------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["sender", "receiver"])
@pytest.mark.parametrize("new", [NAT, OTHER_HOST])
def test_r_32_rebinding_loses_nothing_and_pauses_a_round_trip_and_a_timeout(who, new):
    pair = settled_pair()
    flow = Flow(pair, pair.a if who == "sender" else pair.b, 1500 * KB)
    flow.run_to(0.5)
    allowed = RTT_S + max(pto_s(pair.a), pto_s(pair.b))
    pair.rebind(pair.a, new)
    flow.arrived_at.clear()
    flow.run_to(1.0)
    assert flow.longest_pause_s <= allowed
    assert path_of(pair.b) == new
    assert pair.carried[new, pair.b.endpoint] > 0
    if who == "receiver":
        assert pair.carried[pair.b.endpoint, new] > 400 * KB
    assert not pair.a.events_of(Closed)


def test_r_32_another_port_of_the_same_host_keeps_the_congestion_state():
    pair = settled_pair()
    flow = Flow(pair, pair.b, 1500 * KB)
    flow.run_to(0.5)
    before = pair.b.connection.statistics().congestion_window
    pair.rebind(pair.a, NAT)
    pair.drive(lambda: flow.pump() or path_of(pair.b) == NAT)
    assert pair.b.connection.statistics().congestion_window >= before
    flow.run_to(1.0)


def test_r_32_the_id_stays_when_a_nat_rebinds():
    pair = settled_pair()
    first = pair.a.connection.local_ids[0]
    seen = set()
    cut = pair.on_transmission

    def watch(end, burst):
        seen.add((end is pair.a, burst.data[1:9]))
        return cut(end, burst)

    pair.on_transmission = watch
    pair.rebind(pair.a, NAT)
    pair.a.connection.ping(pair.now)
    pair.run_for(1.0)
    assert path_of(pair.b) == NAT
    assert len(seen) == 2
    assert (False, first) in seen


def test_r_32_the_address_that_a_nat_took_away_is_forgotten():
    pair = settled_pair()
    old = pair.a.endpoint
    pair.rebind(pair.a, NAT)
    pair.a.connection.ping(pair.now)
    pair.run_for(3.0)
    assert [path.endpoint for path in pair.b.connection.paths()] == [NAT]
    assert state_of(pair.b, old) is None


# --- copies ---------------------------------------------------------------------------


def copying(pair: Pair, *, faster_s: float, relays: bool) -> None:
    """Somebody sends copies of a's packets from an address of their own, and earlier.

    One that relays also forwards to a what b sends there, and a's answers.
    """
    cut = pair.on_transmission
    fast = LinkConfig(latency_s=LATENCY_S - faster_s)
    pair.links[ATTACKER] = fast

    def copy(end, burst):
        parts = cut(end, burst)
        for data in parts:
            if end is pair.a:
                pair.put_on_link(ATTACKER, pair.b.endpoint, data)
            elif burst.destination == ATTACKER and relays:
                pair.put_on_link(ATTACKER, pair.a.endpoint, data)
        return parts

    pair.on_transmission = copy


@pytest.mark.parametrize("relays", [False, True])
@pytest.mark.parametrize("who", ["a", "b"])
def test_r_33_copies_from_elsewhere_do_not_steal_the_path(relays, who):
    pair = settled_pair()
    copying(pair, faster_s=0.01, relays=relays)
    stolen = 0
    cut = pair.on_transmission

    def count(end, burst):
        nonlocal stolen
        stolen += len(burst.data) * (burst.destination == ATTACKER)
        return cut(end, burst)

    pair.on_transmission = count
    flow = Flow(pair, pair.a if who == "a" else pair.b, 1500 * KB)
    flow.run_to(1.0)
    assert path_of(pair.b) == pair.a.endpoint
    assert 0 < stolen < 150 * KB
    assert not pair.a.events_of(Closed)


def test_r_33_after_a_copy_a_real_move_is_still_followed():
    pair = settled_pair()
    honest = pair.on_transmission
    copying(pair, faster_s=0.01, relays=False)
    flow = Flow(pair, pair.b, 3000 * KB)
    flow.run_to(0.3)
    pair.on_transmission = honest
    pair.rebind(pair.a, NAT)
    flow.run_to(1.0)
    assert path_of(pair.b) == NAT


# --- the limit before the proof -------------------------------------------------------


@pytest.mark.parametrize("who", ["a", "b"])
def test_r_39_an_unproven_address_gets_three_times_what_came_from_it(who):
    pair = settled_pair()
    sent = 0
    worst = 0.0
    flow = Flow(pair, pair.a if who == "a" else pair.b, 800 * KB)
    flow.run_to(0.3)
    cut = pair.on_transmission

    def count(end, burst):
        nonlocal sent, worst
        if end is pair.b and burst.destination == ATTACKER:
            sent += len(burst.data)
            worst = max(worst, sent / max(pair.carried[ATTACKER, pair.b.endpoint], 1))
        return cut(end, burst)

    pair.on_transmission = count
    copying(pair, faster_s=0.02, relays=False)
    flow.run_to(1.0)
    assert sent > 0
    assert worst <= 3.0


# --- warm paths -----------------------------------------------------------------------


def test_r_60_an_added_path_is_validated_by_both_and_carries_no_data():
    pair, ours, theirs = with_warm_path()
    assert state_of(pair.a, theirs) is PathState.VALIDATED
    assert state_of(pair.b, ours) is PathState.VALIDATED
    assert path_of(pair.a) == pair.b.endpoint
    Flow(pair, pair.a, 300 * KB).run_to(1.0)
    assert pair.carried[ours, theirs] < 10 * KB
    assert not pair.b.events_of(PathChanged)


@pytest.mark.parametrize("latency_s", [0.005, 0.2])
@pytest.mark.parametrize("who", ["a", "b"])
def test_r_61_a_dead_path_is_left_within_three_timeouts(who, latency_s):
    pair, ours, theirs = with_warm_path(LinkConfig(latency_s=latency_s, rate_Bps=2e6))
    sender = pair.a if who == "a" else pair.b
    flow = Flow(pair, sender, 1500 * KB)
    flow.run_to(0.4)
    limit = 3 * pto_s(sender)
    pair.dead.add(pair.a.endpoint)
    died_at = pair.now
    flow.arrived_at.clear()
    pair.drive(lambda: flow.pump() or bool(sender.events_of(PathChanged)))
    assert pair.now - died_at <= limit + LATENCY_S
    flow.run_to(1.0)
    assert path_of(pair.a) == theirs
    assert path_of(pair.b) == ours
    way = (ours, theirs) if who == "a" else (theirs, ours)
    assert pair.carried[way] > 500 * KB
    assert not pair.a.events_of(Closed)


def test_r_61_one_lost_probe_or_packet_does_not_move_anybody():
    pair, _ours, _theirs = with_warm_path()
    cut = pair.on_transmission
    lost = []

    def lose_some(end, burst):
        parts = cut(end, burst)
        if burst.destination == pair.b.endpoint and len(lost) < 2:
            lost.extend(parts)
            return []
        return parts

    pair.on_transmission = lose_some
    for _ in range(40):
        pair.a.connection.send_datagram(b"x", pair.now)
        pair.a.connection.ping(pair.now)
        pair.run_for(0.3)
    assert len(lost) >= 2
    assert not pair.a.events_of(PathChanged)
    assert path_of(pair.a) == pair.b.endpoint


def test_r_61_thirty_percent_loss_moves_nobody_to_a_path_that_is_no_better():
    pair, _ours, _theirs = with_warm_path(LinkConfig(latency_s=LATENCY_S, loss=0.3))
    pair.link = LinkConfig(latency_s=LATENCY_S, rate_Bps=2e6, loss=0.1)
    Flow(pair, pair.a, 600 * KB).run_to(1.0)
    assert not pair.a.events_of(PathChanged)


@pytest.mark.slow
def test_r_62_a_better_path_is_taken_after_three_comparisons_and_kept():
    pair, ours, theirs = with_warm_path(
        LinkConfig(latency_s=0.005, rate_Bps=3e5), first=SLOW
    )
    began_at = pair.now
    flow = Flow(pair, pair.a, 9000 * KB)
    pair.drive(lambda: flow.pump() or bool(pair.a.events_of(PathChanged)))
    assert 5.0 <= pair.now - began_at <= 16.0
    flow.run_to(1.0)
    assert [event.endpoint for event in pair.a.events_of(PathChanged)] == [theirs]
    assert [event.endpoint for event in pair.b.events_of(PathChanged)] == [ours]
    assert pair.carried[ours, theirs] > 3000 * KB


# --- ranks ----------------------------------------------------------------------------

QUICK = LinkConfig(latency_s=0.002, rate_Bps=2e6)
LONG = LinkConfig(latency_s=0.1, rate_Bps=2e6)


def on_a_relay(
    relay: LinkConfig = QUICK, direct: LinkConfig = LONG
) -> tuple[Pair, Endpoint, Endpoint, Endpoint, Endpoint]:
    """A pair that talks by relay and has been told of a direct way, not yet tried.

    Returns the pair, both ends of the relayed way, and both of the direct one.
    """
    pair = settled_pair(relay)
    relayed = pair.a.endpoint, pair.b.endpoint
    pair.a.connection.ways.set_rank(relayed[1], CARRIED_RANK)
    pair.b.connection.ways.set_rank(relayed[0], CARRIED_RANK)
    return pair, *relayed, *pair.add_way(direct)


def test_r_67_a_direct_path_is_taken_with_its_first_answer_however_long_it_is():
    pair, _, relay, ours, theirs = on_a_relay()
    flow = Flow(pair, pair.a, 3000 * KB)
    flow.run_to(0.1)
    began_at = pair.now
    assert pair.a.connection.add_path(theirs, pair.now)
    assert path_of(pair.a) == relay
    pair.drive(lambda: flow.pump() or path_of(pair.a) == theirs)
    assert pair.now - began_at <= 0.2 + LATENCY_S
    flow.run_to(1.0)
    assert path_of(pair.b) == ours
    assert pair.carried[ours, theirs] > 2000 * KB
    assert len(pair.a.events_of(PathChanged)) == 1


def test_r_67_the_responder_follows_and_both_ends_stay():
    pair, _, _, ours, theirs = on_a_relay()
    pair.b.connection.add_path(ours, pair.now)
    pair.a.connection.add_path(theirs, pair.now)
    pair.a.connection.ping(pair.now)
    pair.run_for(1.0)
    pair.a.connection.ping(pair.now)
    pair.run_for(60.0)
    assert (path_of(pair.a), path_of(pair.b)) == (theirs, ours)
    assert len(pair.b.events_of(PathChanged)) == 1


def test_r_67_no_round_trip_makes_anybody_go_back_to_a_relay():
    pair, _, relay, _, theirs = on_a_relay()
    pair.a.connection.add_path(theirs, pair.now)
    pair.run_for(1.0)
    assert path_of(pair.a) == theirs
    Flow(pair, pair.a, 8000 * KB).run_to(1.0)
    pair.run_for(30.0)
    assert path_of(pair.a) == theirs
    assert state_of(pair.a, relay) is PathState.VALIDATED


def test_r_67_a_direct_path_that_never_answers_takes_nothing_away():
    pair, _, relay, ours, theirs = on_a_relay()
    pair.dead.add(ours)
    pair.a.connection.add_path(theirs, pair.now)
    flow = Flow(pair, pair.a, 1500 * KB)
    flow.run_to(1.0)
    assert path_of(pair.a) == relay
    assert flow.longest_pause_s < RTT_S


def test_r_67_when_the_direct_path_dies_the_relay_takes_over_within_three_timeouts():
    pair, relay_a, relay_b, ours, theirs = on_a_relay()
    pair.a.connection.add_path(theirs, pair.now)
    pair.run_for(1.0)
    flow = Flow(pair, pair.a, 1500 * KB)
    flow.run_to(0.3)
    limit = 3 * pto_s(pair.a)
    pair.dead.add(ours)
    died_at = pair.now
    pair.drive(lambda: flow.pump() or path_of(pair.a) == relay_b)
    assert pair.now - died_at <= limit + LATENCY_S
    flow.run_to(1.0)
    assert path_of(pair.b) == relay_a


def test_r_67_a_direct_path_that_comes_and_goes_has_to_answer_more_each_time():
    pair, _, relay, ours, theirs = on_a_relay(direct=WIDE)
    pair.a.connection.add_path(theirs, pair.now)
    pair.run_for(1.0)
    asked_at, cut, probes = [], pair.on_transmission, []

    def count(end, burst):
        if burst.destination == theirs:
            asked_at.append(pair.now)
        return cut(end, burst)

    pair.on_transmission = count
    for _ in range(3):
        pair.dead.add(ours)
        for _ in range(40):
            pair.a.connection.ping(pair.now)
            pair.run_for(0.05)
        assert path_of(pair.a) == relay
        pair.dead.clear()
        asked = len(asked_at)
        for _ in range(400):
            if path_of(pair.a) == theirs:
                break
            pair.a.connection.ping(pair.now)
            pair.run_for(0.5)
        assert path_of(pair.a) == theirs
        probes.append(len(asked_at) - asked)
    assert probes[0] >= 3
    assert probes[1] > probes[0]
    assert probes[2] > probes[1]


def test_r_68_a_path_that_is_taken_away_is_left_at_once():
    pair, _, relay, ours, theirs = on_a_relay()
    pair.a.connection.add_path(theirs, pair.now)
    pair.run_for(1.0)
    flow = Flow(pair, pair.a, 1500 * KB)
    flow.run_to(0.3)
    pair.dead.add(ours)
    pair.a.connection.ways.remove(theirs, pair.now)
    assert path_of(pair.a) == relay
    assert state_of(pair.a, theirs) is None
    flow.run_to(1.0)


def test_r_68_without_another_the_next_path_that_answers_is_taken_at_once():
    pair, _, relay, ours, theirs = on_a_relay()
    flow = Flow(pair, pair.a, 1500 * KB)
    flow.run_to(0.3)
    pair.dead.add(pair.a.endpoint)
    for end, gone in ((pair.a, relay), (pair.b, pair.a.endpoint)):
        end.connection.ways.remove(gone, pair.now)
    assert path_of(pair.a) == relay
    pair.run_for(5.0)
    pair.b.connection.add_path(ours, pair.now)
    pair.a.connection.add_path(theirs, pair.now)
    back_at = pair.now
    pair.drive(lambda: flow.pump() or path_of(pair.a) == theirs)
    assert pair.now - back_at <= 3 * 0.2
    flow.run_to(1.0)
    pair.a.connection.ways.remove(ATTACKER, pair.now)


def test_r_64_what_is_carried_leaves_room_for_its_frame():
    config = RudpConfig(max_packet_size=9000)
    carried = Path(
        Endpoint("100::1", 1), rtt_s=0.1, min_pto_s=0.01, max_packet_size=9000
    )
    pair = settled_pair(config=config)
    assert carried.mtu._maximum == 1443
    assert pair.a.connection.ways.paths()[0].mtu._maximum == 9000


@pytest.mark.slow
def test_r_62_a_path_is_not_left_for_the_queue_that_we_fill_ourselves():
    pair, _ours, _theirs = with_warm_path(SLOW, first=SLOW)
    Flow(pair, pair.a, 7000 * KB).run_to(1.0)
    assert not pair.a.events_of(PathChanged)


def test_r_63_a_path_that_an_end_begins_has_other_ids_in_both_directions():
    pair = settled_pair()
    by_way: dict[tuple[bool, Endpoint], set[bytes]] = {}
    cut = pair.on_transmission

    def watch(end, burst):
        key = (end is pair.a, burst.destination)
        by_way.setdefault(key, set()).add(burst.data[1:9])
        return cut(end, burst)

    pair.on_transmission = watch
    ours, theirs = pair.add_way()
    pair.a.connection.set_path(theirs, pair.now)
    flow = Flow(pair, pair.a, 300 * KB)
    flow.run_to(1.0)
    assert path_of(pair.a) == theirs
    assert path_of(pair.b) == ours
    assert pair.carried[ours, theirs] > 150 * KB
    for is_a, first, second in (
        (True, pair.b.endpoint, theirs),
        (False, pair.a.endpoint, ours),
    ):
        assert by_way[is_a, first].isdisjoint(by_way[is_a, second])


def test_r_63_ids_go_on_for_many_moves():
    pair = settled_pair()
    ways = [(pair.a.endpoint, pair.b.endpoint), pair.add_way()]
    for number in range(20):
        ours, theirs = ways[(number + 1) % 2]
        pair.dead.discard(ours)
        mover, to = (pair.a, theirs) if number % 3 else (pair.b, ours)
        mover.connection.set_path(to, pair.now)
        Flow(pair, pair.a, 20 * KB).run_to(1.0)
        pair.run_for(1.0)
        assert (path_of(pair.a), path_of(pair.b)) == (theirs, ours)
        pair.dead.add(ways[number % 2][0])
        pair.run_for(60.0)
    assert len(pair.a.connection.local_ids) <= 12


def test_r_63_both_ends_that_move_at_once_agree():
    pair = settled_pair()
    first, second = pair.add_way(), pair.add_way()
    pair.a.connection.set_path(first[1], pair.now)
    pair.b.connection.set_path(second[0], pair.now)
    flow = Flow(pair, pair.a, 600 * KB)
    flow.run_to(1.0)
    pair.run_for(1.0)
    assert (path_of(pair.a), path_of(pair.b)) in [
        (first[1], first[0]),
        (second[1], second[0]),
    ]
    assert len(pair.a.events_of(PathChanged)) + len(pair.b.events_of(PathChanged)) < 6


def test_r_32_a_path_that_never_answers_gets_no_data():
    pair = settled_pair()
    pair.a.connection.set_path(OTHER_HOST, pair.now)
    Flow(pair, pair.a, 100 * KB).run_to(1.0)
    pair.run_for(5.0)
    assert path_of(pair.a) == pair.b.endpoint
    assert state_of(pair.a, OTHER_HOST) is PathState.FAILED
    assert not pair.a.events_of(PathChanged)


# --- packet size ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mtu", "found"),
    [(1280, 1252), (1452, 1452), (9000, 8972), (65_507, 65_507)],
)
def test_r_64_bulk_data_finds_the_packet_size_of_the_path(mtu, found):
    pair = settled_pair(LinkConfig(latency_s=0.01, rate_Bps=20e6, mtu=mtu))
    flow = Flow(pair, pair.a, 40_000 * KB)
    flow.run_to(1.0)
    (path,) = pair.a.connection.paths()
    assert path.packet_size == found


def test_r_64_small_connections_are_not_probed():
    pair = settled_pair(LinkConfig(latency_s=0.01, mtu=65_507))
    largest = 0
    cut = pair.on_transmission

    def watch(end, burst):
        nonlocal largest
        largest = max(largest, burst.segment_size)
        return cut(end, burst)

    pair.on_transmission = watch
    Flow(pair, pair.a, 100 * KB).run_to(1.0)
    assert largest <= 1200


def test_r_64_a_maximum_of_1200_turns_the_search_off():
    config = RudpConfig(max_packet_size=1200)
    pair = settled_pair(LinkConfig(latency_s=0.01, mtu=65_507), config)
    Flow(pair, pair.a, 3000 * KB).run_to(1.0)
    assert pair.a.connection.paths()[0].packet_size == 1200


@pytest.mark.slow
def test_r_65_when_large_packets_vanish_small_ones_go_on():
    pair = settled_pair(LinkConfig(latency_s=0.01, rate_Bps=20e6, mtu=9000))
    flow = Flow(pair, pair.a, 20_000 * KB)
    flow.run_to(0.3)
    assert pair.a.connection.paths()[0].packet_size == 8972
    pair.link = LinkConfig(latency_s=0.01, rate_Bps=20e6, mtu=1400)
    flow.arrived_at.clear()
    flow.run_to(1.0)
    assert flow.longest_pause_s < 0.5
    assert pair.a.connection.paths()[0].packet_size in (1352, 1372, 1392)
    assert not pair.a.events_of(Closed)


def test_r_63_a_long_path_that_was_begun_before_a_short_one_is_proven_at_once():
    pair = Pair(link=LinkConfig(latency_s=0.02))
    pair.run_for(1)
    for latency_s in (0.1, 0.01):
        _, theirs = pair.add_way(LinkConfig(latency_s=latency_s))
        pair.a.connection.add_path(theirs, pair.now)
    pair.run_for(1)
    states = {path.state for path in pair.a.connection.paths()}
    assert states == {PathState.VALIDATED}


@pytest.mark.parametrize("algorithm", list(CongestionAlgorithm))
def test_r_17_an_outage_leaves_room_for_a_large_packet(algorithm):
    jumbo = LinkConfig(latency_s=0.01, mtu=65_507)
    pair = Pair(link=jumbo, config=RudpConfig(congestion=algorithm))
    sender = pair.a.connection
    channel = sender.open_channel(pair.now)

    def read_all() -> bool:
        while pair.b.connection.read(channel, 1 << 20, pair.now):
            pass
        return sender.statistics().packet_size == 65_507

    for size in [500_000] * 12:
        sender.send(channel, bytes(size), pair.now)
        pair.run_for(0.1)
        is_large = read_all()
    assert is_large, "the search has not come to its end"
    pair.link = dataclasses.replace(jumbo, loss=1.0)
    sender.send(channel, bytes(1000), pair.now)
    pair.run_for(1)
    sender.send(channel, bytes(400_000), pair.now)
    pair.link = jumbo
    pair.run_for(1)
    read_all()
    sender.send(channel, bytes(100_000), pair.now)
    pair.run_for(1)
    assert sender.statistics().bytes_in_flight == 0
    assert not sender.has_work
