import itertools
import random

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RequestTimeout
from opnode.core.ids import Contact
from opnode.core.peerfile import (
    Identity,
    IntroducerEntry,
    certify_location,
    read_presence,
)
from opnode.core.records import RecordKind
from opnode.node.network_watch import NetworkChange
from opnode.node.presence.introducers import Introducers
from opnode.node.presence.knocker import Knock
from opnode.node.presence.presence import (
    RENEW_AT,
    RETRY_CAP_S,
    PresenceConfig,
    PresenceKeeper,
)
from opnode.node.presence.publishing import PresencePublisher
from opnode.protocols.binding_lifetime import BindingLifetimeConfig
from opnode.protocols.introductions.introducer import Standing
from opnode.protocols.rpc.messages import handle_of
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key, seeded_static_key

SIGNING = seeded_signing_key("location")
CONFIG = PresenceConfig(presence_lifetime_s=1200)
REGISTRATION_S = 300
KEEPALIVE_S = BindingLifetimeConfig().start_s


def contact(number):
    return Contact(bytes([number]) * 20, Endpoint("10.0.0.1", number))


class RecordingDht:
    def __init__(self, nodes):
        self.nodes = nodes
        self.put_records = []
        self.deaf_once = set()
        self.dead = set()
        self.asked_at = []
        self.holders = 1

    async def closest_nodes(self, _key):
        await trio.sleep(0.01)
        return list(self.nodes)

    closest_nodes_again = closest_nodes

    async def put(self, record, **_):
        await trio.sleep(0.01)
        self.put_records.append(record)
        return self.holders

    async def put_at(self, record, holders):
        await trio.sleep(0.01)
        self.put_records.append(record)
        deaf = [holder for holder in holders if holder in self.deaf_once | self.dead]
        self.deaf_once -= set(deaf)
        self.asked_at.append([holder for holder in holders if holder not in deaf])
        return list(self.asked_at[-1]) if self.holders else []

    async def highest_seq(self, _record):
        await trio.sleep(0.01)

    def hold_if_close(self, _record, _holders):
        return False

    def presences(self):
        kind = RecordKind.PRESENCE
        live = [r for r in self.put_records if not r.is_withdrawal]
        return [read_presence(r) for r in live if r.kind is kind]


class RecordingIntroductions:
    def __init__(self):
        self.dead = set()
        self.registered = []
        self.probed = []
        self.moved = False
        self.unregistered = []

    async def register(self, introducer, _location, lifetime_s):
        await trio.sleep(0.01)
        if introducer in self.dead:
            raise RequestTimeout("dead")
        if lifetime_s == 0:
            self.unregistered.append(introducer)
            return 0
        self.registered.append(introducer)
        return lifetime_s

    def silence_s(self, _introducer):
        return 0.0

    async def standing(self, introducer):
        await trio.sleep(0.01)
        self.probed.append((trio.current_time(), introducer))
        if introducer in self.dead:
            return Standing.GONE
        return Standing.MOVED if self.moved else Standing.KEPT

    def serve_own(self, location_public):
        return IntroducerEntry(
            node_id=bytes(20),
            endpoint=Endpoint("0.0.0.0", 1),
            handle=handle_of(location_public),
        )


class SilentKnocker:
    """Nobody knocks: the interval stays what it is at first."""

    async def knock(self, _introducer, _handle):
        await trio.sleep(0.01)
        return Knock.UNKNOWN


def make_keeper(dht, introductions, *, behind_nat=True):
    wall_clock = VirtualWallClock()
    identity = Identity(seeded_signing_key("identity"))
    location = certify_location(
        identity,
        signing=SIGNING,
        static=seeded_static_key("location"),
        name="laptop",
        wall_now=wall_clock(),
        lifetime_s=86_400 * 30,
    )
    rng = random.Random(7)
    keeper = PresenceKeeper(
        location=location,
        publisher=PresencePublisher(
            identity=identity,
            location=location,
            dht=dht,
            wall_clock=wall_clock,
            lifetime_s=CONFIG.presence_lifetime_s,
        ),
        introducers=Introducers(
            introductions,
            SilentKnocker(),
            SIGNING,
            registration_lifetime_s=REGISTRATION_S,
            rng=rng,
        ),
        introductions=introductions,
        rng=rng,
        config=CONFIG,
    )
    keeper.watch_filter(lambda: behind_nat)
    return keeper


async def run_for(keeper, seconds):
    with trio.move_on_after(seconds):
        await keeper.run()


async def test_three_introducers_are_registered_and_published(autojump_clock):
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    keeper = make_keeper(dht, RecordingIntroductions())
    await run_for(keeper, 1)
    (presence,) = dht.presences()
    assert [e.endpoint.port for e in presence.introducers] == [1, 2, 3]
    assert keeper.introducers == presence.introducers
    assert keeper.published.is_set()


