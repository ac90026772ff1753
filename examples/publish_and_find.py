"""What a lookup returns: records that the finder verified, whoever held them.

Run it with ``python examples/publish_and_find.py``.
"""

from datetime import UTC, datetime

import trio

import opnode

LOOPBACK = opnode.Endpoint("127.0.0.1", 0)


async def find(finder: opnode.OverlayNode, peer_id: opnode.PeerId) -> None:
    """Look somebody up and tell what is publicly known."""
    try:
        found = await finder.lookup(peer_id)
    except opnode.OpnodeError as error:
        print("not found:", error)
        return
    print("found:", opnode.format_peer_id(found.peer_id))
    for presence in found.presences:
        until = datetime.fromtimestamp(presence.certificate.expires_at, UTC)
        print(f"  a location, its key certified until {until:%Y-%m-%d}")
        for introducer in presence.introducers:
            print(f"  introductions are passed on at {introducer.endpoint}")


async def main() -> None:
    """Publish one identity and look for it, and for one that nobody has."""
    seed_config = opnode.NodeConfig(
        listen=LOOPBACK, role=opnode.Role.SERVER, has_identity=False
    )
    async with opnode.open_node(seed_config) as seed:
        entry = opnode.BootstrapEntry.parse(seed.invite())
        config = opnode.NodeConfig(listen=LOOPBACK, bootstrap=(entry,))
        async with opnode.open_node(config) as alice, opnode.open_node(config) as bob:
            await bob.wait_published()
            await alice.wait_joined()
            await find(alice, bob.peer_id)
            await find(alice, opnode.PeerId(bytes(32)))


if __name__ == "__main__":
    trio.run(main)
