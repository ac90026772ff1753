"""A process of the registry benchmark: a server node on disk, or clients with leaves.

Runs as ``python -m benchmarks.registry_node SETTINGS``. A server prints how to join
through it and then, for every line of input, what it took of the processor. A client
signs its records, says so, and puts or reads all of them whenever a line tells it to.
"""

import contextlib
import itertools
import json
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

import opnode
from benchmarks.figures import leaves
from benchmarks.neighbourhood import LOOPBACK
from opnode.core.crypto import SigningKey
from opnode.core.ids import StorageKey
from opnode.core.records import RecordKind, SignedRecord, build_record
from opnode.testing.overlay import entry_of

RECORD_LIFE_S = 3600
OPERATION_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this process is.

    Attributes:
        bootstrap: lines to join through; a server without any is the first.
        data_dir: where a server keeps its records; empty for a client.
        leaves: nodes of a client process; its clients share them.
        clients: how many operations are under way at once.
        records: how many a client signs.
        value_bytes: the payload of each.
        seed: whose records they are.
    """

    bootstrap: list[str]
    data_dir: str = ""
    leaves: int = 1
    clients: int = 100
    records: int = 4000
    value_bytes: int = 300
    seed: int = 0


class Client:
    """All clients of a process, and the records that they share."""

    def __init__(self, nodes: Sequence[opnode.OverlayNode], settings: Settings) -> None:
        self._nodes = nodes
        self._settings = settings
        rng = random.Random(settings.seed)
        self._records = [_signed(rng, settings) for _ in range(settings.records)]

    async def do(self, verb: str) -> dict[str, object]:
        """Put or get every record once; seconds of each, and what all took."""
        call = self._put if verb == "put" else self._get
        todo = iter(self._records)
        seconds: list[float] = []
        good: list[bool] = []

        async def work(node: opnode.OverlayNode) -> None:
            for record in todo:
                started_at = time.perf_counter()
                good.append(await _ended_well(call, node, record))
                seconds.append(time.perf_counter() - started_at)

        wall_at, cpu_at = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as nursery:
            spread = itertools.cycle(self._nodes)
            for node in itertools.islice(spread, self._settings.clients):
                nursery.start_soon(work, node)
        return {
            "seconds": seconds,
            "good": sum(good),
            "wall_s": time.perf_counter() - wall_at,
            "cpu_s": time.process_time() - cpu_at,
        }

    async def _put(self, node: opnode.OverlayNode, record: SignedRecord) -> bool:
        return bool(await node.dht.put(record))

    async def _get(self, node: opnode.OverlayNode, record: SignedRecord) -> bool:
        found = await node.dht.find_first(record.key, lambda _: True)
        return any(one.wire == record.wire for one in found)


async def _ended_well(
    call: Callable[[opnode.OverlayNode, SignedRecord], Awaitable[bool]],
    node: opnode.OverlayNode,
    record: SignedRecord,
) -> bool:
    with trio.move_on_after(OPERATION_S), contextlib.suppress(opnode.RecordNotFound):
        return await call(node, record)
    return False


def _signed(rng: random.Random, settings: Settings) -> SignedRecord:
    return build_record(
        SigningKey.from_seed(rng.randbytes(32)),
        kind=RecordKind.CLAIM,
        key=StorageKey(rng.randbytes(20)),
        seq=1,
        expires_at=int(time.time()) + RECORD_LIFE_S,  # noqa: TID251 - the world's clock
        payload=rng.randbytes(settings.value_bytes),
    )


async def serve(settings: Settings) -> None:
    """Be one server until the input ends."""
    config = opnode.NodeConfig(
        listen=LOOPBACK,
        bootstrap=_entries(settings),
        data_dir=Path(settings.data_dir),
        role=opnode.Role.SERVER,
        has_identity=False,
    )
    async with opnode.open_node(config) as node:
        await node.wait_joined()
        _say({"bootstrap": str(entry_of(node))})
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            _say({"cpu_s": time.process_time()})


async def ask(settings: Settings) -> None:
    """Be all clients: one phase for every line of input."""
    config = opnode.NodeConfig(
        listen=LOOPBACK,
        bootstrap=_entries(settings),
        role=opnode.Role.LEAF,
        has_identity=False,
    )
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(opnode.open_node(config))
            for _ in range(settings.leaves)
        ]
        for node in nodes:
            await node.wait_joined()
        client = Client(nodes, settings)
        _say({})
        while line := await trio.to_thread.run_sync(
            sys.stdin.readline, abandon_on_cancel=True
        ):
            _say(await client.do(json.loads(line)["verb"]))


def _entries(settings: Settings) -> tuple[opnode.BootstrapEntry, ...]:
    return tuple(opnode.BootstrapEntry.parse(line) for line in settings.bootstrap)


def _say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    """Serve or ask, and end with a readable account of what went wrong."""
    settings = Settings(**json.loads(sys.argv[1]))
    try:
        trio.run(serve if settings.data_dir else ask, settings)
    except BaseExceptionGroup as group:
        for leaf in leaves(group):
            traceback.print_exception(leaf)
        sys.exit(1)


if __name__ == "__main__":
    main()
