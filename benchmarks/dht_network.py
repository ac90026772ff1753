"""One network of the DHT benchmark: built, used, killed in part, used again.

Runs as ``python -m benchmarks.dht_network SETTINGS`` in a process of its own and prints
one line with the raw figures. Owns the nodes and the order of the operations. Refuses
to know what is made of the figures.
"""

import gc
import itertools
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import trio
import trio.testing

import opnode
from benchmarks.black_hole import black_holes, resident_bytes
from benchmarks.figures import BenchmarkError, leaves
from benchmarks.neighbourhood import LOOPBACK
from opnode.core.crypto import SigningKey
from opnode.core.ids import StorageKey
from opnode.core.records import (
    RecordKind,
    SignedRecord,
    build_chunk,
    build_record,
)
from opnode.testing.overlay import entry_of

VALUE_BYTES = 300
RECORD_LIFE_S = 3600
OPERATION_S = 60.0
"""An operation that takes longer has failed."""
QUIET_S = 0.05
"""Nobody in the process had anything to do for so long: the operations are over."""
BEHIND_S = 5.0
"""A large network is never quiet: what it does to maintain itself is in the price."""
DEAD_QUIET_S = 2.0
"""After so long the last requests to the dead are given up."""
DEAD_SHARE = 0.3
READS_AT_ONCE = 10
PUTS_AT_ONCE = 20
# The survivors are dealt out: nobody learns of a death in one part and profits of it in
# the next.
SURVIVORS = {"dead_get": 50, "dead_latest": 50, "dead_put": 20}
SURVIVOR_SHARES = {"dead_get": 3 / 7, "dead_latest": 2 / 7, "dead_put": 2 / 7}

