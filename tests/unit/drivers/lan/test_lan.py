"""`lan`: neighbours find each other within a round trip, and nobody waits long."""

import random
from functools import partial

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.lan.lan import ANSWER_S, Lan
from opnode.protocols.lan import LanDesk
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_lan import VirtualLan
from tests.unit.protocols.test_lan import location_of


class Home:
    def __init__(self, nursery):
        self.nursery = nursery
        self.link = VirtualLan()
        self.clock = VirtualWallClock()

    async def node(self, number, name=None, *, link=None):
        host = f"192.168.1.{number}"
        desk = LanDesk(b"network1", random.Random(number).randbytes)
        lan = Lan(
            desk,
            (link or self.link).opener(host),
            lambda _: [Endpoint(host, 4000)],
            self.clock,
        )
        if name is not None:
            desk.location = location_of(name)
        await self.nursery.start(lan.run)
        return lan


@pytest.fixture
def home(nursery):
    return Home(nursery)


async def test_a_peer_on_the_link_is_found_within_a_round_trip(autojump_clock, home):
    await home.node(1, "ann")
    await home.node(2, "carol")
    bob = await home.node(3, "bob")
    began_at = trio.current_time()
    found = await bob.seek(location_of("ann").certificate.peer_id)
    assert found.endpoints == (Endpoint("192.168.1.1", 4000),)
    assert found.certificate.peer_id == location_of("ann").certificate.peer_id
    assert trio.current_time() - began_at < 0.02
    assert home.link.asked == 1


async def test_who_is_not_there_is_known_soon(autojump_clock, home):
    bob = await home.node(3, "bob")
    began_at = trio.current_time()
    assert await bob.seek(location_of("ann").certificate.peer_id) is None
    assert trio.current_time() - began_at == pytest.approx(ANSWER_S)
    assert home.link.asked == 3


async def test_a_question_that_is_lost_is_asked_again(autojump_clock, home):
    await home.node(1, "ann")
    bob = await home.node(3)
    home.link.drops = lambda _: home.link.asked < 3
    assert await bob.seek(location_of("ann").certificate.peer_id) is not None


async def test_a_server_is_found_by_whoever_greets(autojump_clock, home):
    ann, bob = await home.node(1), await home.node(3)
    assert await bob.greet() is None
    ann.desk.node_key = seeded_signing_key("node")
    found = await bob.greet()
    assert found.public_key == seeded_signing_key("node").public
    assert found.endpoint == Endpoint("192.168.1.1", 4000)
    assert bob.statistics().found == 1


async def test_without_a_link_nobody_waits(autojump_clock, home):
    alone = Lan(
        LanDesk(b"network1", random.Random(1).randbytes),
        list,
        lambda _: (),
        home.clock,
    )
    await home.nursery.start(alone.run)
    began_at = trio.current_time()
    assert await alone.greet() is None
    assert trio.current_time() == began_at


async def test_another_link_is_used_as_soon_as_it_is_there(autojump_clock, home):
    links = []
    mover = Lan(
        LanDesk(b"network1", random.Random(9).randbytes),
        lambda: home.link.opener("192.168.1.9")() if links else [],
        lambda _: (),
        home.clock,
    )
    await home.nursery.start(partial(mover.run))
    await home.node(1, "ann")
    sought = location_of("ann").certificate.peer_id
    assert await mover.seek(sought) is None
    links.append("plugged in")
    mover.interfaces_changed()
    await trio.sleep(0.01)
    assert await mover.seek(sought) is not None
