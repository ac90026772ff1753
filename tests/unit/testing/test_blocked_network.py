"""`blocked_network`: nothing passes in either direction until it is unblocked."""

import random

import trio

from opnode.core.addresses import Endpoint
from opnode.testing.blocked_network import BlockedNetwork
from opnode.testing.virtual_network import VirtualNetwork


async def test_nothing_passes_until_it_is_unblocked(autojump_clock):
    network = VirtualNetwork(random.Random(1))
    office = BlockedNetwork(network.host("10.0.0.1"))
    inside = await office.bind(Endpoint("10.0.0.1", 1))
    outside = await network.host("10.0.0.2").bind(Endpoint("10.0.0.2", 1))
    for _ in range(2):
        assert inside.send(b"out", outside.local)
        outside.send(b"in", inside.local)
        await trio.sleep(1.0)
        if office.is_blocked:
            assert inside.receive() is None
            assert outside.receive() is None
            assert office.swallowed == 2
            office.is_blocked = False
            continue
        assert bytes(inside.receive().buffer) == b"in"
        assert bytes(outside.receive().buffer) == b"out"
    inside.close()
    outside.close()
