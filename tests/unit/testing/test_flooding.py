"""`opnode.testing.flooding` reaches the flooded node with as many ids as it says."""

import pytest

from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.flooding import flood_forged, flood_fresh


@pytest.fixture
async def network(nursery):
    made = DhtNetwork(nursery, 1)
    await made.grow(3)
    yield made
    made.close()


async def test_forged_ids_are_heard_and_never_verified(autojump_clock, network):
    node = network.nodes[0]
    heard = {}
    node.rpc.on_asked = lambda asked: heard.update({asked.contact: asked.verified})
    await flood_forged(network, node, 150)
    assert len(heard) == 150
    assert not any(heard.values())


async def test_fresh_ids_prove_their_addresses(autojump_clock, network):
    node = network.nodes[0]
    heard = {}
    node.rpc.on_asked = lambda asked: heard.update({asked.contact: asked.verified})
    await flood_fresh(network, node, 150)
    assert len(heard) == 150
    assert all(heard.values())
    assert len({contact.endpoint.host for contact in heard}) == 150
