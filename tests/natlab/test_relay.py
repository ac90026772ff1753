"""Whoever can have no direct path has one through who offers it, and is told so."""

import pytest

from opnode.cli.client import VerbFailed
from simulations.natlab.evidence import path_becomes, transfer

SIZE = 200_000


async def see_way(network):
    a, b = network.nodes["a"], network.nodes["b"]
    await a.connect(b)
    return await transfer(a, b, SIZE)


async def test_two_symmetric_nats_talk_through_the_seed_that_relays(overlay):
    async with overlay("seed=open a=sym b=sym", has_relay=True) as network:
        way = await see_way(network)
        assert way.was_relayed, way
        assert way.endpoint.startswith(network.lab.address("seed") + ":")
        seen_by_b = await network.nodes["b"].connection_to(network.nodes["a"])
        assert seen_by_b["path"] == way.path


async def test_nobody_relays_who_was_not_started_to_do_so(overlay):
    async with overlay("seed=open a=sym b=sym") as network:
        network.lab.clear_flows()
        with pytest.raises(VerbFailed) as failed:
            await see_way(network)
        assert failed.value.code == "IceFailed"


async def test_a_pair_with_a_direct_path_does_not_use_the_relay(overlay):
    async with overlay("seed=open a=port b=addr", has_relay=True) as network:
        a, b = network.nodes["a"], network.nodes["b"]
        await a.connect(b)
        # The first way that works carries the call; the relay's may be that.
        await path_becomes(a, b, ("direct",))
        way = await transfer(a, b, SIZE)
        assert way.went_direct, way


@pytest.mark.parametrize("other", ["port", "block"])
async def test_whose_network_passes_no_udp_talks_through_a_websocket(overlay, other):
    async with overlay(f"seed=open a=block b={other}", has_relay=True) as network:
        way = await see_way(network)
        assert way.was_relayed, way
        udp = network.lab.public_address("a")
        flows = network.lab.flows()
        assert not [f for f in flows if f.source == udp and f.protocol == "udp"]
