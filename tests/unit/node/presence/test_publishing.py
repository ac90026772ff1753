import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import NetworkError
from opnode.core.ids import Contact
from opnode.core.peerfile import (
    Identity,
    IntroducerEntry,
    certify_location,
    read_presence,
)
from opnode.node.presence.publishing import (
    LOOK_EVERY_S,
    PRESENCE_HOLDERS,
    PresencePublisher,
)
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key, seeded_static_key

ENTRY = IntroducerEntry(
    node_id=bytes(20), endpoint=Endpoint("8.8.8.8", 4000), handle=bytes(16)
)
NODES = [Contact(bytes([n]) * 20, Endpoint("10.0.0.1", n)) for n in range(1, 12)]


class Holders:
    """A DHT that counts how often it is looked through, and loses who is deaf."""

    def __init__(self):
        self.looks = 0
        self.held = []
        self.deaf = set()
        self.is_down = False
        self.highest = None
        self.region_reads = 0

    async def highest_seq(self, _record):
        await trio.sleep(0.01)
        self.region_reads += 1
        return self.highest

    async def closest_nodes(self, _key):
        await trio.sleep(0.01)
        self.looks += 1
        return list(NODES)

    closest_nodes_again = closest_nodes

    async def put(self, record, **_):
        await trio.sleep(0.01)
        if self.is_down:
            raise NetworkError("down")
        self.held.append((record, None))
        return 1

    async def put_at(self, record, holders):
        await trio.sleep(0.01)
        taken = [holder for holder in holders if holder not in self.deaf]
        self.held.append((record, taken))
        return taken

    def hold_if_close(self, _record, _holders):
        return False


@pytest.fixture
def holders():
    return Holders()


@pytest.fixture
async def publisher(holders):
    clock = VirtualWallClock()
    identity = Identity(seeded_signing_key("identity"))
    location = certify_location(
        identity,
        signing=seeded_signing_key("location"),
        static=seeded_static_key("location"),
        name="laptop",
        wall_now=clock(),
        lifetime_s=86_400,
    )
    return PresencePublisher(
        identity=identity,
        location=location,
        dht=holders,
        wall_clock=clock,
        lifetime_s=1200,
    )


async def test_a_renewal_goes_to_the_holders_of_last_time_without_a_lookup(
    autojump_clock, holders, publisher
):
    assert await publisher.publish([ENTRY])
    await trio.sleep(720)
    assert await publisher.publish([ENTRY])
    assert holders.looks == 1
    (first, at_first), (second, at_last) = holders.held
    assert at_first == at_last == NODES[:PRESENCE_HOLDERS]
    assert second.seq > first.seq
    assert read_presence(second).introducers == (ENTRY,)


async def test_holders_are_looked_up_anew_hourly_and_when_most_are_gone(
    autojump_clock, holders, publisher
):
    await publisher.publish([ENTRY])
    await trio.sleep(LOOK_EVERY_S)
    await publisher.publish([ENTRY])
    assert holders.looks == 2
    holders.deaf = set(NODES[:6])
    await trio.sleep(100)
    await publisher.publish([ENTRY])
    assert holders.looks == 3


async def test_looking_around_twice_in_a_moment_is_looking_once(
    autojump_clock, holders, publisher
):
    await publisher.look_around()
    await publisher.look_around()
    assert holders.looks == 1
    assert list(publisher.closest) == NODES


async def test_who_never_published_withdraws_nothing(
    autojump_clock, holders, publisher
):
    await publisher.withdraw()
    assert holders.held == []


async def test_the_peer_file_counts_as_held_once_somebody_took_it(
    autojump_clock, holders, publisher, caplog
):
    holders.is_down = True
    await publisher.publish_peer_file()
    await publisher.publish_peer_file()
    assert not publisher.is_peer_file_held
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    holders.is_down = False
    await publisher.publish_peer_file()
    assert publisher.is_peer_file_held


async def test_after_a_clock_that_was_ahead_numbers_go_on_from_what_is_held(
    autojump_clock, holders, publisher
):
    # Whoever refuses says why, but only the numbers that are held tell how far to go.
    holders.deaf = set(NODES[:PRESENCE_HOLDERS])
    holders.highest = 10**18

    async def highest_seq(_record):
        holders.deaf.clear()
        return holders.highest

    holders.highest_seq = highest_seq
    assert await publisher.publish([ENTRY])
    record, taken = holders.held[-1]
    assert record.seq > holders.highest
    assert taken == NODES[:PRESENCE_HOLDERS]
    assert await publisher.publish([ENTRY])
    assert holders.held[-1][0].seq > record.seq


async def test_the_region_is_read_at_the_start_alone_and_only_where_a_holder_is_missing(
    autojump_clock, holders, publisher
):
    await publisher.publish([ENTRY])
    holders.deaf = {NODES[0]}
    await publisher.publish([ENTRY])
    assert holders.region_reads == 0


async def test_a_peer_file_goes_past_the_one_that_is_held(
    autojump_clock, holders, publisher
):
    holders.highest = 10**18
    taken = []

    async def put(record, **_):
        await trio.sleep(0.01)
        taken.append(record.seq)
        return record.seq > holders.highest

    holders.put = put
    await publisher.publish_peer_file()
    assert taken[-1] == holders.highest + 1
    assert publisher.is_peer_file_held
