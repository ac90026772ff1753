import os
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import StorageError
from opnode.core.ids import NodeId, PeerId, format_peer_id
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import EVENTS, JsonLines
from opnode.daemon.daemon import (
    DaemonSettings,
    Ready,
    RoleChanged,
    run_daemon,
    run_seed,
)
from opnode.daemon.services import AcceptPolicy
from opnode.node.bootstrap import BootstrapEntry, Verdict, VerdictKind
from opnode.node.config import Role
from opnode.node.data_directory import DataDirectory, control_socket_path
from opnode.node.joining import JoinReport

ME = PeerId(bytes([9]) * 32)
REPORT = JoinReport(
    Verdict(BootstrapEntry(None, "192.0.2.1", 1), VerdictKind.ANSWERED), 1
)


@dataclass(frozen=True)
class Statistics:
    peer_id: PeerId | None
    contacts: int = 1


class FakeNode:
    """A node that joins and publishes when the test says so."""

    node_id = NodeId(bytes(20))
    endpoint = Endpoint("192.0.2.1", 4000)

    def __init__(self, peer_id):
        self.peer_id = peer_id
        self.joined = trio.Event()
        self.published = trio.Event()
        self.reports_in, self.reports = trio.open_memory_channel(8)
        self.roles_in, self.role_changes = trio.open_memory_channel(8)

    def invite(self):
        return "opnode://key@192.0.2.1:4000"

    def statistics(self):
        return Statistics(self.peer_id)

    def contacts(self):
        return ["somebody"]

    async def wait_joined(self):
        await self.joined.wait()

    async def wait_published(self):
        await self.published.wait()

    async def accept_connection(self):
        await trio.sleep_forever()


@pytest.fixture
def directory(tmp_path):
    with DataDirectory.open(tmp_path / "data") as directory:
        yield directory


@asynccontextmanager
async def ask(directory, request):
    path = control_socket_path(directory.path)
    async with await trio.open_unix_socket(path) as stream:
        lines = JsonLines(stream)
        await lines.send(request)
        yield EVENTS.decode(await lines.receive_line_untrusted())


def settings(tmp_path, events):
    return DaemonSettings(
        inbox=tmp_path / "inbox",
        policy=AcceptPolicy.NEVER,
        notify=events.append,
        ask=None,
        rng=random.Random(1),
    )


async def test_a_node_is_ready_once_it_is_joined_and_published(
    directory, tmp_path, nursery
):
    node, events = FakeNode(ME), []
    nursery.start_soon(run_daemon, node, directory, settings(tmp_path, events))
    node.reports_in.send_nowait(REPORT)
    await trio.testing.wait_all_tasks_blocked()
    assert events == [REPORT]
    node.joined.set()
    await trio.testing.wait_all_tasks_blocked()
    assert events == [REPORT]
    node.published.set()
    await trio.testing.wait_all_tasks_blocked()
    ready = events[-1]
    assert isinstance(ready, Ready)
    assert (ready.peer_id, ready.contacts) == (format_peer_id(ME), 1)
    assert ready.endpoint == "192.0.2.1:4000"


async def test_a_change_of_role_is_told_with_the_invite(directory, tmp_path, nursery):
    node, events = FakeNode(ME), []
    nursery.start_soon(run_daemon, node, directory, settings(tmp_path, events))
    node.roles_in.send_nowait(Role.SERVER)
    await trio.testing.wait_all_tasks_blocked()
    assert events == [RoleChanged(Role.SERVER, node.invite())]


async def test_a_node_can_be_asked_while_it_is_still_joining(
    directory, tmp_path, nursery
):
    nursery.start_soon(run_daemon, FakeNode(ME), directory, settings(tmp_path, []))
    await trio.testing.wait_all_tasks_blocked()
    async with ask(directory, messages.Id()) as identity:
        assert identity.peer_id == format_peer_id(ME)


async def test_stop_ends_the_daemon_and_its_socket(directory, tmp_path):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_daemon, FakeNode(ME), directory, settings(tmp_path, []))
        await trio.testing.wait_all_tasks_blocked()
        async with ask(directory, messages.Stop()):
            pass
    assert not control_socket_path(directory.path).exists()


async def test_a_seed_is_ready_once_it_is_joined(directory, tmp_path, nursery):
    node, events = FakeNode(None), []
    node.joined.set()
    nursery.start_soon(run_seed, node, directory, settings(tmp_path, events))
    await trio.testing.wait_all_tasks_blocked()
    assert [event.peer_id for event in events] == [None]
    async with ask(directory, messages.Ping(peer="ann")) as failed:
        assert "op1" in failed.message


async def test_a_damaged_address_book_stops_the_start(directory, tmp_path):
    directory.address_book_path.write_text("{")
    with pytest.raises(StorageError, match=r"address_book\.json"):
        await run_daemon(FakeNode(ME), directory, settings(tmp_path, []))


async def test_t_7_parts_left_long_ago_go_at_the_start(directory, tmp_path, nursery):
    partials = tmp_path / "inbox" / ".partial"
    partials.mkdir(parents=True)
    for name in ("old", "new"):
        (partials / name).touch()
    os.utime(partials / "old", (1.0, 1.0))
    nursery.start_soon(run_daemon, FakeNode(ME), directory, settings(tmp_path, []))
    await trio.testing.wait_all_tasks_blocked()
    assert [path.name for path in partials.iterdir()] == ["new"]
