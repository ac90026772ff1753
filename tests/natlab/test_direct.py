"""Whoever can have a direct path has it, and its bytes take it: real processes.

Every test says which path carried a file: what the node shows, and what the wire saw.
"""

import pytest

from simulations.natlab.evidence import transfer
from simulations.natlab.spec import Host, LabSpec, Nat, NatType

SIZE = 300_000
DIRECT_PAIRS = ["port port", "full full", "full port", "addr sym", "port/port port"]


async def see_way(network, sender="a", receiver="b"):
    nodes = network.nodes
    await nodes[sender].connect(nodes[receiver])
    return await transfer(nodes[sender], nodes[receiver], SIZE)


@pytest.mark.parametrize("pair", DIRECT_PAIRS)
async def test_a_pair_with_a_direct_path_uses_it_and_no_third_party(overlay, pair):
    one, other = pair.split()
    async with overlay(f"seed=open a={one} b={other}") as network:
        way = await see_way(network)
        assert way.went_direct, way
        assert way.between > SIZE
        assert way.endpoint.startswith(network.lab.public_address("b") + ":")


async def test_two_symmetric_nats_are_no_obstacle_where_there_is_ipv6(overlay):
    nat = Nat(type=NatType.SYMMETRIC, v6=True)
    spec = LabSpec(
        hosts={"seed": Host(), "a": Host(behind="home"), "b": Host(behind="flat")},
        nats={"home": nat, "flat": nat},
    )
    async with overlay(spec) as network:
        way = await see_way(network)
        assert way.went_direct, way
        assert way.endpoint.startswith(f"[{network.lab.plan.lines['b'].address_v6}]")


async def test_two_hosts_of_one_network_talk_inside_it(overlay):
    spec = LabSpec(
        hosts={"seed": Host(), "a": Host(behind="nat"), "b": Host(behind="nat")},
        nats={"nat": Nat(type=NatType.PORT)},
    )
    async with overlay(spec) as network:
        way = await see_way(network)
        assert way.stayed_inside, way
        assert way.endpoint.startswith(network.lab.address("b") + ":")


async def test_guests_of_one_network_that_hairpins_talk_through_its_outer_address(
    overlay,
):
    spec = LabSpec(
        hosts={"seed": Host(), "a": Host(behind="nat"), "b": Host(behind="nat")},
        nats={"nat": Nat(type=NatType.PORT, isolated=True, hairpin=True)},
    )
    async with overlay(spec) as network:
        way = await see_way(network)
        assert way.path == "direct", way
        assert way.stayed_inside, way
        assert way.endpoint.startswith(network.lab.address("nat") + ":")


async def test_customers_of_one_cgnat_that_hairpins_talk_inside_it(overlay):
    spec = LabSpec(
        hosts={"seed": Host(), "a": Host(behind="home"), "b": Host(behind="flat")},
        nats={
            "isp": Nat(type=NatType.PORT, hairpin=True),
            "home": Nat(type=NatType.PORT, behind="isp"),
            "flat": Nat(type=NatType.PORT, behind="isp"),
        },
    )
    async with overlay(spec) as network:
        way = await see_way(network)
        assert way.path == "direct", way
        assert way.stayed_inside, way
        assert way.endpoint.startswith(network.lab.address("isp") + ":")


async def test_two_homes_with_the_same_private_addresses_find_each_other(overlay):
    same = "192.168.1.0/24"
    spec = LabSpec(
        hosts={"seed": Host(), "a": Host(behind="home"), "b": Host(behind="flat")},
        nats={"home": Nat(lan=same), "flat": Nat(lan=same)},
    )
    async with overlay(spec) as network:
        assert network.lab.address("a") == network.lab.address("b")
        way = await see_way(network)
        assert way.went_direct, way


async def test_twenty_interfaces_that_lead_nowhere_do_not_hide_the_good_one(overlay):
    spec = LabSpec(
        hosts={
            "seed": Host(),
            "a": Host(behind="home", junk=20),
            "b": Host(behind="flat", junk=20),
        },
        nats={"home": Nat(type=NatType.PORT), "flat": Nat(type=NatType.PORT)},
    )
    async with overlay(spec) as network:
        way = await see_way(network)
        assert way.went_direct, way
