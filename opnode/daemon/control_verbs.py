"""What each control verb does with the running node.

Owns the verbs' steps and deadlines. Refuses to know sockets and JSON: it gets a request
and a client to report events to.
"""

import contextlib
import math
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import LocalProtocolError, NetworkError, PeerUnreachable
from opnode.core.ids import NodeId, PeerId, format_peer_id
from opnode.core.peerfile import PeerFile, Presence
from opnode.daemon import control_messages as messages
from opnode.daemon.address_book import AddressBook
from opnode.daemon.control_chat import ChatConversation
from opnode.daemon.control_doctor import report_findings
from opnode.daemon.control_messages import Event, Request
from opnode.daemon.control_trace import TracedTable, run_trace, target_key
from opnode.daemon.diagnosis import Examiner
from opnode.daemon.frames import HELLO, FrameStream, Hello
from opnode.daemon.peer_connections import (
    FELL_SILENT,
    NORMAL,
    PeerConnection,
    PeerConnections,
)
from opnode.daemon.plain_values import as_plain, plain_fields
from opnode.daemon.services import ECHO, Services
from opnode.daemon.transfer import FileSender, SentFile, SourceFile
from opnode.node.bootstrap import backoff_s
from opnode.version import __version__

LOST: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
"""How a connection that breaks shows itself to whoever uses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbsConfig:
    """Deadlines and limits of the verbs.

    ``lookup_s``, ``connect_s``: a person waits no longer. ``ping_s``: a round trip that
    takes longer counts as lost. ``attempts``: connections in a row on which a transfer
    may fail to move; it starts anew when one byte more arrived. ``standstill_s``: a
    transfer that moves nothing for so long asks whether the peer is there, which costs
    a packet each way; ``silence_s``: without an answer for so long the peer counts as
    gone: far beyond a round trip through full buffers, a few repeats included.
    ``reconnect_s``: first try of a broken transfer to connect again, twice as long each
    time: a peer that was started anew is found by a new lookup, not by waiting for the
    address that the last one told.
    """

    lookup_s: float = 20.0
    connect_s: float = 30.0
    ping_s: float = 5.0
    attempts: int = 8
    standstill_s: float = 1.5
    silence_s: float = 4.0
    reconnect_s: float = 4.0


class FoundPeer(Protocol):
    """What is needed of a ``PeerView``."""

    @property
    def peer_id(self) -> PeerId:
        """Whom it is about."""

    @property
    def peer_file(self) -> PeerFile | None:
        """The identity's public record, if the same node held it."""

    @property
    def presences(self) -> tuple[Presence, ...]:
        """The devices that can be reached now."""


class NodeStatistics(Protocol):
    """What is needed of the node's statistics, a dataclass of any fields."""

    @property
    def peer_id(self) -> PeerId | None:
        """The identity that lives at the node; a seed has none."""


class ControlledNode(Protocol):
    """What is needed of ``OverlayNode``."""

    @property
    def node_id(self) -> NodeId:
        """The node's place in the DHT."""

    @property
    def endpoint(self) -> Endpoint:
        """Where others reach it."""

    @property
    def checkup(self) -> Examiner:
        """What the node asks others about itself."""

    @property
    def dht(self) -> TracedTable:
        """The node's part in the DHT."""

    def invite(self) -> str | None:
        """The line by which others join through it; a leaf has none."""

    async def lookup(self, peer_id: PeerId) -> FoundPeer:
        """Find a peer."""

    async def wait_evidence(self) -> None:
        """Wait until it was tried whether strangers reach the node."""

    def statistics(self) -> NodeStatistics:
        """The node at this instant."""


