"""Who offers what: what is remembered, told to others, and found by asking."""

import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, distance
from opnode.drivers.services import Services, ServicesConfig, meeting_key
from opnode.protocols.rpc.datagrams import decode_reply_untrusted
from opnode.protocols.rpc.messages import (
    NO_SERVICE,
    Failure,
    FailureCode,
    FindServices,
    Ping,
    Servers,
    Service,
    pack_contact,
)
from opnode.testing.dht_nodes import DhtNetwork, DhtNode


class Town:
    """DHT nodes, each of which keeps and tells services."""

    def __init__(self, network: DhtNetwork, nursery: trio.Nursery) -> None:
        self.network = network
        self.nursery = nursery
        self.services: dict[Endpoint, Services] = {}

    async def add(
        self, offers: Service = NO_SERVICE, config: ServicesConfig | None = None
    ) -> tuple[DhtNode, Services]:
        node = await self.network.add()
        node.rpc.services = offers
        services = Services(
            node.rpc,
            node.dht.contacts,
            node.dht.closest_nodes,
            random.Random(node.hub.local.host),
            config,
        )
        self.services[node.hub.local] = services
        return node, services


@pytest.fixture
async def town(nursery: trio.Nursery) -> Town:
    return Town(DhtNetwork(nursery, 1, public=True), nursery)


async def test_who_answers_with_a_service_is_remembered(town: Town, autojump_clock):
    relay, _ = await town.add(Service.RELAY)
    plain, _ = await town.add()
    node, services = await town.add()
    for other in (relay, plain):
        await node.rpc.request(other.hub.local, Ping())
    assert services.known(Service.RELAY) == [relay.contact]
    assert services.known(Service.WEBSOCKET) == []


async def test_both_services_have_to_be_there_when_both_are_wanted(
    town: Town, autojump_clock
):
    relay, _ = await town.add(Service.RELAY)
    both, _ = await town.add(Service.RELAY | Service.WEBSOCKET)
    node, services = await town.add()
    for other in (relay, both):
        await node.rpc.request(other.hub.local, Ping())
    assert services.known(Service.RELAY | Service.WEBSOCKET) == [both.contact]


async def test_a_leaf_is_no_relay(town: Town, autojump_clock):
    relay, _ = await town.add(Service.RELAY)
    relay.rpc.leaf = True
    node, services = await town.add()
    await node.rpc.request(relay.hub.local, Ping())
    assert services.known(Service.RELAY) == []


async def test_who_fell_silent_is_not_named(town: Town, autojump_clock):
    relay, _ = await town.add(Service.RELAY)
    node, services = await town.add()
    await node.rpc.request(relay.hub.local, Ping())
    await trio.sleep(ServicesConfig().fresh_s + 1)
    assert services.known(Service.RELAY) == []


async def test_what_is_known_is_told_to_whoever_proves_its_address(
    town: Town, autojump_clock
):
    relay, _ = await town.add(Service.RELAY)
    node, _ = await town.add()
    asker, _ = await town.add()
    await node.rpc.request(relay.hub.local, Ping())
    answer = await asker.rpc.request(node.hub.local, FindServices(int(Service.RELAY)))
    assert answer.body == Servers((pack_contact(relay.contact),))


async def test_without_a_token_nothing_is_told(town: Town, autojump_clock):
    relay, _ = await town.add(Service.RELAY)
    node, _ = await town.add()
    asker, _ = await town.add()
    await node.rpc.request(relay.hub.local, Ping())
    heard = []
    asker.hub.rpc_handler = lambda data, _: heard.append(data)
    body = FindServices(int(Service.RELAY))
    asker.hub.send(asker.rpc.unanswered(body, node.hub.local), node.hub.local)
    await trio.sleep(1)
    failure = decode_reply_untrusted(heard[0], asker.rpc.network_id).body
    assert isinstance(failure, Failure)
    assert failure.code == FailureCode.TOKEN_NEEDED


async def test_a_relay_that_asks_is_remembered_by_its_token(town: Town, autojump_clock):
    relay, _ = await town.add(Service.RELAY)
    node, services = await town.add()
    await relay.rpc.request(node.hub.local, FindServices(int(Service.RELAY)))
    assert services.known(Service.RELAY) == [relay.contact]


async def test_a_named_node_is_asked_itself_before_it_counts(
    town: Town, autojump_clock
):
    """A liar names a relay, a bystander and nobody: only the relay gets in."""
    relay, _ = await town.add(Service.RELAY)
    bystander, _ = await town.add()
    liar, _ = await town.add()
    nobody = Contact(bystander.contact.node_id, Endpoint("198.18.99.1", 4000))
    named = [node.contact for node in (relay, bystander)]
    packed = tuple(map(pack_contact, [*named, nobody]))
    liar.rpc.serve(FindServices, lambda _: Servers(packed))
    seeker, services = await town.add()
    await seeker.dht.join([liar.hub.local])
    assert await services.find(Service.RELAY) == [relay.contact]
    heard = bystander.hub.statistics().socket.datagrams_in
    assert heard <= 2


