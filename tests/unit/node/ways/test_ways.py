"""What a way that is not direct can count on; the wire stands for all of them."""

import pytest
import trio

from opnode.core.addresses import Candidate, Endpoint
from opnode.core.errors import PeerUnreachable
from opnode.drivers.connection_paths import PathKind
from opnode.node.ways.ways import Words
from opnode.protocols.introductions.messages import RelayPoint, Rendezvous
from opnode.testing.overlay import open_overlay
from tests.unit.node.wires import wired

RELAYED = Candidate(
    kind="relay",
    endpoint=Endpoint("203.0.113.7", 50_000),
    priority=1000,
    foundation="r0",
)


def introducers_of(node):
    return tuple(entry.endpoint for entry in node.statistics().introducers)


async def test_the_words_of_all_ways_reach_the_other_end(autojump_clock, nursery):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        _, (at_alice, at_bob) = wired(nursery, alice, bob)
        relay = RelayPoint(Endpoint("203.0.113.9", 4000), b"a session")
        relay = relay._replace(session=relay.session[:8])
        at_alice.words = Words(
            candidates=(RELAYED,), rendezvous=Rendezvous(relays=(relay,))
        )
        await alice.connect(bob.peer_id)
        heard = at_bob.ways[0].heard_at_first
        assert RELAYED in heard.candidates
        assert heard.rendezvous.relays == (relay,)
        assert heard.rendezvous.introducers == introducers_of(alice)
        assert at_alice.ways[0].heard_at_first is None
        heard = at_alice.ways[0].host.heard
        assert heard.rendezvous.introducers == introducers_of(bob) != ()


async def test_another_way_carries_data_where_no_direct_one_does(
    autojump_clock, nursery
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        wire, _ = wired(nursery, alice, bob)
        overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
        connection = await alice.connect(bob.peer_id)
        assert connection.path.kind is PathKind.RELAY
        await trio.sleep(120)
        assert await connection.ping() > 0
        assert wire.carried


async def test_a_meeting_that_ends_closes_its_ways(autojump_clock, nursery):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        _, makers = wired(nursery, alice, bob)
        connection = await alice.connect(bob.peer_id)
        await connection.aclose()
        await trio.sleep(5)
        assert all(maker.ways[0].is_closed for maker in makers)


async def test_an_offer_that_nobody_answers_closes_its_ways(autojump_clock, nursery):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        _, (at_alice, _) = wired(nursery, alice, bob)
        bob.connector.may_connect = lambda _: False
        with pytest.raises(PeerUnreachable):
            await alice.connect(bob.peer_id)
        assert [way.is_closed for way in at_alice.ways] == [True] * len(at_alice.ways)


async def test_what_a_way_tells_later_reaches_the_other_end_the_newest_first(
    autojump_clock, nursery
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        _, (at_alice, at_bob) = wired(nursery, alice, bob)
        await alice.connect(bob.peer_id)
        await bob.accept_connection()
        await trio.sleep(1)
        heard = []

        async def listen():
            heard.append(await at_bob.ways[0].host.wait_heard())

        nursery.start_soon(listen)
        await trio.sleep(0.1)
        relays = [
            RelayPoint(Endpoint("203.0.113.9", 4000 + n), bytes([n]) * 8)
            for n in range(3)
        ]
        for relay in relays:
            words = Words(rendezvous=Rendezvous(relays=(relay,)))
            at_alice.ways[0].host.tell(words)
        await trio.sleep(1)
        assert heard
        newest = at_bob.ways[0].host.heard
        assert newest.rendezvous.relays == (relays[2], relays[1])
        nursery.cancel_scope.cancel()
