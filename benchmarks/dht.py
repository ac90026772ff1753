"""What the DHT costs on real sockets: memory, puts, reads, and with dead nodes.

Every run is a fresh process with all its nodes in one event loop on loopback, as the
other systems were measured. The nodes are whole ones, as a seed is, and join one after
the other through the first. Values have 300 bytes. Puts, first reads (twice as many)
and latest reads go one at a time, from a random node that did not put the record. Then
30 % of the nodes are black-holed at once: no goodbye, no ICMP. Right away survivors
read, ten at a time, and others put, twenty at a time; each survivor does one operation,
so that nobody profits of what it learned of the dead before.

Records are signed claims, which every holder and every reader verifies: the harder of
the two. Unsigned, immutable chunks are measured in networks of their own, in the
measures that start with ``chunk_``. A put's time includes signing. ``get`` ends at
the first record that verifies, and its lookup goes on behind; CPU time and datagrams
are counted to the end of that, but no longer than 5 s. ``latest`` asks all holders. A
reader that happens to be a holder reads its own copy, also in the other systems'
figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Measure, Report, measure
from benchmarks.program import Line, open_program

KINDS = ("claim", "chunk")
SMALL_NETWORK = 100
OPERATIONS, MORE_OPERATIONS = 100, 200
"""Puts in a network of at most a hundred nodes, and in a larger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    nodes: int = SMALL_NETWORK
    runs: int = 5
    kinds: tuple[str, ...] = KINDS


async def run(plan: Plan) -> Report:
    """Measure ``plan.runs`` networks for each kind of record.

    Raises:
        BenchmarkError: a network could not be measured.
    """
    lines: dict[str, list[Line]] = {kind: [] for kind in plan.kinds}
    for seed in range(plan.runs):
        for kind in plan.kinds:
            lines[kind].append(await _one(plan, kind, seed))
    measures: dict[str, Measure] = {}
    facts: dict[str, int | float | str] = {"nodes": plan.nodes, "runs": plan.runs}
    every = [line for found in lines.values() for line in found]
    for name in ("build_s", "rss_kB_per_node"):
        measures[name] = measure([line["single"][name] for line in every])
    for kind, found in lines.items():
        prefix = "chunk_" if kind == "chunk" else ""
        for name in found[0]["accounts"]:
            accounts = [line["accounts"][name] for line in found]
            measures[f"{prefix}{name}_ms"] = measure(_flat(accounts), scale=1e3)
            measures[f"{prefix}{name}_ok"] = measure([_ok(one) for one in accounts])
            facts |= _price(f"{prefix}{name}", accounts)
    return Report(figure="dht", measures=measures, facts=facts)


async def _one(plan: Plan, kind: str, seed: int) -> Line:
    operations = OPERATIONS if plan.nodes <= SMALL_NETWORK else MORE_OPERATIONS
    settings = {
        "nodes": plan.nodes,
        "seed": seed,
        "kind": kind,
        "operations": operations,
    }
    async with open_program("benchmarks.dht_network", settings) as program:
        return await program.line()


def _flat(accounts: Sequence[Line]) -> list[float]:
    return [seconds for account in accounts for seconds in account["seconds"]]


def _ok(account: Line) -> float:
    return float(account["good"] / len(account["seconds"]))


def _price(name: str, accounts: Sequence[Line]) -> Mapping[str, float]:
    """Means of one operation, of all nodes together: this process is all of them."""
    count = len(_flat(accounts))
    return {
        f"{name}_cpu_ms": round(sum(a["cpu_s"] for a in accounts) * 1e3 / count, 3),
        f"{name}_datagrams": round(sum(a["datagrams"] for a in accounts) / count, 1),
        f"{name}_kB": round(sum(a["octets"] for a in accounts) / 1e3 / count, 2),
    }