class Client(Protocol):
    """The terminal on the other end of the control socket."""

    async def send(self, event: Event) -> None:
        """Report an event."""

    async def receive(self) -> Request:
        """Wait for a line that follows the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """The parts of the running node that verbs work on.

    ``connections`` and ``services`` are ``None`` at a seed, which has no identity.
    ``records`` is the file of records, ``None`` in memory.
    """

    node: ControlledNode
    book: AddressBook
    connections: PeerConnections | None
    services: Services | None
    stop: Callable[[], None]
    rng: random.Random
    records: Path | None = None


class Verbs:
    """The verbs of one running node."""

    def __init__(self, daemon: Daemon, config: VerbsConfig | None = None) -> None:
        """Nothing happens before a request comes."""
        self._daemon = daemon
        self._config = config or VerbsConfig()
        self._started_at = trio.current_time()

    async def run(self, request: Request, client: Client) -> None:
        """Do what ``request`` asks; its events go to ``client``.

        Raises:
            OpnodeError: it failed, and why.
            trio.TooSlowError: the peer or the network took too long.
            trio.BrokenResourceError: the connection to the peer broke.
        """
        match request:
            case messages.Id():
                await client.send(self._identity())
            case messages.Status():
                await client.send(self._status())
            case messages.Trace():
                await self._trace(request, client)
            case messages.Doctor():
                await self._diagnose(client)
            case messages.Stop():
                # Said first: stopping cuts this conversation off, too.
                await client.send(messages.Done())
                self._daemon.stop()
            case messages.Say() | messages.MarkShown():
                text = "found a chat line, expected a verb first"
                raise messages.RequestError("MalformedRequest", text)
            case messages.AddContact() | messages.RemoveContact():
                await client.send(self._change_contacts(request))
            case messages.ListContacts():
                for entry in self._daemon.book.petnames():
                    peer_id = format_peer_id(entry.peer_id)
                    contact = messages.ContactEntry(name=entry.name, peer_id=peer_id)
                    await client.send(contact)
            case _:
                await self._talk(request, client)

    async def _talk(
        self,
        request: messages.Lookup
        | messages.Ping
        | messages.HangUp
        | messages.Send
        | messages.Chat,
        client: Client,
    ) -> None:
        peer_id = self._daemon.book.resolve(request.peer)
        match request:
            case messages.HangUp():
                ended = self._connections.hang_up(peer_id)
                await client.send(messages.HungUp(connections=ended))
            case messages.Lookup():
                await self._lookup(peer_id, client)
            case messages.Ping():
                await self._ping(peer_id, request, client)
            case messages.Send():
                await self._send(peer_id, request, client)
            case messages.Chat():
                await self._chat(peer_id, client)

    def _identity(self) -> messages.Identity:
        node = self._daemon.node
        return messages.Identity(
            peer_id=self._own_peer_id(),
            node_id=node.node_id.hex(),
            endpoint=str(node.endpoint),
            invite=node.invite(),
        )

    def _status(self) -> messages.StatusReport:
        daemon = self._daemon
        served = daemon.services.statistics() if daemon.services else None
        live = daemon.connections.connections() if daemon.connections else ()
        return messages.StatusReport(
            version=__version__,
            peer_id=self._own_peer_id(),
            uptime_s=round(trio.current_time() - self._started_at, 3),
            connections=[self._connection_row(connection) for connection in live],
            node=plain_fields(daemon.node.statistics()),
            services=plain_fields(served) if served else {},
        )

    def _own_peer_id(self) -> str | None:
        peer_id = self._daemon.node.statistics().peer_id
        return None if peer_id is None else format_peer_id(peer_id)

    def _connection_row(self, connection: PeerConnection) -> dict[str, object]:
        return {
            "peer_id": format_peer_id(connection.peer_id),
            "name": self._daemon.book.name_of(connection.peer_id),
            "path": connection.path.kind.value if connection.path else None,
            "endpoint": str(connection.path.leads_by) if connection.path else None,
            "carried": {
                kind.value: {"sent": carried.sent, "received": carried.received}
                for kind, carried in connection.bytes_by_kind().items()
            },
            "transport": as_plain(connection.statistics()),
        }

    def _change_contacts(
        self, request: messages.AddContact | messages.RemoveContact
    ) -> messages.ContactEntry:
        book = self._daemon.book
        if isinstance(request, messages.AddContact):
            changed = book.add(request.name, book.resolve(request.peer))
        else:
            changed = book.remove(request.name)
        peer_id = format_peer_id(changed.peer_id)
        return messages.ContactEntry(name=changed.name, peer_id=peer_id)

    async def _lookup(self, peer_id: PeerId, client: Client) -> None:
        started_at = trio.current_time()
        with trio.fail_after(self._config.lookup_s):
            view = await self._daemon.node.lookup(peer_id)
        found = self._peer_found(view, trio.current_time() - started_at)
        await client.send(found)

    async def _trace(self, request: messages.Trace, client: Client) -> None:
        key = target_key(request.target, self._daemon.book)
        await run_trace(self._daemon.node.dht, key, client, nodes=request.nodes)

    async def _diagnose(self, client: Client) -> None:
        await report_findings(self._daemon.node, self._daemon.records, client.send)

    def _peer_found(self, view: FoundPeer, lookup_s: float) -> messages.PeerFound:
        locations = [
            messages.LocationFound(
                name=presence.certificate.name,
                introducers=[str(entry.endpoint) for entry in presence.introducers],
                certified_until=presence.certificate.expires_at,
            )
            for presence in view.presences
        ]
        peer_file = view.peer_file
        return messages.PeerFound(
            peer_id=format_peer_id(view.peer_id),
            name=self._daemon.book.name_of(view.peer_id),
            lookup_ms=milliseconds(lookup_s),
            created_at=peer_file.created_at if peer_file else None,
            expires_at=peer_file.expires_at if peer_file else None,
            locations=locations,
        )

    async def _ping(
        self, peer_id: PeerId, request: messages.Ping, client: Client
    ) -> None:
        started_at = trio.current_time()
        live = self._connections.connections()
        async with self._borrow(peer_id) as connection:
            with trio.fail_after(self._config.ping_s):
                await echo_one_byte(connection)
            first_byte_s = trio.current_time() - started_at
            reused = connection in live
            await client.send(
                connected(connection, reused=reused, first_byte_s=first_byte_s)
            )
            lost = 0
            for number in range(1, request.count + 1):
                if number > 1:
                    await trio.sleep(request.interval_s)
                lost += await self._round_trip(number, connection, client)
        if request.count and lost == request.count:
            raise PeerUnreachable(f"none of {lost} pings came back")

    async def _round_trip(
        self, number: int, connection: PeerConnection, client: Client
    ) -> int:
        """Measure one ping; returns how many were lost, 0 or 1."""
        took_s = math.inf
        with trio.move_on_after(self._config.ping_s):
            took_s = await connection.ping()
        is_lost = took_s == math.inf
        ms = None if is_lost else milliseconds(took_s)
        await client.send(messages.RoundTrip(number=number, ms=ms))
        return int(is_lost)

    async def _send(
        self, peer_id: PeerId, request: messages.Send, client: Client
    ) -> None:
        path = Path(request.path)
        source = await trio.to_thread.run_sync(SourceFile.inspect, path)
        started_at = trio.current_time()
        sent = await self._send_until_done(peer_id, source, request.report_s, client)
        await client.send(
            messages.Sent(
                name=sent.name,
                size=sent.size,
                resumed_at=sent.offset,
                seconds=round(trio.current_time() - started_at, 6),
                sha256=sent.sha256.hex(),
            )
        )

    async def _send_until_done(
        self, peer_id: PeerId, source: SourceFile, report_s: float, client: Client
    ) -> SentFile:
        """Send, and go on over a new connection whenever one breaks."""
        farthest, failures, has_begun = 0, 0, False
        while True:
            meter = _Meter(source.size, report_s)
            limit_s = self._connect_limit_s(failures)
            live = self._connections.connections()
            try:
                async with self._borrow(peer_id, limit_s) as connection:
                    await client.send(connected(connection, reused=connection in live))
                    return await self._send_once(connection, source, meter, client)
            except (*LOST, NetworkError) as error:
                has_begun = has_begun or meter.has_begun
                if not has_begun:
                    raise
                if meter.done > farthest:
                    farthest, failures = meter.done, 0
                failures += 1
                if failures > self._config.attempts:
                    raise
                wait_s = backoff_s(failures - 1, self._daemon.rng)
                reason = describe(error)
                again = messages.Interrupted(reason=reason, retry_in_s=round(wait_s, 3))
            await client.send(again)
            await trio.sleep(wait_s)

    def _connect_limit_s(self, failures: int) -> float:
        """How long a transfer that broke ``failures`` times in a row may connect."""
        if not failures:
            return self._config.connect_s
        limit_s = self._config.reconnect_s * 2.0 ** (failures - 1)
        return min(self._config.connect_s, limit_s)

    async def _send_once(
        self,
        connection: PeerConnection,
        source: SourceFile,
        meter: "_Meter",
        client: Client,
    ) -> SentFile:
        channel = await connection.open_channel()
        sender = FileSender(channel, source, progress=meter.report)
        outcome: SentFile | Exception
        async with channel, trio.open_nursery() as nursery:
            nursery.start_soon(meter.run, client)
            nursery.start_soon(self._watch_standstill, connection, meter)
            try:
                outcome = await sender.run()
            except Exception as error:  # noqa: BLE001 - raised again below, unwrapped
                outcome = error
            nursery.cancel_scope.cancel()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _watch_standstill(
        self, connection: PeerConnection, meter: "_Meter"
    ) -> None:
        """Close a connection whose peer is gone, so that the transfer can go on.

        A peer that lost power is noticed by the connection after its idle time, a
        minute and more. A slow disk or an undecided user also stands still, but pings
        come back then.
        """
        heard_at = trio.current_time()
        while True:
            ask_at = max(meter.moved_at, heard_at) + self._config.standstill_s
            if ask_at > trio.current_time():
                await trio.sleep_until(ask_at)
                continue
            with trio.move_on_after(self._config.silence_s) as waiting:
                with contextlib.suppress(*LOST):
                    await connection.ping()
            if waiting.cancelled_caught:
                connection.close(NORMAL, FELL_SILENT)
                return
            heard_at = trio.current_time()

    async def _chat(self, peer_id: PeerId, client: Client) -> None:
        services = self._daemon.services
        if services is None:
            raise _seed_error()
        conversation = ChatConversation(
            peer_id, self._connections, services.chat_desk, client
        )
        await conversation.run(self._daemon.book.name_of(peer_id))

    @property
    def _connections(self) -> PeerConnections:
        if self._daemon.connections is None:
            raise _seed_error()
        return self._daemon.connections

    @asynccontextmanager
    async def _borrow(
        self, peer_id: PeerId, limit_s: float | None = None
    ) -> AsyncGenerator[PeerConnection, None]:
        with trio.fail_after(limit_s or self._config.connect_s) as deadline:
            async with self._connections.borrow(peer_id) as connection:
                # The deadline is for connecting, not for what follows.
                deadline.deadline = math.inf
                yield connection


class _Meter:
    """Turns a callback after each block into a few events a second."""

    def __init__(self, size: int, every_s: float) -> None:
        self.done = 0
        self.moved_at = trio.current_time()
        self._every_s = every_s
        self.has_begun = False
        self._size = size
        self._reported = -1

    def report(self, done: int, size: int) -> None:
        """Remember how far the transfer is."""
        self.has_begun = True
        self.moved_at = trio.current_time()
        self.done, self._size = done, size

    async def run(self, client: Client) -> None:
        """Report what changed until cancelled."""
        while True:
            if self.has_begun and self.done != self._reported:
                self._reported = self.done
                progress = messages.TransferProgress(done=self.done, size=self._size)
                await client.send(progress)
            await trio.sleep(self._every_s)


async def echo_one_byte(connection: PeerConnection) -> None:
    """Send a byte through the peer's echo service and wait until it comes back.

    Raises:
        PeerUnreachable: the peer does not serve it.
    """
    async with await connection.open_channel() as channel:
        frames = FrameStream(channel, HELLO)
        # In one write, so that the byte travels in the first packet.
        await frames.send(Hello(ECHO), raw=b"\xff")
        first = await frames.receive_raw(1)
        if first != b"\xff":
            raise PeerUnreachable("the peer did not echo what was sent")


def connected(
    connection: PeerConnection, *, reused: bool, first_byte_s: float | None = None
) -> messages.Connected:
    """Describe a connection: its path and what making it took, if that was now."""
    path = connection.path
    timings = None if reused else connection.timings
    first_byte_ms = None if first_byte_s is None else milliseconds(first_byte_s)
    return messages.Connected(
        peer_id=format_peer_id(connection.peer_id),
        path=path.kind.value if path else "none",
        endpoint=str(path.leads_by) if path else "",
        reused=reused,
        lookup_ms=milliseconds(timings.lookup_s) if timings else None,
        introduce_ms=milliseconds(timings.introduce_s) if timings else None,
        ice_ms=milliseconds(timings.ice_s) if timings else None,
        first_byte_ms=first_byte_ms,
    )


def describe(error: BaseException) -> str:
    """One line for people about an error that may have no text."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    return str(error) or type(error).__name__


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def _seed_error() -> LocalProtocolError:
    return LocalProtocolError("this node is a seed: it has no identity to talk as")
