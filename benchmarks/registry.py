"""A registry of three servers under a hundred clients, as reTHINK measured theirs.

reTHINK's global registry, three nodes with one CPU each and 4000 signed records, asked
by 100 threads (their repository; B3 of our goals): GET median 351 ms, mean 533, at most
340 a second; PUT median 1174 ms, mean 1777, at most 120 a second. Their nodes had a
processor each; here three servers and the clients share those of one machine.

Three servers run in processes of their own and keep their records on disk. Another
process signs 4000 claims of 300 bytes beforehand and joins with leaf nodes, which its
clients share. A hundred clients, each with one operation under way, put all records and
then read all of them: a put ends when every server has answered, a read at the first
record that verifies. Every record is verified by each server that takes it, and by
whoever reads it. Each run is a fresh network. The ratios compare medians and the rates
of whole runs with reTHINK's median and peak rate.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import BenchmarkError, Measure, Report, measure
from benchmarks.program import Line, Program, open_program

PROGRAM = "benchmarks.registry_node"
VERBS = ("put", "get")
RETHINK_MEDIAN_MS = {"put": 1174, "get": 351}
RETHINK_PER_S = {"put": 120, "get": 340}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    runs: int = 5
    servers: int = 3
    records: int = 4000
    clients: int = 100
    leaves: int = 1


@dataclass(frozen=True, slots=True)
class Network:
    """The running processes."""

    servers: Sequence[Program]
    clients: Program


@dataclass(frozen=True, slots=True)
class Phase:
    """All records put, or read: the clients' account, and the servers' CPU seconds."""

    line: Line
    servers_cpu_s: float


async def run(plan: Plan) -> Report:
    """Put and read all records in ``plan.runs`` fresh networks.

    Raises:
        BenchmarkError: an operation failed, or a process did.
    """
    phases: dict[str, list[Phase]] = {verb: [] for verb in VERBS}
    for seed in range(plan.runs):
        async with _open_network(plan, seed) as network:
            for verb in VERBS:
                phases[verb].append(await _measure(plan, network, verb))
    measures: dict[str, Measure] = {}
    facts: dict[str, int | float | str] = {
        "servers": plan.servers,
        "records": plan.records,
        "clients": plan.clients,
        "leaves": plan.leaves,
    }
    for verb, found in phases.items():
        spent = [seconds for phase in found for seconds in phase.line["seconds"]]
        latency = measure(spent, scale=1e3)
        rates = measure([plan.records / phase.line["wall_s"] for phase in found])
        measures |= {f"{verb}_ms": latency, f"{verb}_per_s": rates}
        sooner = RETHINK_MEDIAN_MS[verb] / latency.median
        facts[f"{verb}_times_sooner"] = round(sooner, 1)
        facts[f"{verb}_times_as_many"] = round(rates.median / RETHINK_PER_S[verb], 1)
        client_s = sum(phase.line["cpu_s"] for phase in found) / len(spent)
        servers_s = sum(phase.servers_cpu_s for phase in found) / len(spent)
        facts[f"{verb}_client_cpu_ms"] = round(client_s * 1e3, 3)
        facts[f"{verb}_servers_cpu_ms"] = round(servers_s * 1e3, 3)
    return Report(figure="registry", measures=measures, facts=facts)


async def _measure(plan: Plan, network: Network, verb: str) -> Phase:
    before_s = await _cpu_s(network.servers)
    await network.clients.say({"verb": verb})
    line = await network.clients.line()
    if line["good"] != plan.records:
        raise BenchmarkError(f"{verb}: {line['good']} of {plan.records} succeeded")
    return Phase(line, await _cpu_s(network.servers) - before_s)


async def _cpu_s(servers: Sequence[Program]) -> float:
    """What the servers took of the processors so far, together."""
    total_s = 0.0
    for server in servers:
        await server.say({})
        total_s += (await server.line())["cpu_s"]
    return total_s


@contextlib.asynccontextmanager
async def _open_network(plan: Plan, seed: int) -> AsyncIterator[Network]:
    """Fresh servers, and the clients' process, ready to begin."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        servers: list[Program] = []
        invites: list[str] = []
        for number in range(plan.servers):
            server = await _open_server(stack, Path(folder, str(number)), invites)
            invites.append((await server.line())["bootstrap"])
            servers.append(server)
        settings = {
            "bootstrap": invites,
            "leaves": plan.leaves,
            "clients": plan.clients,
            "records": plan.records,
            "seed": seed,
        }
        clients = await stack.enter_async_context(open_program(PROGRAM, settings))
        await clients.line()
        yield Network(servers, clients)


async def _open_server(
    stack: contextlib.AsyncExitStack, folder: Path, invites: Sequence[str]
) -> Program:
    settings = {"bootstrap": list(invites), "data_dir": str(folder)}
    return await stack.enter_async_context(open_program(PROGRAM, settings))
