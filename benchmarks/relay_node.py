"""A relay without limits in a process of its own that tells what it has spent.

Prints its address; answers each line of input with its CPU seconds and the bytes that
it passed on. Refuses to know what it is compared with.
"""

import json
import random
import sys
import time

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey
from opnode.core.ids import node_id_of
from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.relay.service import RelayService
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.relay import RelayConfig

UNLIMITED = RelayConfig(
    total_bytes_per_s=1e10, session_bytes_per_s=1e10, session_bytes=1 << 50
)


async def serve() -> None:
    """Relay until the input ends."""
    hub = SocketHub(await SystemNetwork().bind(Endpoint("127.0.0.1", 0)))
    key = SigningKey.generate()
    rpc = Rpc(
        hub,
        node_id=node_id_of(key.public, hub.local.host),
        leaf=False,
        signing_key=key,
        rng=random.Random(),
    )
    service = RelayService(rpc, hub, UNLIMITED)
    async with trio.open_nursery() as nursery:
        for run in (hub.run, rpc.run, service.run):
            await nursery.start(run)
        print(json.dumps({"port": hub.local.port}), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            relayed = service.statistics().bytes_relayed
            spent = {"cpu_s": time.process_time(), "bytes": relayed}
            print(json.dumps(spent), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(serve)
