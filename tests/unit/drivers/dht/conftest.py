"""A virtual network for the tests of this directory."""

import pytest

from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.virtual_network import Link


@pytest.fixture
async def network(nursery):
    made = DhtNetwork(nursery, 1, Link(latency_s=(0.01, 0.05)))
    yield made
    made.close()
