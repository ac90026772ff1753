"""Datagrams: for what is worthless when late. Not resent, not ordered, but encrypted.

Run it with ``python examples/datagrams.py``.
"""

import trio

import opnode

LOOPBACK = opnode.Endpoint("127.0.0.1", 0)
COUNT = 5


async def answer(node: opnode.OverlayNode) -> None:
    """Take one call and return every datagram in capital letters."""
    connection = await node.accept_connection()
    for _ in range(COUNT):
        data = await connection.receive_datagram()
        await connection.send_datagram(data.upper())


async def main() -> None:
    """Send a few datagrams and tell the way they took."""
    seed_config = opnode.NodeConfig(
        listen=LOOPBACK, role=opnode.Role.SERVER, has_identity=False
    )
    async with opnode.open_node(seed_config) as seed:
        entry = opnode.BootstrapEntry.parse(seed.invite())
        config = opnode.NodeConfig(listen=LOOPBACK, bootstrap=(entry,))
        async with (
            opnode.open_node(config) as alice,
            opnode.open_node(config) as bob,
            trio.open_nursery() as nursery,
        ):
            await bob.wait_published()
            nursery.start_soon(answer, bob)
            connection = await alice.connect(bob.peer_id)
            if connection.path is not None:
                print(f"{connection.path.kind.value} to {connection.path.endpoint}")
            print(f"round trip {await connection.ping() * 1e3:.2f} ms")
            for number in range(COUNT):
                await connection.send_datagram(b"position %d" % number)
                with trio.move_on_after(1):  # A lost one is lost.
                    print((await connection.receive_datagram()).decode())
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
