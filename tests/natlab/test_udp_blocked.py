"""A network that stops to pass UDP while two talk, and gateways that die."""

import itertools
from contextlib import aclosing

import pytest
import trio

from opnode.daemon.control_messages import Connected, Interrupted, Send, Sent
from opnode.daemon.control_messages import TransferProgress as Progress
from simulations.natlab.evidence import path_becomes
from simulations.natlab.spec import Host, LabSpec, Link, Nat, NatType

OFFICE = LabSpec(
    hosts={
        "seed": Host(),
        "gate": Host(),
        "a": Host(behind="office"),
        "b": Host(behind="home"),
    },
    nats={"office": Nat(type=NatType.PORT), "home": Nat(type=NatType.FULL)},
)
BLOCKED = Nat(type=NatType.BLOCKED)
SIZE = 300_000
LONG = 3_000_000
LIMIT_S = 90


@pytest.fixture
def files(tmp_path):
    """Files to send, each of another name."""
    numbers = itertools.count()

    def make(size=SIZE):
        path = tmp_path / f"file{next(numbers)}"
        path.write_bytes(bytes(size))
        return path

    return make


async def test_who_loses_udp_while_it_talks_goes_on_by_websocket(overlay, files):
    async with overlay(OFFICE, seeds=("seed", "gate"), has_relay=True) as network:
        a, b = network.nodes["a"], network.nodes["b"]
        await b.add_contact("a", a)
        await a.connect(b)
        await path_becomes(a, b, ("direct",))
        network.lab.change_nat("office", BLOCKED)
        await path_becomes(a, b, ("relay", "websocket"))
        network.lab.clear_flows()
        await a.send(b, files())
        address = network.lab.public_address("a")
        flows = [f for f in network.lab.flows() if f.source == address]
        assert sum(f.bytes for f in flows if f.protocol == "tcp") > SIZE
        assert not [f for f in flows if f.protocol == "udp"]


async def test_a_transfer_that_loses_udp_goes_on_over_the_same_connection(
    overlay, files
):
    line = Link(rate="10mbit")
    office, blocked = (Nat(type=t, link=line) for t in (NatType.PORT, NatType.BLOCKED))
    slow = LabSpec(hosts=OFFICE.hosts, nats={**OFFICE.nats, "office": office})
    async with overlay(slow, seeds=("seed", "gate"), has_relay=True) as network:
        a, b = network.nodes["a"], network.nodes["b"]
        await b.add_contact("a", a)
        await a.connect(b)
        await path_becomes(a, b, ("direct",))
        heard = []
        request = Send(peer=b.peer_id, path=str(files(LONG)))
        with trio.fail_after(LIMIT_S):
            async with aclosing(a.events(request)) as events:
                async for event in events:
                    is_first = not any(isinstance(e, Progress) for e in heard)
                    if is_first and isinstance(event, Progress):
                        network.lab.change_nat("office", blocked)
                    heard.append(event)
        assert [e.reused for e in heard if isinstance(e, Connected)] == [True]
        assert not [e for e in heard if isinstance(e, Interrupted)]
        assert [e.resumed_at for e in heard if isinstance(e, Sent)] == [0]
        # One connection carried bytes both ways: no other one was made for the rest.
        row = await a.connection_to(b)
        carried = row["carried"]
        assert carried["direct"]["sent"] > 0
        assert carried["websocket"]["sent"] > SIZE


async def test_a_gateway_that_dies_is_replaced_by_the_other(overlay, files):
    blocked = LabSpec(hosts=OFFICE.hosts, nats={**OFFICE.nats, "office": BLOCKED})
    async with overlay(blocked, seeds=("seed", "gate"), has_relay=True) as network:
        a, b = network.nodes["a"], network.nodes["b"]
        await b.add_contact("a", a)
        row = await a.connect(b)
        assert row.path != "direct"
        addresses = {network.lab.address(host): host for host in ("seed", "gate")}
        carrying = addresses[row.endpoint.rpartition(":")[0]]
        await network.nodes[carrying].end(politely=False)
        began_at = trio.current_time()
        with trio.fail_after(LIMIT_S):
            await a.send(b, files())
        assert trio.current_time() - began_at < 20.0
