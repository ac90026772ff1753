"""What a node sends when nobody does anything.

Twenty-one server nodes on loopback in this process. By default each has an identity, a
published presence and introducers: what a person leaves running. Without identities
they are what other systems' figures were taken with. They settle, then every node's own
socket counters are read twice. Each datagram counts once, where it is sent, with 28
bytes for its IPv4 and UDP headers.

No NAT keeps mappings here, and a contact is pinged only after five minutes of silence:
a window shorter than that shows less than the long run does.
"""

import trio

import opnode
from benchmarks.figures import Report, measure
from benchmarks.neighbourhood import open_servers

HEADER_BYTES = 28
SETTLE_S = 3.0


async def run(
    *, nodes: int = 21, seconds: float = 90.0, identities: bool = True
) -> Report:
    """Measure over ``seconds`` of real time."""
    people = frozenset(range(nodes)) if identities else frozenset[int]()
    async with open_servers(nodes, with_identity=people) as servers:
        for position in people:
            await servers[position].wait_published()
        await trio.sleep(SETTLE_S)
        before = [_sent(node) for node in servers]
        await trio.sleep(seconds)
        after = [_sent(node) for node in servers]
    rates = [
        ((b1 - b0) / seconds, (p1 - p0) / seconds)
        for (b0, p0), (b1, p1) in zip(before, after, strict=True)
    ]
    return Report(
        figure="idle",
        measures={
            "bytes_per_s": measure([rate for rate, _ in rates]),
            "packets_per_s": measure([rate for _, rate in rates]),
        },
        facts={"nodes": nodes, "identities": len(people), "seconds": seconds},
    )


def _sent(node: opnode.OverlayNode) -> tuple[int, int]:
    """Bytes with headers, and datagrams, that the node has sent so far."""
    socket = node.statistics().traffic.socket
    packets = socket.datagrams_out
    return socket.bytes_out + HEADER_BYTES * packets, packets
