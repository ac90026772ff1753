"""`restricted_network`: only who was asked gets through, for a while."""

import random

import trio

from opnode.core.addresses import Endpoint
from opnode.testing.restricted_network import FORGETS_AFTER_S, RestrictedNetwork
from opnode.testing.virtual_network import VirtualNetwork


async def test_only_who_was_sent_something_lately_gets_through(autojump_clock):
    network = VirtualNetwork(random.Random(1))
    inside = await RestrictedNetwork(network.host("10.0.0.1")).bind(
        Endpoint("10.0.0.1", 1)
    )
    outside = await network.host("10.0.0.2").bind(Endpoint("10.0.0.2", 1))
    other_port = await network.host("10.0.0.2").bind(Endpoint("10.0.0.2", 2))
    outside.send(b"stranger", inside.local)
    assert inside.receive() is None
    inside.send(b"hello", outside.local)
    outside.send(b"answer", inside.local)
    other_port.send(b"from another port", inside.local)
    assert bytes(inside.receive().buffer) == b"answer"
    assert inside.receive() is None
    assert inside.dropped == 2
    await trio.sleep(FORGETS_AFTER_S + 1)
    outside.send(b"late", inside.local)
    assert inside.receive() is None
