"""One server in a process of its own that tells what it has spent so far.

Owns the account: CPU seconds of the process, and the traffic of its one socket by
cause. Refuses to know what it is compared with.
"""

import json
import sys
import time

import trio

import opnode
from benchmarks.neighbourhood import LOOPBACK
from opnode.protocols.introductions.introducer import IntroducerConfig

INTRODUCING = frozenset({("INTRODUCE", "served"), ("OFFER", "asked")})
"""Causes of an introduction's traffic, at the node that passes it on."""


EVERYBODY_IS_HERE = IntroducerConfig(offers_per_s=1000.0, offers_burst=10_000.0)
"""All callers have one address, which has the share of one source else."""


async def serve() -> None:
    """Start the server; answer each line of input with the account."""
    config = opnode.NodeConfig(
        listen=LOOPBACK,
        role=opnode.Role.SERVER,
        has_identity=False,
        introducer=EVERYBODY_IS_HERE,
    )
    async with opnode.open_node(config) as node:
        print(json.dumps({"bootstrap": node.invite()}), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps(account(node)), flush=True)


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