async def test_a_liar_can_have_us_ping_few(town: Town, autojump_clock):
    liar, _ = await town.add()
    seeker, services = await town.add(config=ServicesConfig(pinged=3))
    await seeker.dht.join([liar.hub.local])
    victims = [
        Contact(liar.contact.node_id, Endpoint(f"8.8.{number}.1", 4000))
        for number in range(8)
    ]
    liar.rpc.serve(FindServices, lambda _: Servers(tuple(map(pack_contact, victims))))
    before = seeker.rpc.statistics().requests_sent
    assert await services.find(Service.RELAY) == []
    sent = seeker.rpc.statistics().requests_sent - before
    # FIND_SERVICES, asked again with a token, the look-up of one node, three PINGs.
    assert sent <= 2 + 2 + 3


async def test_a_private_address_is_not_pinged_on_a_public_nodes_word(
    town: Town, autojump_clock
):
    liar, _ = await town.add()
    seeker, services = await town.add()
    await seeker.dht.join([liar.hub.local])
    router = Contact(liar.contact.node_id, Endpoint("192.168.1.1", 4000))
    liar.rpc.serve(FindServices, lambda _: Servers((pack_contact(router),)))
    destinations = []
    send = seeker.hub.send
    seeker.hub.send = lambda data, to, *rest: (
        destinations.append(to) or send(data, to, *rest)
    )
    await services.find(Service.RELAY)
    assert router.endpoint not in destinations


async def test_what_one_subnet_offers_is_remembered_twice_and_not_more(
    town: Town, autojump_clock
):
    _, services = await town.add()
    for number in range(1, 5):
        contact = Contact(
            town.network.nodes[0].contact.node_id, Endpoint(f"8.8.8.{number}", 4000)
        )
        services._heard(contact, Service.RELAY)
    assert len(services.known(Service.RELAY)) == 2


async def test_memory_is_bounded_and_nobody_keeps_all_others_out(
    town: Town, autojump_clock
):
    node, services = await town.add(config=ServicesConfig(remembered=8))
    node_id = node.contact.node_id
    for number in range(200):
        endpoint = Endpoint(f"8.{number}.8.8", 4000)
        services._heard(Contact(node_id, endpoint), Service.RELAY)
    kept = services.known(Service.RELAY)
    assert len(kept) == 16
    numbers = [int(contact.endpoint.host.split(".")[1]) for contact in kept]
    assert min(numbers) < 184


async def test_a_forgotten_server_is_not_named(town: Town, autojump_clock):
    relay, _ = await town.add(Service.RELAY)
    node, services = await town.add()
    await node.rpc.request(relay.hub.local, Ping())
    services.forget(relay.hub.local)
    services.forget(relay.hub.local)
    assert services.known(Service.RELAY) == []


async def test_one_relay_among_many_nodes_is_found(town: Town, autojump_clock):
    """Nobody but the nodes at its meeting place heard of it."""
    relay, offers = await town.add(Service.RELAY)
    nodes = [await town.add() for _ in range(60)]
    for node, _ in nodes:
        await node.dht.join([relay.hub.local])
    await relay.dht.join([nodes[0][0].hub.local])
    for services in town.services.values():
        services.forget(relay.hub.local)
    town.nursery.start_soon(offers.run)
    await trio.sleep(30)
    knowing = [
        node.contact
        for node, services in nodes
        if relay.contact in services.known(Service.RELAY)
    ]
    ordered = sorted(
        (node.contact for node, _ in nodes),
        key=lambda contact: distance(contact.node_id, meeting_key(Service.RELAY)),
    )
    assert set(ordered[:5]) <= set(knowing)
    found = 0
    for _node, services in nodes:
        found += await services.find(Service.RELAY) == [relay.contact]
    assert found == len(nodes)


async def test_those_who_need_one_know_a_relay_in_advance(town: Town, autojump_clock):
    relay, _ = await town.add(Service.RELAY)
    middle, _ = await town.add()
    await middle.rpc.request(relay.hub.local, Ping())
    leaf, services = await town.add()
    await leaf.dht.join([middle.hub.local])
    services.is_wanted = lambda: True
    town.nursery.start_soon(services.run)
    await trio.sleep(5)
    assert services.known(Service.RELAY) == [relay.contact]
    await trio.sleep(5 * 3600)
    assert services.known(Service.RELAY) == [relay.contact]


async def test_where_there_is_no_relay_the_search_gets_rare(town: Town, autojump_clock):
    middle, _ = await town.add()
    leaf, services = await town.add()
    await leaf.dht.join([middle.hub.local])
    services.is_wanted = lambda: True
    town.nursery.start_soon(services.run)
    await trio.sleep(4 * 3600)
    before = leaf.rpc.statistics().requests_sent
    await trio.sleep(4 * 3600)
    assert leaf.rpc.statistics().requests_sent - before < 8 * 4 * 3
