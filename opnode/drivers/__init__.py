"""Where bytes meet the world: sockets, the asyncio island, RPC, storage."""
