"""How fast one channel carries bytes one way between two processes on loopback.

Writes of 64 KiB. The clock starts at the first write and stops when the receiver's
account of the last byte is back. CPU seconds are user and system of each process, per
10^9 bytes carried; the receiving process also holds an idle seed. One short transfer
opens the congestion window before. The variants:

``clean``: packets of 1200 bytes, whatever loopback would carry. The measures without a
prefix.
``lossy``: the same, and each packet is lost with the same probability, data on its way
out of the sending process and acknowledgements on their way in.
``large``: packets as large as the search for the path's MTU finds.
``plain``: packets of 1200 bytes without segmentation and coalescing offload.
"""

import dataclasses
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import trio

import opnode
from benchmarks.figures import Measure, Report, measure
from benchmarks.neighbourhood import LOOPBACK, other_process, swallow
from opnode.drivers.network.network import Network, NetworkConfig, SystemNetwork
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import CongestionAlgorithm
from opnode.protocols.rudp.packet import MAX_PACKET_SIZE
from opnode.testing.lossy_network import LossyNetwork

WRITE_BYTES = 1 << 16
WARM_UP_BYTES = 4 << 20
RUN_S = 120.0
PACKET_BYTES: Final = 1200
SEARCH_S: Final = 1.0
"""Time for the search of the path's MTU, which needs packets to travel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is different from one measurement to the next.

    Args:
        prefix: of the names of its measures.
        loses: whether packets are lost.
        packet_bytes: of the largest packet that the sender tries.
        offload: whether both processes may use segmentation and coalescing offload.
    """

    prefix: str
    loses: bool = False
    packet_bytes: int = PACKET_BYTES
    offload: bool = True


VARIANTS: Final = {
    "clean": Variant(prefix=""),
    "lossy": Variant(prefix="lossy_", loses=True),
    "large": Variant(prefix="large_", packet_bytes=MAX_PACKET_SIZE),
    "plain": Variant(prefix="plain_", offload=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Args:
        runs: of each variant.
        mebibytes: of each run.
        loss: probability that a packet is lost, where they are.
        algorithm: congestion control of the sender; empty is the default.
        only: names of variants.
    """

    runs: int = 5
    mebibytes: int = 256
    loss: float = 0.01
    algorithm: str = ""
    only: Sequence[str] = tuple(VARIANTS)


async def run(plan: Plan) -> Report:
    """Measure the variants one after the other, each with processes of its own."""
    measures: dict[str, Measure] = {}
    facts: dict[str, int | float | str] = {
        "runs": plan.runs,
        "bytes_per_run": plan.mebibytes << 20,
        "loss": plan.loss,
        "algorithm": plan.algorithm or "default",
    }
    for name in plan.only:
        variant = VARIANTS[name]
        found = await _transfers(variant, plan)
        for quantity, one in found.measures().items():
            measures[variant.prefix + quantity] = one
        facts[f"{variant.prefix}packets_lost"] = found.packets_lost
        facts[f"{variant.prefix}packet_bytes"] = found.packet_bytes
    return Report(figure="channel", measures=measures, facts=facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfers:
    """The runs of a variant, each in its unit per byte or byte per second."""

    speeds: Sequence[float]
    cpu_send: Sequence[float]
    cpu_receive: Sequence[float]
    packets_lost: int
    packet_bytes: int

    def measures(self) -> dict[str, Measure]:
        return {
            "goodput_MBps": measure(self.speeds, scale=1e-6),
            "cpu_s_per_GB_send": measure(self.cpu_send, scale=1e9),
            "cpu_s_per_GB_recv": measure(self.cpu_receive, scale=1e9),
        }


async def _transfers(variant: Variant, plan: Plan) -> _Transfers:
    network: Network = SystemNetwork(NetworkConfig(offload=variant.offload))
    if variant.loses:
        network = LossyNetwork(network, random.Random(1), plan.loss)
    transport = RudpConfig(max_packet_size=variant.packet_bytes)
    if plan.algorithm:
        algorithm = CongestionAlgorithm(plan.algorithm)
        transport = dataclasses.replace(transport, congestion=algorithm)
    async with other_process(2, offload=variant.offload) as neighbourhood:
        config = opnode.NodeConfig(
            listen=LOOPBACK,
            bootstrap=(neighbourhood.bootstrap,),
            role=opnode.Role.LEAF,
            transport=transport,
        )
        async with opnode.open_node(config, network=network) as node:
            await node.wait_joined()
            connection = await node.connect(neighbourhood.callee)
            async with aclosing(connection):
                return await _on_connection(connection, variant, plan)


async def _on_connection(
    connection: opnode.Connection, variant: Variant, plan: Plan
) -> _Transfers:
    total = plan.mebibytes << 20
    block = random.Random(1).randbytes(WRITE_BYTES)
    speeds, cpu_send, cpu_receive = [], [], []
    async with await connection.open_channel() as channel:
        await swallow(channel, WARM_UP_BYTES, block)
        if variant.packet_bytes > PACKET_BYTES:
            ends_at = time.perf_counter() + SEARCH_S
            while time.perf_counter() < ends_at:
                await swallow(channel, WRITE_BYTES, block)
                await trio.sleep(SEARCH_S / 100)
        before = connection.statistics()
        for _ in range(plan.runs):
            cpu_at, wall_at = time.process_time(), time.perf_counter()
            with trio.fail_after(RUN_S):
                received = await swallow(channel, total, block)
            speeds.append(total / (time.perf_counter() - wall_at))
            cpu_send.append((time.process_time() - cpu_at) / total)
            cpu_receive.append(received.cpu_s / total)
        after = connection.statistics()
    packets = after.packets_sent - before.packets_sent
    return _Transfers(
        speeds=speeds,
        cpu_send=cpu_send,
        cpu_receive=cpu_receive,
        packets_lost=after.packets_lost - before.packets_lost,
        packet_bytes=(after.bytes_sent - before.bytes_sent) // packets,
    )
