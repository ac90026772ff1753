"""Real `opnode` processes on the hosts of a lab.

Owns their start, their end and the questions put to them over their control sockets,
which network namespaces do not separate. Refuses to know NATs.
"""

import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from opnode.cli.client import open_client
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import Event, LineReader, Request
from simulations.natlab.lab import Lab
from simulations.natlab.namespaces import LabFailed

SEED_PORT: Final = 4848
WEBSOCKET_PORT: Final = 8443
LEAVE_S: Final = 2.0
"""What a process gets to leave the network before it is killed."""

LOG_TAIL: Final = 2000
_ROOT: Final = Path(__file__).parents[2]
_EVENTS: Final = msgspec.json.Decoder(dict[str, object])

Fields = Mapping[str, object]
Wanted = TypeVar("Wanted", bound=Event)


class LabNode:
    """One running `opnode up` or `opnode seed`, and what it has reported."""

    def __init__(self, lab: Lab, host: str, directory: Path) -> None:
        """Nothing runs before ``start``."""
        self.lab = lab
        self.host = host
        self.data = directory / host
        self._log = directory / f"{host}.log"
        self._process: trio.Process | None = None
        self._events: list[Fields] = []
        self._heard_at: list[float] = []
        self._changed = trio.Event()
        self._has_ended = False

    @property
    def peer_id(self) -> str:
        """Whom others call; a seed is nobody."""
        return str(self.first("started")["peer_id"])

    @property
    def invite(self) -> str:
        """How others join through it."""
        return str(self.first("ready")["invite"])

    @property
    def is_ready(self) -> bool:
        """Whether it has joined and can be found."""
        return any(event["event"] == "ready" for event in self._events)

    def first(self, name: str) -> Fields:
        """The first event of a name.

        Raises:
            LabFailed: there was none yet.
        """
        for event in self._events:
            if event["event"] == name:
                return event
        raise LabFailed(f"{self.host} has not said {name}: {self.log()}")

    def log(self) -> str:
        """The end of what it wrote to standard error."""
        return self._log.read_text("utf-8", "replace")[-LOG_TAIL:]

    async def start(self, nursery: trio.Nursery, *arguments: str) -> None:
        """Start it; it is ended when the nursery is."""
        options = ("--json", "--verbose", "--data", str(self.data))
        words = [sys.executable, "-m", "opnode", *arguments, *options]
        log = await trio.to_thread.run_sync(self._log.open, "ab")
        with log:
            self._process = await nursery.start(
                partial(
                    trio.run_process,
                    self.lab.command(self.host, *words),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    check=False,
                    cwd=_ROOT,
                    deliver_cancel=_end,
                )
            )
        self._has_ended = False
        nursery.start_soon(self._read)

    def times(self, name: str) -> list[float]:
        """When each event of a name was heard, in seconds of trio's clock."""
        heard = zip(self._heard_at, self._events, strict=True)
        return [at for at, event in heard if event["event"] == name]

    async def wait_event(
        self, name: str, fits: Callable[[Fields], bool] = lambda _: True
    ) -> Fields:
        """Wait for an event of that name that fits, or take the first there was.

        Raises:
            LabFailed: the process ended before; tells what it wrote to its log.
        """
        while True:
            for event in self._events:
                if event["event"] == name and fits(event):
                    return event
            if self._has_ended:
                raise LabFailed(f"{self.host} ended before {name}: {self.log()}")
            await self._changed.wait()

    async def end(self, *, politely: bool = True) -> None:
        """End it, like Ctrl-C or like a power cut, and wait until it is gone."""
        assert self._process is not None
        if politely:
            self._process.terminate()
        else:
            self._process.kill()
        await self._process.wait()

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        """Put a question and follow its answers; use with ``aclosing``.

        Raises:
            VerbFailed: the node could not do it.
        """
        async with open_client(self.data) as client:
            async for event in client.events(request):
                yield event

    async def ask(self, request: Request, kind: type[Wanted]) -> Wanted:
        """Put one question; returns the first answer of a type, once it has ended.

        Raises:
            VerbFailed: the node could not do it.
            LabFailed: it did, but told no such thing.
        """
        async with open_client(self.data) as client:
            events = client.events(request)
            found = [event async for event in events if isinstance(event, kind)]
        if not found:
            raise LabFailed(f"{self.host} answered without {kind.__name__}")
        return found[0]

    async def connect(self, peer: "LabNode") -> messages.Connected:
        """Connect to another node, or use the connection that is there.

        Raises:
            VerbFailed: it cannot be reached.
        """
        request = messages.Ping(peer=peer.peer_id, count=0)
        return await self.ask(request, messages.Connected)

    async def hang_up(self, peer: "LabNode") -> None:
        """End the connections to another node."""
        await self.ask(messages.HangUp(peer=peer.peer_id), messages.HungUp)

    async def send(self, peer: "LabNode", path: Path) -> messages.Sent:
        """Send a file.

        Raises:
            VerbFailed: it did not arrive.
        """
        request = messages.Send(peer=peer.peer_id, path=str(path))
        return await self.ask(request, messages.Sent)

    async def add_contact(self, name: str, peer: "LabNode") -> None:
        """Give a peer a name; its files are taken from then on."""
        request = messages.AddContact(name=name, peer=peer.peer_id)
        await self.ask(request, messages.ContactEntry)

    async def status(self) -> messages.StatusReport:
        """Every counter of the node."""
        return await self.ask(messages.Status(), messages.StatusReport)

    async def connection_to(self, peer: "LabNode") -> Fields | None:
        """What ``status`` shows of the connection to a peer."""
        for row in (await self.status()).connections:
            if row["peer_id"] == peer.peer_id:
                return row
        return None

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        lines = LineReader(self._process.stdout)
        while (line := await lines.receive_line_untrusted()) is not None:
            self._events.append(_EVENTS.decode(line))
            self._heard_at.append(trio.current_time())
            self._notice()
        self._has_ended = True
        self._notice()

    def _notice(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _end(process: trio.Process) -> None:
    process.terminate()
    with trio.move_on_after(LEAVE_S):
        await process.wait()
        return
    process.kill()


class LabNetwork:
    """The nodes of one overlay network in a lab."""

    def __init__(self, lab: Lab, directory: Path, nursery: trio.Nursery) -> None:
        """Use ``open_network``."""
        self.lab = lab
        self.nodes: dict[str, LabNode] = {}
        self._directory = directory
        self._nursery = nursery
        self._seeds: list[LabNode] = []

    async def start_seed(self, host: str, *options: str) -> LabNode:
        """Start a node that others join through, and wait until it is ready."""
        where = f"{self.lab.address(host)}:{SEED_PORT}"
        node = await self._start(host, "seed", "--listen", where, *options)
        await node.wait_event("ready")
        self._seeds.append(node)
        return node

    def relaying(self, host: str) -> tuple[str, ...]:
        """What to start a seed with that helps whoever finds no direct path."""
        where = f"{self.lab.address(host)}:{WEBSOCKET_PORT}"
        return ("--relay", "--websocket", where)

    async def start_up(self, host: str, *options: str) -> LabNode:
        """Start somebody's node; ``ready`` is not waited for."""
        return await self._start(host, "up", "--accept", "contacts", *options)

    async def run_beside(self, place: str, *words: str) -> None:
        """Run another program on a host or a NAT as long as the network lasts."""
        log = await trio.to_thread.run_sync(
            (self._directory / f"{place}.out").open, "ab"
        )
        with log:
            await self._nursery.start(
                partial(
                    trio.run_process,
                    self.lab.command(place, *words),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    check=False,
                    deliver_cancel=_end,
                )
            )

    async def wait_ready(self, limit_s: float) -> list[str]:
        """Wait for all nodes; returns the hosts of those that are not ready in time."""
        with trio.move_on_after(limit_s):
            for node in self.nodes.values():
                await node.wait_event("ready")
        return [host for host, node in self.nodes.items() if not node.is_ready]

    def invites(self) -> list[str]:
        """How to join through each seed that was started."""
        return [f"--bootstrap={node.invite}" for node in self._seeds]

    async def _start(self, host: str, verb: str, *options: str) -> LabNode:
        node = LabNode(self.lab, host, self._directory)
        await node.start(self._nursery, verb, *self.invites(), *options)
        self.nodes[host] = node
        return node


@asynccontextmanager
async def open_network(lab: Lab, directory: Path) -> AsyncGenerator[LabNetwork, None]:
    """Run nodes in a lab; those still running at the end are ended."""
    async with trio.open_nursery() as nursery:
        yield LabNetwork(lab, directory, nursery)
        nursery.cancel_scope.cancel()
