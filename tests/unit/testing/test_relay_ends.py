"""The bench of relay tests: its nodes are real, and a log keeps what came."""

import random

import trio

from opnode.core.addresses import Endpoint
from opnode.protocols.rpc.messages import Ping, Service
from opnode.testing.relay_ends import PacketLog, RelayBench
from opnode.testing.virtual_network import VirtualNetwork


async def test_relays_and_users_answer_each_other(
    nursery: trio.Nursery, autojump_clock
):
    bench = RelayBench(nursery, VirtualNetwork(random.Random(1)))
    relay = await bench.relay("192.0.2.1")
    user = await bench.user("192.0.2.2")
    answer = await user.rpc.request(relay.endpoint, Ping())
    assert answer.services == Service.RELAY
    assert user.service is None
    assert relay.paths is None


def test_a_log_splits_runs_into_packets():
    log, source = PacketLog(), Endpoint("192.0.2.1", 1)
    log.receive_run(memoryview(b"aabbc"), 2, source, 0)
    log.flush()
    assert log.packets == [(b"aa", source), (b"bb", source), (b"c", source)]
