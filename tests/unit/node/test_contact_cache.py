"""`contact_cache`: what is remembered, and for how long."""

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import StorageError
from opnode.core.ids import Contact, NodeId
from opnode.drivers.dht.contacts import KnownContact
from opnode.node.contact_cache import FORGET_AFTER_S, ContactCache
from opnode.node.data_directory import DataDirectory
from opnode.testing.clock import VirtualWallClock


class ScriptedDht:
    """Knows these contacts."""

    def __init__(self, *known):
        self.known = list(known)

    def known_contacts(self):
        return self.known


def known(number, age_s, silent_s=0.0):
    contact = Contact(NodeId(bytes([number]) * 20), Endpoint(f"10.0.0.{number}", 1))
    return KnownContact(contact, age_s, silent_s)


@pytest.fixture
def directory(tmp_path):
    with DataDirectory.open(tmp_path / "data") as directory:
        yield directory


async def test_contacts_come_back_with_their_ids_and_grown_older(
    autojump_clock, directory
):
    clock = VirtualWallClock()
    first = ContactCache(directory, clock)
    assert first.known() == []
    first.save(ScriptedDht(known(1, 5000.0, 10.0), known(2, 50.0)))
    await trio.sleep(100)
    again = ContactCache(directory, clock)
    assert len(again) == 2
    assert again.known() == [
        (known(1, 0).contact, pytest.approx(5100.0), pytest.approx(110.0)),
        (known(2, 0).contact, pytest.approx(150.0), pytest.approx(100.0)),
    ]


async def test_a_run_that_met_few_does_not_lose_those_of_the_run_before(
    autojump_clock, directory
):
    clock = VirtualWallClock()
    ContactCache(directory, clock).save(ScriptedDht(known(1, 500.0), known(2, 400.0)))
    second = ContactCache(directory, clock)
    second.save(ScriptedDht(known(2, 400.0), known(3, 1.0)))
    third = ContactCache(directory, clock)
    hosts = [one.contact.endpoint.host for one in third.known()]
    assert hosts == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
    await trio.sleep(FORGET_AFTER_S + 1)
    third.save(ScriptedDht(known(4, 1.0)))
    (left,) = ContactCache(directory, clock).known()
    assert left.contact == known(4, 0).contact


async def test_knowing_nobody_leaves_the_last_list_alone(autojump_clock, directory):
    clock = VirtualWallClock()
    cache = ContactCache(directory, clock)
    cache.save(ScriptedDht())
    assert not (directory.path / "contacts.json").exists()


async def test_it_saves_every_minute(autojump_clock, directory):
    cache = ContactCache(directory, VirtualWallClock())
    with trio.move_on_after(90):
        await cache.run(ScriptedDht(known(1, 500.0)))
    assert len(ContactCache(directory, VirtualWallClock())) == 1


async def test_a_full_disk_is_a_warning(autojump_clock, directory, caplog, monkeypatch):
    def refuse(contacts):
        raise StorageError("disk full")

    monkeypatch.setattr(directory, "save_contacts", refuse)
    ContactCache(directory, VirtualWallClock()).save(ScriptedDht(known(1, 1.0)))
    assert "disk full" in caplog.text


async def test_a_node_in_memory_remembers_nothing(autojump_clock):
    cache = ContactCache(None, VirtualWallClock())
    cache.save(ScriptedDht(known(1, 1.0)))
    await cache.run(ScriptedDht())
    assert cache.known() == []