Call = Callable[[], Awaitable[None]]
Read = Callable[[opnode.OverlayNode, SignedRecord], Awaitable[Sequence[SignedRecord]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One network and what is asked of it.

    Attributes:
        nodes: how many.
        seed: decides who asks for what.
        kind: ``claim``, signed and mutable; or ``chunk``, immutable and unsigned.
        operations: puts; twice as many first reads, and as many latest ones.
    """

    nodes: int
    seed: int
    kind: str
    operations: int


@dataclass(slots=True)
class Account:
    """What one kind of operation took: seconds each, successes, and its price."""

    seconds: list[float] = field(default_factory=list)
    good: int = 0
    cpu_s: float = 0.0
    datagrams: int = 0
    octets: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """A record of the network and who put it."""

    owner: opnode.OverlayNode
    record: SignedRecord


class Trial:
    """One network from its first node on."""

    def __init__(self, settings: Settings) -> None:
        self.accounts: dict[str, Account] = {}
        self.single: dict[str, float] = {}
        self._settings = settings
        self._rng = random.Random(settings.seed)
        self._nodes: list[opnode.OverlayNode] = []
        self._records: list[Known] = []
        self._labels = itertools.count()

    async def run(self, nursery: trio.Nursery) -> None:
        """Do everything, in the order in which the other systems were measured."""
        await self._build(nursery)
        await self._use()
        dead, alive = self._divide()
        # They are cut off, not ended: a node that ends says good-bye.
        with black_holes({node.endpoint.port for node in dead}) as found:
            if found != len(dead):
                raise BenchmarkError(f"{found} of {len(dead)} sockets were found")
            await self._use_after(alive)

    async def _build(self, nursery: trio.Nursery) -> None:
        gc.collect()
        memory, started_at = resident_bytes(), time.perf_counter()
        entries: tuple[opnode.BootstrapEntry, ...] = ()
        for _ in range(self._settings.nodes):
            node: opnode.OverlayNode = await nursery.start(_live, entries)
            entries = entries or (entry_of(node),)
            self._nodes.append(node)
        self.single["build_s"] = time.perf_counter() - started_at
        gc.collect()
        grown = resident_bytes() - memory
        self.single["rss_kB_per_node"] = grown / 1000 / self._settings.nodes

    async def _use(self) -> None:
        rng, nodes = self._rng, self._nodes
        putters = rng.choices(nodes, k=self._settings.operations)
        await self._measure("put", [partial(self._put, m, "put") for m in putters])
        for name, read, count in (
            ("get", _first, 2 * len(putters)),
            ("latest", _latest, len(putters)),
        ):
            readers = rng.choices(nodes, k=count)
            reads = [partial(self._read, name, read, m) for m in readers]
            await self._measure(name, reads)

    def _divide(self) -> tuple[list[opnode.OverlayNode], list[opnode.OverlayNode]]:
        count = int(len(self._nodes) * DEAD_SHARE)
        shuffled = self._rng.sample(self._nodes, len(self._nodes))
        return shuffled[:count], shuffled[count:]

    async def _use_after(self, alive: Sequence[opnode.OverlayNode]) -> None:
        rest = iter(alive)
        groups = {
            name: list(itertools.islice(rest, _share(name, len(alive))))
            for name in SURVIVORS
        }
        for name, read in (("dead_get", _first), ("dead_latest", _latest)):
            reads = [partial(self._read, name, read, m) for m in groups[name]]
            await self._measure(name, reads, at_once=READS_AT_ONCE)
        puts = [partial(self._put, m, "dead_put") for m in groups["dead_put"]]
        await self._measure("dead_put", puts, at_once=PUTS_AT_ONCE)

    async def _measure(
        self, name: str, calls: Sequence[Call], *, at_once: int = 1
    ) -> None:
        """Run the calls, so many at a time, and note the price of all together."""
        account = self.accounts[name] = Account()
        gate = trio.CapacityLimiter(at_once)
        before, cpu_at = self._traffic(), time.process_time()

        async def run(call: Call) -> None:
            async with gate:
                await call()

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(run, call)
        # What goes on behind an operation is part of its price, and not the next one's.
        if name.startswith("dead"):
            await trio.sleep(DEAD_QUIET_S)
        with trio.move_on_after(BEHIND_S):
            await trio.testing.wait_all_tasks_blocked(QUIET_S)
        account.cpu_s = time.process_time() - cpu_at
        after = self._traffic()
        account.datagrams = sum(after[m][0] - before[m][0] for m in after)
        account.octets = sum(after[m][1] - before[m][1] for m in after)

    async def _put(self, node: opnode.OverlayNode, name: str) -> None:
        """Sign and put a new value; known to the others when it is acknowledged."""
        account = self.accounts[name]
        value = self._rng.randbytes(VALUE_BYTES)
        owner = SigningKey.from_seed(self._rng.randbytes(32))
        held = 0
        started_at = time.perf_counter()
        with trio.move_on_after(OPERATION_S):
            record = self._record(value, owner)
            held = await node.dht.put(record)
        account.seconds.append(time.perf_counter() - started_at)
        if held:
            account.good += 1
            if name == "put":
                self._records.append(Known(node, record))

    async def _read(self, name: str, read: Read, node: opnode.OverlayNode) -> None:
        """Read a record that another node put; good if it is that very record."""
        account = self.accounts[name]
        known = self._rng.choice(self._records)
        while known.owner is node:
            known = self._rng.choice(self._records)
        found: Sequence[SignedRecord] = ()
        started_at = time.perf_counter()
        with trio.move_on_after(OPERATION_S):
            try:
                found = await read(node, known.record)
            except opnode.RecordNotFound:
                found = ()
        account.seconds.append(time.perf_counter() - started_at)
        account.good += any(one.wire == known.record.wire for one in found)

    def _record(self, value: bytes, owner: SigningKey) -> SignedRecord:
        expires_at = int(time.time()) + RECORD_LIFE_S  # noqa: TID251 - the world's own clock
        if self._settings.kind == "chunk":
            return build_chunk(value, expires_at)
        return build_record(
            owner,
            kind=RecordKind.CLAIM,
            key=StorageKey(value[:20]),
            seq=1,
            expires_at=expires_at,
            payload=value,
        )

    def _traffic(self) -> dict[int, tuple[int, int]]:
        """Datagrams and bytes that each node has sent so far."""
        sockets = {id(n): n.statistics().traffic.socket for n in self._nodes}
        return {n: (s.datagrams_out, s.bytes_out) for n, s in sockets.items()}


async def _first(
    node: opnode.OverlayNode, record: SignedRecord
) -> Sequence[SignedRecord]:
    return await node.dht.find_first(record.key, lambda _: True)


async def _latest(
    node: opnode.OverlayNode, record: SignedRecord
) -> Sequence[SignedRecord]:
    return await node.dht.find_all(record.key)


def _share(name: str, alive: int) -> int:
    return min(SURVIVORS[name], int(alive * SURVIVOR_SHARES[name]))


async def _live(
    entries: tuple[opnode.BootstrapEntry, ...],
    task_status: trio.TaskStatus[opnode.OverlayNode] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be one whole node, the kind that a seed is."""
    config = opnode.NodeConfig(
        listen=LOOPBACK,
        bootstrap=entries,
        role=opnode.Role.SERVER,
        has_identity=False,
    )
    async with opnode.open_node(config) as node:
        await node.wait_joined()
        task_status.started(node)
        await trio.sleep_forever()


async def _tell(settings: Settings) -> None:
    trial = Trial(settings)
    async with trio.open_nursery() as nursery:
        await trial.run(nursery)
        accounts = {name: asdict(one) for name, one in trial.accounts.items()}
        print(json.dumps({"single": trial.single, "accounts": accounts}), flush=True)
        # A thousand good-byes take longer than all the rest.
        os._exit(0)


def main() -> None:
    """Run one trial, and end with a readable account of what went wrong."""
    try:
        trio.run(_tell, Settings(**json.loads(sys.argv[1])))
    except BaseExceptionGroup as group:
        for leaf in leaves(group):
            traceback.print_exception(leaf)
        sys.exit(1)


if __name__ == "__main__":
    main()
