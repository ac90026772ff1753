"""What carries a transfer may change under it: the same connection, no byte lost."""

from contextlib import aclosing

import trio

from opnode.daemon import control_messages as messages
from simulations.natlab.spec import Host, LabSpec, Link, Nat, NatType

SIZE = 1_500_000
SLOW = Link(rate="8mbit")


class Transfer:
    """A file on its way from `a` to `b`, at a megabyte a second."""

    def __init__(self, network, directory):
        self.a, self.b = network.nodes["a"], network.nodes["b"]
        self.path = directory / "file"
        self.path.write_bytes(bytes(SIZE))
        self.moved = trio.Event()
        self.events = []
        self.stalls_s = []

    async def run(self):
        await self.b.add_contact("sender", self.a)
        request = messages.Send(peer=self.b.peer_id, path=str(self.path))
        told_at = None
        async with aclosing(self.a.events(request)) as events:
            async for event in events:
                self.events.append(event)
                if isinstance(event, messages.TransferProgress):
                    if told_at is not None:
                        self.stalls_s.append(trio.current_time() - told_at)
                    told_at = trio.current_time()
                    if event.done > SIZE / 4:
                        self.moved.set()

    def interruptions(self):
        return [e for e in self.events if isinstance(e, messages.Interrupted)]


def roaming(kind):
    """`a` is at home and may go to a café; `b` is at home, too."""
    hosts = {"seed": Host(), "a": Host(behind="home"), "b": Host(behind="flat")}
    nats = {
        "home": Nat(type=kind, link=SLOW),
        "cafe": Nat(type=kind, link=SLOW),
        "flat": Nat(),
    }
    return LabSpec(hosts=hosts, nats=nats)


async def disturb(network, tmp_path, change):
    transfer = Transfer(network, tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transfer.run)
        await transfer.moved.wait()
        change()
    return transfer


async def test_a_nat_that_forgets_its_mappings_does_not_interrupt_a_transfer(
    overlay, tmp_path
):
    async with overlay(roaming(NatType.PORT)) as network:
        lab = network.lab
        transfer = await disturb(network, tmp_path, lambda: lab.restart_nat("home"))
        assert transfer.interruptions() == []
