"""How fast one channel carries bytes one way between two processes on loopback.

Writes of 64 KiB, packets of 1200 bytes. The clock starts at the first write and stops
when the receiver's account of the last byte is back. CPU seconds are user and system of
each process, per 10^9 bytes carried; the receiving process also holds an idle seed.
"""

import random
import time
from contextlib import aclosing

import trio

import opnode
from benchmarks.figures import Report, measure
from benchmarks.neighbourhood import LOOPBACK, other_process, swallow

WRITE_BYTES = 1 << 16
WARM_UP_BYTES = 4 << 20
RUN_S = 120.0


async def run(*, runs: int = 5, mebibytes: int = 256) -> Report:
    """Measure after one short transfer that opens the congestion window."""
    total = mebibytes << 20
    block = random.Random(1).randbytes(WRITE_BYTES)
    speeds, cpu_send, cpu_receive = [], [], []
    async with other_process(2) as neighbourhood:
        config = opnode.NodeConfig(
            listen=LOOPBACK, bootstrap=(neighbourhood.bootstrap,), role=opnode.Role.LEAF
        )
        async with opnode.open_node(config) as node:
            await node.wait_joined()
            connection = await node.connect(neighbourhood.callee)
            async with aclosing(connection), await connection.open_channel() as channel:
                await swallow(channel, WARM_UP_BYTES, block)
                for _ in range(runs):
                    cpu_at, wall_at = time.process_time(), time.perf_counter()
                    with trio.fail_after(RUN_S):
                        received = await swallow(channel, total, block)
                    speeds.append(total / (time.perf_counter() - wall_at))
                    cpu_send.append((time.process_time() - cpu_at) / total)
                    cpu_receive.append(received.cpu_s / total)
    return Report(
        figure="channel",
        measures={
            "goodput_MBps": measure(speeds, scale=1e-6),
            "cpu_s_per_GB_send": measure(cpu_send, scale=1e9),
            "cpu_s_per_GB_recv": measure(cpu_receive, scale=1e9),
        },
        facts={"runs": runs, "bytes_per_run": total},
    )
