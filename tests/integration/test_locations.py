"""Two devices of one person: the same identity key, each with keys of its own."""

import contextlib
import shutil

import pytest
import trio

from opnode.node.bootstrap import BootstrapEntry
from opnode.node.config import NodeConfig
from opnode.node.node import open_node
from opnode.testing.overlay import LOOPBACK, entry_of, open_seed, open_user

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def open_device(path, entry: BootstrapEntry, name: str):
    config = NodeConfig(
        listen=LOOPBACK, bootstrap=(entry,), data_dir=path, location_name=name
    )
    async with open_node(config) as node:
        await node.wait_published()
        yield node


async def run_device(path, entry, name, *, task_status):
    with trio.CancelScope() as scope:
        async with open_device(path, entry, name) as node:
            task_status.started((node, scope))
            while True:
                await (await node.accept_connection()).closed.wait()


async def test_every_device_of_a_person_is_found_and_the_next_one_answers(tmp_path):
    laptop, phone = tmp_path / "laptop", tmp_path / "phone"
    async with open_seed() as seed, trio.open_nursery() as nursery:
        entry = entry_of(seed)
        async with open_device(laptop, entry, "laptop"):
            pass
        phone.mkdir(mode=0o700)
        shutil.copy(laptop / "identity.key", phone / "identity.key")
        devices = {}
        for path in (laptop, phone):
            devices[path.name] = await nursery.start(run_device, path, entry, path.name)
        peer_id = devices["laptop"][0].peer_id
        assert devices["phone"][0].peer_id == peer_id
        async with open_user([entry]) as caller:
            with trio.fail_after(30):
                view = await caller.lookup(peer_id)
                names = {p.certificate.name for p in view.presences}
                assert names == {"laptop", "phone"}
                reached = await caller.connect(peer_id)
                devices[reached.certificate.name][1].cancel()
                await reached.closed.wait()
                other = await caller.connect(peer_id)
            assert {reached.certificate.name, other.certificate.name} == names
        nursery.cancel_scope.cancel()
