import random

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.router.control import RouterControl
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.port_mapping import MAPPING_OFF, MappingState, PortMapping
from opnode.node.outlets import Outlets, port_mappers, told_of
from opnode.testing.home_router import FakeHomeRouter
from opnode.testing.virtual_network import Link, VirtualNetwork

ROUTER, OURS = "192.168.1.1", "192.168.1.2"
MAPPED = Endpoint("8.8.4.4", 4000)


async def test_a_forwarded_address_is_offered_until_the_node_leaves(
    autojump_clock, nursery
):
    network = VirtualNetwork(random.Random(1), Link(latency_s=(0.001, 0.002)))
    fake = FakeHomeRouter(network.host(ROUTER), ROUTER, MAPPED.host)
    await nursery.start(fake.run)
    control = RouterControl(network.host(OURS), HomeRouter(ROUTER, OURS), bytes)
    offered = []
    retries = []
    mapping = told_of(
        PortMapping(4000, lambda: [control]),
        offered.append,
        offered.remove,
        lambda: retries.append(trio.current_time()),
    )
    outlets = Outlets(None, mapping)
    nursery.start_soon(outlets.run)
    await trio.sleep(1)
    assert offered == [MAPPED]
    assert len(retries) == 1
    assert outlets.mapping.state is MappingState.MAPPED
    await outlets.leave()
    assert offered == []
    await trio.sleep(1)
    assert fake.ports == {}


async def test_a_move_to_another_network_asks_the_router_there(autojump_clock, nursery):
    looks = []

    def look():
        looks.append(trio.current_time())
        return ()

    outlets = Outlets(None, PortMapping(4000, look))
    nursery.start_soon(outlets.run)
    await trio.sleep(10)
    outlets.moved()
    await trio.sleep(10)
    assert len(looks) == 2


async def test_what_is_switched_off_is_told_so(autojump_clock):
    outlets = Outlets(None, None)
    outlets.moved()
    await outlets.run()
    await outlets.leave()
    assert outlets.mapping == MAPPING_OFF
    assert outlets.turn is None


def test_a_machine_without_a_network_has_nobody_to_ask():
    host = VirtualNetwork(random.Random(1)).host("127.0.0.1")
    assert port_mappers(host) == []
