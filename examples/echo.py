"""A seed and two people in one process: Alice knows Bob's PeerId, and nothing else.

Run it with ``python examples/echo.py``.
"""

import trio

import opnode

LOOPBACK = opnode.Endpoint("127.0.0.1", 0)


async def echo_once(node: opnode.OverlayNode) -> None:
    """Take one call and send back what arrives, until the caller has finished."""
    connection = await node.accept_connection()
    channel = await connection.accept_channel()
    async for data in channel:
        await channel.send_all(data)
    await channel.send_eof()


async def main() -> None:
    """Let Alice find Bob and talk to him."""
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
            nursery.start_soon(echo_once, bob)

            connection = await alice.connect(bob.peer_id)
            channel = await connection.open_channel()
            await channel.send_all(b"Hello, Bob.\n")
            await channel.send_eof()
            async for data in channel:
                print(data.decode(), end="")


if __name__ == "__main__":
    trio.run(main)
