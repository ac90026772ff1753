"""`filtered_network`: each direction has its filter; all else is the network below."""

import random

import trio

from opnode.core.addresses import Endpoint
from opnode.testing.filtered_network import FilteredNetwork, FilteredSocket
from opnode.testing.virtual_network import VirtualNetwork


def first_half(data, _segment_size):
    return data[: len(data) // 2] or None


def everything(data, _segment_size):
    return data


async def test_what_a_filter_leaves_of_each_direction_passes(autojump_clock):
    network = VirtualNetwork(random.Random(1))
    filtered = FilteredNetwork(
        network.host("10.0.0.1"),
        lambda socket: FilteredSocket(socket, outgoing=first_half, incoming=everything),
    )
    inside = await filtered.bind(Endpoint("10.0.0.1", 1))
    outside = await network.host("10.0.0.2").bind(Endpoint("10.0.0.2", 1))
    assert inside.send(b"outgoing", outside.local)
    assert inside.send(b"x", outside.local)
    outside.send(b"incoming", inside.local)
    await inside.wait_readable()
    assert bytes(inside.receive().buffer) == b"incoming"
    await trio.sleep(1)
    assert bytes(outside.receive().buffer) == b"outg"
    assert outside.receive() is None
    inside.close()
    outside.close()
