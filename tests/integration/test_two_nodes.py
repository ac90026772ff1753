import hashlib

import pytest
import trio

from opnode.drivers.connection_paths import PathKind
from opnode.drivers.network.network import SystemNetwork
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.config import EVERY_INTERFACE
from opnode.testing.overlay import entry_of, open_seed, open_user

pytestmark = pytest.mark.integration


async def echo_once(node):
    connection = await node.accept_connection()
    channel = await connection.accept_channel()
    async for data in channel:
        await channel.send_all(data)
    await channel.send_eof()


async def test_a_stranger_is_found_by_identity_and_echoes_over_a_direct_path():
    async with (
        open_seed() as seed,
        open_user([entry_of(seed)]) as alice,
        open_user([entry_of(seed)]) as bob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(echo_once, bob)
        with trio.fail_after(10):
            connection = await alice.connect(bob.peer_id)
            assert connection.peer_id == bob.peer_id
            assert connection.path.kind is PathKind.DIRECT
            assert connection.path.endpoint.port == bob.endpoint.port
            channel = await connection.open_channel()
            await channel.send_all(b"hello")
            await channel.send_eof()
            received = b"".join([data async for data in channel])
        assert received == b"hello"


async def test_two_nodes_on_every_interface_connect_over_one_socket_each():
    host = "::1"
    if host not in [one.host for one in SystemNetwork().interface_addresses()]:
        pytest.skip("this host has no IPv6 loopback")
    async with open_seed(listen=EVERY_INTERFACE) as seed:
        port = parse_port(seed.invite())
        for host in ("127.0.0.1", "::1"):
            entry = BootstrapEntry(seed.node_public_key, host, port)
            async with (
                open_user([entry], listen=EVERY_INTERFACE) as alice,
                open_user([entry], listen=EVERY_INTERFACE) as bob,
            ):
                with trio.fail_after(10):
                    connection = await alice.connect(bob.peer_id)
                assert connection.path.kind is PathKind.DIRECT
                # The DHT stays on the version that the seed was asked over.
                assert {c.endpoint.host for c in alice.contacts()} == {host}


def parse_port(invite):
    return BootstrapEntry.parse(invite).port


async def run_seed(task_status):
    with trio.CancelScope() as scope:
        async with open_seed() as seed:
            task_status.started((entry_of(seed), scope))
            await trio.sleep_forever()


async def test_four_megabytes_arrive_whole_after_the_seed_is_gone():
    payload = bytes(range(256)) * 4096 * 4
    async with trio.open_nursery() as nursery:
        entry, seed_scope = await nursery.start(run_seed)
        async with open_user([entry]) as alice, open_user([entry]) as bob:
            nursery.start_soon(echo_once, bob)
            with trio.fail_after(30):
                connection = await alice.connect(bob.peer_id)
                seed_scope.cancel()
                channel = await connection.open_channel()
                digest = hashlib.sha256()

                async def send():
                    await channel.send_all(payload)
                    await channel.send_eof()

                async with trio.open_nursery() as sending:
                    sending.start_soon(send)
                    async for data in channel:
                        digest.update(data)
            assert digest.digest() == hashlib.sha256(payload).digest()


async def test_both_calling_at_once_end_with_one_connection():
    async with (
        open_seed() as seed,
        open_user([entry_of(seed)]) as alice,
        open_user([entry_of(seed)]) as bob,
    ):
        found = {}

        async def call(name, caller, callee):
            found[name] = await caller.connect(callee.peer_id)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, "alice", alice, bob)
                nursery.start_soon(call, "bob", bob, alice)
        assert len(alice.connector.connections()) == 1
        assert len(bob.connector.connections()) == 1
        assert await found["alice"].ping() > 0
        assert await found["bob"].ping() > 0
