"""`contact_watch`: being alone is told once, and so is the end of it."""

import trio

from opnode.daemon.contact_watch import ContactsChanged, watch_contacts
from opnode.testing.overlay import open_overlay


class Node:
    def __init__(self, known=()):
        self.known = list(known)
        self.joined = trio.Event()

    def contacts(self):
        return self.known

    async def wait_joined(self):
        await self.joined.wait()


async def test_losing_the_last_contact_and_finding_another_are_told_once(
    autojump_clock, nursery
):
    node, told = Node(["a", "b"]), []
    nursery.start_soon(watch_contacts, node, told.append)
    node.joined.set()
    await trio.sleep(10)
    node.known = ["a"]
    await trio.sleep(10)
    assert told == []
    node.known = []
    await trio.sleep(10)
    assert told == [ContactsChanged(0)]
    node.known = ["c", "d"]
    await trio.sleep(10)
    assert told == [ContactsChanged(0), ContactsChanged(2)]


async def test_a_node_that_never_joined_has_lost_nobody(autojump_clock, nursery):
    node, told = Node(), []
    nursery.start_soon(watch_contacts, node, told.append)
    await trio.sleep(100)
    assert told == []


async def test_a_first_seed_tells_its_first_contact(autojump_clock, nursery):
    node, told = Node(), []
    node.joined.set()
    nursery.start_soon(watch_contacts, node, told.append)
    await trio.sleep(10)
    node.known = ["a"]
    await trio.sleep(10)
    assert told == [ContactsChanged(1)]


async def test_a_whole_node_whose_only_seed_dies_and_returns(autojump_clock):
    async with open_overlay() as overlay:
        node, told = await overlay.user(), []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_contacts, node, told.append)
            overlay.network.kill("10.0.0.1")
            await trio.sleep(3000)
            assert told == [ContactsChanged(0)]
            overlay.network.revive("10.0.0.1")
            await trio.sleep(200)
            assert told == [ContactsChanged(0), ContactsChanged(1)]
            nursery.cancel_scope.cancel()
