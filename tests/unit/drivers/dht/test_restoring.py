"""`restoring`: a restart finds those who were known, and nobody in their place."""

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import NodeId
from opnode.testing.virtual_network import Link


def known_after_a_day(node):
    """What a node remembers of its contacts, had it known them for a day."""
    return [one._replace(age_s=one.age_s + 86_400) for one in node.dht.known_contacts()]


async def test_with_every_seed_and_most_of_the_cache_dead_a_restart_is_in_within_5_s(
    autojump_clock, nursery, network
):
    network.network.link = Link(latency_s=(0.01, 0.12))
    await network.grow(60)
    known = known_after_a_day(network.nodes[7])
    assert len(known) >= 40
    survivors = known[::5]
    for node in network.nodes:
        if node.contact not in [one.contact for one in survivors]:
            network.kill(node)
    restarted = await network.add()
    with trio.fail_after(5):
        await nursery.start(restarted.dht.restore, known)
    assert restarted.dht.contacts()
    await trio.sleep(5)
    assert {one.contact for one in survivors} <= set(restarted.dht.contacts())


async def test_one_survivor_of_two_hundred_is_enough(autojump_clock, nursery, network):
    network.network.link = Link(latency_s=(0.01, 0.12))
    await network.grow(3)
    await trio.sleep(1)
    last = network.nodes[2].contact
    known = known_after_a_day(network.nodes[0])
    dead = [
        one._replace(contact=one.contact._replace(endpoint=Endpoint("10.9.9.9", port)))
        for one in known[:1]
        for port in range(1, 200)
    ]
    restarted = await network.add()
    alive = [one for one in known if one.contact == last]
    with trio.fail_after(5):
        await nursery.start(restarted.dht.restore, [*dead, *alive])
    assert last in restarted.dht.contacts()


async def test_whoever_took_over_an_address_does_not_come_back_as_the_contact(
    autojump_clock, network
):
    await network.grow(4)
    await trio.sleep(1)
    known = known_after_a_day(network.nodes[0])
    for index, one in enumerate(known[:2]):
        known[index] = one._replace(
            contact=one.contact._replace(node_id=NodeId(b"x" * 20))
        )
    restarted = await network.add()
    await restarted.dht.restore(known)
    ages = {one.contact: one.age_s for one in restarted.dht.known_contacts()}
    assert ages[known[2].contact] > 86_000
    for one in known[:2]:
        assert one.contact not in ages


async def test_contacts_keep_their_age_and_their_place_before_who_came_first(
    autojump_clock, network
):
    await network.grow(12)
    await trio.sleep(1)
    node = network.nodes[0]
    known = known_after_a_day(node)
    restarted = await network.add()
    # Strangers were met first, as when they answer before those who are remembered.
    await restarted.dht.join([network.nodes[0].hub.local])
    await restarted.dht.restore(known)
    ages = {one.contact: one.age_s for one in restarted.dht.known_contacts()}
    for one in known:
        assert ages[one.contact] > 86_000


async def test_contacts_that_fell_silent_are_kept_in_mind(autojump_clock, network):
    node = await network.add(maintained=True)
    other = await network.add()
    await node.dht.join([other.hub.local])
    network.network.kill(other.hub.local.host)
    await trio.sleep(1500)
    assert node.dht.contacts() == []
    assert [one.contact for one in node.dht.lost_contacts()] == [other.contact]
    network.network.revive(other.hub.local.host)
    assert await node.dht.restore(node.dht.lost_contacts()) == 1
    assert node.dht.lost_contacts() == []
