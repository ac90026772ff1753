"""Are stored records always found, and how long does a lookup take?

Nodes join one by one, each through a random earlier one. Records are put by random
nodes and fetched by others; the closest sets are compared with the true ones.
"""

import msgspec
import trio

from opnode.core.errors import RecordNotFound
from opnode.core.records import SignedRecord, build_chunk
from opnode.drivers.dht.dht import Dht
from opnode.testing.clock import run_deterministic
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.virtual_network import Link

LATENCY_S = (0.01, 0.12)
"""One way, uniform: neighbours in a city up to the other side of the globe."""
K = 20
LIFETIME_S = 86_400


class LookupResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found; all times are virtual seconds."""

    scenario: str = "lookup"
    nodes: int
    seed: int
    loss: float
    dead: int
    gets: int
    found: int
    success_rate: float
    holders_mean: float
    closest_exact_rate: float
    get_s_median: float
    get_s_p90: float
    get_s_max: float
    closest_s_median: float
    table_min: int
    table_mean: float
    join_datagrams_per_node: float
    datagrams: int
    virtual_s: float
    digest: str


class LookupScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters: ``dead`` is the share of nodes that die after the puts, 0 to 1."""

    nodes: int = 50
    seed: int = 1
    loss: float = 0.0
    dead: float = 0.0
    records: int = 50


def run_lookup(scenario: LookupScenario) -> LookupResult:
    """Run once; the same scenario gives the same result."""
    return run_deterministic(_run, scenario.seed, scenario)


async def _run(scenario: LookupScenario) -> LookupResult:
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, scenario.seed, Link(latency_s=LATENCY_S))
        try:
            await network.grow(scenario.nodes)
            result = await _measure(network, scenario)
        finally:
            network.close()
        nursery.cancel_scope.cancel()
    return result


async def _measure(network: DhtNetwork, scenario: LookupScenario) -> LookupResult:
    rng = network.rng
    joined = network.network.statistics().sent
    tables = [len(node.dht.contacts()) for node in network.nodes]
    records, holders = await _put_records(network, scenario.records)
    dead = rng.sample(network.nodes[1:], int(scenario.dead * scenario.nodes))
    for node in dead:
        network.kill(node)
    network.network.link = Link(latency_s=LATENCY_S, loss=scenario.loss)
    alive = [node for node in network.nodes if node not in dead]
    dead_ids = {node.rpc.node_id for node in dead}
    get_s: list[float] = []
    closest_s: list[float] = []
    found = exact = wanted = 0
    for record in records:
        node = rng.choice(alive)
        started_at = trio.current_time()
        found += await _is_found(node.dht, record)
        get_s.append(trio.current_time() - started_at)
        started_at = trio.current_time()
        closest = {
            contact.node_id for contact in await node.dht.closest_nodes(record.key)
        }
        closest_s.append(trio.current_time() - started_at)
        true = [
            node_id
            for node_id in network.true_closest(record.key, K + len(dead), node)
            if node_id not in dead_ids
        ][:K]
        exact += len(closest.intersection(true))
        wanted += len(true)
    statistics = network.network.statistics()
    return LookupResult(
        nodes=scenario.nodes,
        seed=scenario.seed,
        loss=scenario.loss,
        dead=len(dead),
        gets=len(records),
        found=found,
        success_rate=found / len(records),
        holders_mean=holders,
        closest_exact_rate=exact / max(1, wanted),
        get_s_median=_quantile(get_s, 0.5),
        get_s_p90=_quantile(get_s, 0.9),
        get_s_max=_quantile(get_s, 1.0),
        closest_s_median=_quantile(closest_s, 0.5),
        table_min=min(tables),
        table_mean=sum(tables) / len(tables),
        join_datagrams_per_node=joined / scenario.nodes,
        datagrams=statistics.sent,
        virtual_s=trio.current_time(),
        digest=network.network.trace_digest(),
    )


async def _put_records(
    network: DhtNetwork, count: int
) -> tuple[list[SignedRecord], float]:
    """Put records from random nodes; returns them and the mean number of holders."""
    records = []
    holders = 0
    for number in range(count):
        expires_at = int(network.wall_clock()) + LIFETIME_S
        record = build_chunk(f"record {number}".encode(), expires_at)
        holders += await network.rng.choice(network.nodes).dht.put(record)
        records.append(record)
    return records, holders / count


async def _is_found(dht: Dht, record: SignedRecord) -> bool:
    try:
        found = await dht.find_first(record.key, lambda _: True)
    except RecordNotFound:
        return False
    return found[0].payload == record.payload


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
