"""On one link, with nothing beyond it: no route, no seed, no Internet."""

import subprocess

import pytest
import trio

from simulations.natlab.evidence import transfer
from simulations.natlab.nodes import open_network
from simulations.natlab.spec import Host, LabSpec, Nat, NatType

HOME = LabSpec(
    hosts={name: Host(behind="home") for name in ("a", "b", "c")},
    nats={"home": Nat(type=NatType.BLOCKED)},
)
LIMIT_S = 40
SIZE = 200_000


async def node_without_entries(network, host):
    """Nobody told it how to join."""
    network._seeds.clear()
    return await network.start_up(host)


@pytest.fixture
def home(laboratory):
    """Three hosts at one switch; each knows no way to anywhere else."""
    lab = laboratory(HOME)
    for host in HOME.hosts:
        words = lab.command(host, "ip", "route", "del", "default")
        subprocess.run(words, check=True, capture_output=True)  # noqa: S603 - ip of ours
    return lab


async def test_two_who_know_each_other_call_with_nothing_beyond_the_link(
    home, tmp_path
):
    with trio.fail_after(LIMIT_S):
        async with open_network(home, tmp_path) as network:
            a, b = [await network.start_up(host) for host in "ab"]
            for node in (a, b):
                await node.wait_event("started")
            # The control socket is there a moment after the keys are.
            await trio.sleep(1.0)
            began_at = trio.current_time()
            connected = await a.connect(b)
            took_s = trio.current_time() - began_at
            assert connected.path == "direct"
            assert connected.endpoint.startswith(home.address("b") + ":")
            # Nothing was waited for: no lookup, no time-out.
            assert took_s < 2.0
            way = await transfer(a, b, SIZE)
            assert way.stayed_inside, way


async def test_a_node_joins_through_a_server_on_its_link(home, tmp_path):
    with trio.fail_after(LIMIT_S):
        async with open_network(home, tmp_path) as network:
            await network.start_seed("c")
            a, b = [await node_without_entries(network, host) for host in "ab"]
            for node in (a, b):
                ready = await node.wait_event("ready")
                assert ready["contacts"] == 1
            found = await a.connect(b)
            assert found.path == "direct"


async def test_who_was_told_to_leave_neighbours_alone_finds_none(home, tmp_path):
    with trio.fail_after(LIMIT_S):
        async with open_network(home, tmp_path) as network:
            await network.start_seed("c", "--no-lan")
            a = await node_without_entries(network, "a")
            await a.wait_event("started")
            await trio.sleep(5.0)
            assert not a.is_ready