async def test_one_server_is_a_legal_network(autojump_clock):
    dht = RecordingDht([contact(1)])
    keeper = make_keeper(dht, RecordingIntroductions())
    await run_for(keeper, 1)
    assert len(dht.presences()[0].introducers) == 1


async def test_a_dead_introducer_is_replaced_within_one_refresh(autojump_clock):
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    introductions = RecordingIntroductions()
    keeper = make_keeper(dht, introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await keeper.published.wait()
        introductions.dead.add(contact(2))
        await trio.sleep(REGISTRATION_S)
        nursery.cancel_scope.cancel()
    ports = [e.endpoint.port for e in dht.presences()[-1].introducers]
    assert ports == [1, 3, 4]


async def test_each_introducer_is_heard_as_often_as_a_nat_needs_it_and_no_more(
    autojump_clock,
):
    introductions = RecordingIntroductions()
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    await run_for(make_keeper(dht, introductions), 145)
    for number in (1, 2, 3):
        times = [at for at, asked in introductions.probed if asked == contact(number)]
        gaps = [late - early for early, late in itertools.pairwise(times)]
        assert 24 < min(gaps) <= max(gaps) < KEEPALIVE_S + 0.1
    assert sorted(introductions.registered) == [contact(n) for n in (1, 2, 3)]


async def test_where_no_nat_needs_it_one_introducer_is_heard_at_a_time(autojump_clock):
    introductions = RecordingIntroductions()
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    await run_for(make_keeper(dht, introductions, behind_nat=False), 145)
    assert [asked for _, asked in introductions.probed][:3] != [contact(1)] * 3
    assert 4 <= len(introductions.probed) <= 5


async def test_when_most_introducers_die_at_once_they_are_replaced_within_ten_seconds(
    autojump_clock,
):
    introductions = RecordingIntroductions()
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    keeper = make_keeper(dht, introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(100)
        introductions.dead.update(contact(n) for n in (1, 2, 3))
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    ports = [e.endpoint.port for e in dht.presences()[-1].introducers]
    assert ports == [4, 5, 6]


async def test_when_most_holders_died_the_presence_goes_to_others_at_once(
    autojump_clock,
):
    nodes = [contact(n) for n in range(1, 9)]
    dht = RecordingDht(nodes)
    introductions = RecordingIntroductions()
    keeper = make_keeper(dht, introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(100)
        # The dead do not answer, and lookups find others.
        introductions.dead.update(nodes)
        dht.dead = set(nodes)
        dht.nodes = [contact(n) for n in range(11, 14)]
        began_at = trio.current_time()
        await trio.sleep(15)
        nursery.cancel_scope.cancel()
    assert dht.asked_at[-1] == dht.nodes
    assert trio.current_time() - began_at < 16
    ports = [e.endpoint.port for e in dht.presences()[-1].introducers]
    assert ports == [11, 12, 13]


async def test_a_presence_that_nobody_would_hold_is_put_again_soon(
    autojump_clock,
):
    dht = RecordingDht([contact(1)])
    introductions = RecordingIntroductions()
    keeper = make_keeper(dht, introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(20)
        dht.nodes = [contact(2)]
        introductions.dead.add(contact(1))
        dht.holders = 0
        await trio.sleep(20)
        dht.holders = 1
        await trio.sleep(RETRY_CAP_S)
        nursery.cancel_scope.cancel()
    assert keeper.introducers[0].endpoint.port == 2


async def test_who_has_a_new_address_registers_again_at_once(autojump_clock):
    introductions = RecordingIntroductions()
    keeper = make_keeper(RecordingDht([contact(1)]), introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(20)
        introductions.moved = True
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(introductions.registered) == 2


async def test_without_any_live_introducer_the_search_goes_on(autojump_clock):
    introductions = RecordingIntroductions()
    dht = RecordingDht([contact(1)])
    keeper = make_keeper(dht, introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(20)
        introductions.dead.add(contact(1))
        await trio.sleep(60)
        dht.nodes.append(contact(2))
        await trio.sleep(RETRY_CAP_S + 1)
        nursery.cancel_scope.cancel()
    ports = [e.endpoint.port for e in dht.presences()[-1].introducers]
    assert ports == [2]


async def test_presence_is_renewed_before_it_expires_with_a_higher_number(
    autojump_clock,
):
    dht = RecordingDht([contact(1)])
    await run_for(make_keeper(dht, RecordingIntroductions()), 2400)
    presences = [r for r in dht.put_records if r.kind is RecordKind.PRESENCE]
    assert len(presences) >= 3
    numbers = [record.seq for record in presences]
    assert numbers == sorted(set(numbers))


async def test_renewing_a_presence_costs_no_registration_and_no_introducer_waits_for_it(
    autojump_clock,
):
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    introductions = RecordingIntroductions()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_keeper(dht, introductions).run)
        await trio.sleep(CONFIG.presence_lifetime_s * RENEW_AT - 5)
        introductions.registered.clear()
        introductions.probed.clear()
        count = len(dht.put_records)
        await trio.sleep(KEEPALIVE_S)
        nursery.cancel_scope.cancel()
    assert len(dht.put_records) == count + 1
    assert introductions.registered == []
    heard = {asked for _, asked in introductions.probed}
    assert heard == {contact(n) for n in (1, 2, 3)}


async def test_a_server_is_its_own_introducer(autojump_clock):
    dht = RecordingDht([contact(1)])
    introductions = RecordingIntroductions()
    keeper = make_keeper(dht, introductions)
    keeper.own_endpoint = lambda: Endpoint("203.0.113.5", 9)
    await run_for(keeper, 1)
    (presence,) = dht.presences()
    assert presence.introducers[0].endpoint == Endpoint("203.0.113.5", 9)
    assert introductions.registered == []


async def test_who_becomes_a_server_or_a_leaf_again_tells_it_within_ten_seconds(
    autojump_clock,
):
    dht = RecordingDht([contact(1)])
    keeper = make_keeper(dht, RecordingIntroductions())
    own = None
    keeper.own_endpoint = lambda: own
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(30)
        own = Endpoint("203.0.113.5", 9)
        await trio.sleep(10)
        assert dht.presences()[-1].introducers[0].endpoint == own
        own = None
        await trio.sleep(10)
        assert dht.presences()[-1].introducers[0].endpoint == contact(1).endpoint
        nursery.cancel_scope.cancel()


async def test_it_is_not_published_until_somebody_holds_it(autojump_clock):
    dht = RecordingDht([contact(1)])
    dht.holders = 0
    keeper = make_keeper(dht, RecordingIntroductions())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(10)
        assert not keeper.published.is_set()
        dht.holders = 1
        with trio.fail_after(5):
            await keeper.published.wait()
        nursery.cancel_scope.cancel()
    kinds = {record.kind for record in dht.put_records[-3:]}
    assert RecordKind.PEER_FILE in kinds


async def test_a_failure_that_goes_on_is_warned_of_once(autojump_clock, caplog):
    dht = RecordingDht([contact(1)])
    dht.holders = 0
    with caplog.at_level("WARNING"):
        await run_for(make_keeper(dht, RecordingIntroductions()), 60)
    assert len(dht.put_records) > 10
    assert len(caplog.records) == 1


async def test_a_holder_that_stayed_silent_is_asked_once_more(autojump_clock):
    dht = RecordingDht([contact(1), contact(2)])
    dht.deaf_once = {contact(1)}
    await run_for(make_keeper(dht, RecordingIntroductions()), 10)
    assert dht.asked_at == [[contact(2)], [contact(1)]]


async def test_without_any_introducer_it_tries_again_soon(autojump_clock):
    dht = RecordingDht([])
    keeper = make_keeper(dht, RecordingIntroductions())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(10)
        dht.nodes.append(contact(1))
        with trio.fail_after(RETRY_CAP_S):
            await keeper.published.wait()
        nursery.cancel_scope.cancel()


async def test_a_withdrawal_goes_to_the_holders_and_ends_every_registration(
    autojump_clock,
):
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    introductions = RecordingIntroductions()
    keeper = make_keeper(dht, introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(1)
        published = dht.put_records[-1]
        introductions.dead.add(contact(2))
        await keeper.withdraw()
        gone = dht.put_records[-2:]
        assert [r.is_withdrawal for r in gone] == [True, True]
        assert all(r.seq > published.seq for r in gone)
        assert gone[0].expires_at == published.expires_at
        assert dht.asked_at[-1] == dht.nodes[:8]
        assert set(introductions.unregistered) == {contact(1), contact(3)}
        count = len(dht.put_records)
        await trio.sleep(2000)
        assert len(dht.put_records) == count, "nothing is published after it"


async def test_who_never_published_has_nothing_to_withdraw(autojump_clock):
    dht = RecordingDht([])
    keeper = make_keeper(dht, RecordingIntroductions())
    await keeper.withdraw()
    assert dht.put_records == []


async def test_a_changed_network_is_registered_from_at_once(autojump_clock):
    introductions = RecordingIntroductions()
    dht = RecordingDht([contact(n) for n in range(1, 9)])
    keeper = make_keeper(dht, introductions)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(21)
        introductions.registered.clear()
        keeper.network_changed(NetworkChange.RESUMED)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert sorted(introductions.registered) == [contact(n) for n in (1, 2, 3)]
