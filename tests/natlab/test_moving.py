"""What carries a transfer may change under it: the same connection, no byte lost."""

from contextlib import aclosing
from itertools import pairwise

import pytest
import trio

from opnode.daemon import control_messages as messages
from simulations.natlab.spec import Host, LabSpec, Link, Nat, NatType

SIZE = 1_200_000
SLOW = Link(rate="8mbit")
LONGEST_GAP_S = 3


class Transfer:
    """A file on its way from `a` to `b`, at a megabyte a second."""

    def __init__(self, network, directory):
        self.a, self.b = network.nodes["a"], network.nodes["b"]
        self.path = directory / "file"
        self.path.write_bytes(bytes(SIZE))
        self.events = []

    async def run(self):
        await self.b.add_contact("sender", self.a)
        request = messages.Send(peer=self.b.peer_id, path=str(self.path))
        async with aclosing(self.a.events(request)) as events:
            async for event in events:
                self.events.append(event)

    async def wait_begun(self):
        await self.b.wait_event("file progress", lambda event: event["done"] > SIZE / 4)

    def interruptions(self):
        return [e for e in self.events if isinstance(e, messages.Interrupted)]

    def longest_gap_s(self):
        """Longest time in which no byte arrived."""
        times = self.b.times("file progress")
        return max(after - before for before, after in pairwise(times))


def roaming(kind, elsewhere=None):
    """`a` is at home and may go to a café; `b` is at home, too."""
    hosts = {"seed": Host(), "a": Host(behind="home"), "b": Host(behind="flat")}
    nats = {
        "home": Nat(type=kind, link=SLOW),
        "cafe": Nat(type=elsewhere or kind, link=SLOW),
        "flat": Nat(),
    }
    return LabSpec(hosts=hosts, nats=nats)


async def disturb(network, tmp_path, change):
    transfer = Transfer(network, tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transfer.run)
        await transfer.wait_begun()
        change()
    assert transfer.interruptions() == []
    assert transfer.longest_gap_s() <= LONGEST_GAP_S
    return transfer


async def test_a_nat_that_forgets_its_mappings_does_not_interrupt_a_transfer(
    overlay, tmp_path
):
    async with overlay(roaming(NatType.PORT)) as network:
        await disturb(network, tmp_path, lambda: network.lab.restart_nat("home"))


@pytest.mark.parametrize("kind", [NatType.FULL, NatType.PORT])
async def test_a_move_to_another_network_does_not_interrupt_a_transfer(
    overlay, tmp_path, kind
):
    async with overlay(roaming(kind)) as network:
        await disturb(network, tmp_path, lambda: network.lab.move("a", "cafe"))


async def test_a_move_to_a_better_network_leaves_the_relay(overlay, tmp_path):
    spec = roaming(NatType.SYMMETRIC, NatType.FULL)
    async with overlay(spec, has_relay=True) as network:
        a, b = network.nodes["a"], network.nodes["b"]
        assert (await a.connect(b)).path == "relay"
        await disturb(network, tmp_path, lambda: network.lab.move("a", "cafe"))
        assert (await a.connection_to(b))["path"] == "direct"
