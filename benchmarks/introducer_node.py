"""Three servers in a process of their own, one of which tells what it has spent so far.

Three, as that is how many introducers a leaf has. Owns the account: CPU seconds of the
process, and the traffic of that server's one socket by cause. Refuses to know what it
is compared with.
"""

import contextlib
import json
import sys
import time

import trio

import opnode
from benchmarks.neighbourhood import LOOPBACK
from opnode.node.presence.introducers import INTRODUCERS
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.testing.overlay import entry_of

INTRODUCING = frozenset({("INTRODUCE", "served"), ("OFFER", "asked")})
"""Causes of an introduction's traffic, at the node that passes it on."""


EVERYBODY_IS_HERE = IntroducerConfig(offers_per_s=1000.0, offers_burst=10_000.0)
"""All callers have one address, which has the share of one source else."""


async def serve() -> None:
    """Start the servers; answer each line of input with the account."""
    entries: tuple[opnode.BootstrapEntry, ...] = ()
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for _ in range(INTRODUCERS):
            config = opnode.NodeConfig(
                listen=LOOPBACK,
                bootstrap=entries,
                role=opnode.Role.SERVER,
                has_identity=False,
                introducer=EVERYBODY_IS_HERE,
            )
            server = await stack.enter_async_context(opnode.open_node(config))
            await server.wait_joined()
            servers.append(server)
            entries = entries or (entry_of(server),)
        print(json.dumps({"bootstrap": str(entries[0])}), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps(account(servers[0])), flush=True)


def account(node: opnode.OverlayNode) -> dict[str, float]:
    """What was spent since the start; bytes are those inside of UDP."""
    seen = node.statistics()
    socket = seen.traffic.socket
    introducing = [
        line for line in seen.rpc.traffic if (line.message, line.side) in INTRODUCING
    ]
    return {
        "cpu_s": time.process_time(),
        "bytes": socket.bytes_in + socket.bytes_out,
        "datagrams": socket.datagrams_in + socket.datagrams_out,
        "registered": seen.introductions.registered,
        "passed": seen.introductions.passed,
        "introducing_bytes": sum(x.bytes_in + x.bytes_out for x in introducing),
        "introducing_datagrams": sum(
            x.datagrams_in + x.datagrams_out for x in introducing
        ),
    }


if __name__ == "__main__":
    trio.run(serve)
