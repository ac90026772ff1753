"""Two people who know each other meet again on real sockets, with nobody to help."""

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.node.config import NodeConfig
from opnode.node.node import open_node
from opnode.testing.overlay import entry_of, open_seed, open_user

pytestmark = pytest.mark.integration

LOOPBACK = Endpoint("127.0.0.1", 0)


async def part(connection, other):
    """End a connection after both sides know of it."""
    theirs = await other.accept_connection()
    await connection.aclose()
    await theirs.closed.wait()


async def test_the_seed_dies_and_they_call_each_other_again():
    async with trio.open_nursery() as nursery:

        async def run_seed(task_status):
            with trio.CancelScope() as scope:
                async with open_seed() as seed:
                    task_status.started((entry_of(seed), scope))
                    await trio.sleep_forever()

        entry, seed_scope = await nursery.start(run_seed)
        async with open_user([entry]) as alice, open_user([entry]) as bob:
            with trio.fail_after(30):
                await part(await alice.connect(bob.peer_id), bob)
                seed_scope.cancel()
                with trio.fail_after(10):
                    connection = await bob.connect(alice.peer_id)
                assert await connection.ping() > 0


async def test_a_node_restarts_without_any_seed_and_calls_whom_it_knew(tmp_path):
    async with open_seed() as seed, open_user([entry_of(seed)]) as alice:
        settings = {"listen": LOOPBACK, "data_dir": tmp_path / "bob"}
        with trio.fail_after(30):
            config = NodeConfig(bootstrap=(entry_of(seed),), **settings)
            async with open_node(config) as bob:
                await bob.wait_published()
                await bob.connect(alice.peer_id)
                await alice.accept_connection()
            # On another port, and nobody is told where to join.
            (tmp_path / "bob" / "contacts.json").unlink()
            async with open_node(NodeConfig(**settings)) as bob:
                with trio.fail_after(10):
                    connection = await bob.connect(alice.peer_id)
                assert await connection.ping() > 0
