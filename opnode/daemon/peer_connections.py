"""Peer connections: one live connection per peer, shared by whatever needs it.

Owns the life of connections: opening on demand, serving the channels that peers open,
closing what nobody uses. Refuses to know what runs in a channel.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import trio

from opnode.core.ids import PeerId, short
from opnode.drivers.beginnings import ConnectTimings
from opnode.drivers.connection_paths import Path, PathBytes, PathKind

logger = logging.getLogger(__name__)

NORMAL: Final = 0
"""The close code of an end that is nobody's fault against the protocol."""

FELL_SILENT: Final = "the peer fell silent"
HUNG_UP: Final = "hung up"


class PeerConnection(Protocol):
    """What is needed of ``opnode.drivers.connections.Connection``."""

    timings: ConnectTimings | None

    @property
    def closed(self) -> trio.Event:
        """Set when the connection has ended."""
        ...

    @property
    def peer_id(self) -> PeerId:
        """Whom we talk to."""

    @property
    def path(self) -> Path | None:
        """The way that datagrams take now."""

    def bytes_by_kind(self) -> Mapping[PathKind, PathBytes]:
        """What each kind of path carried."""
        ...

    async def open_channel(self) -> trio.abc.HalfCloseableStream:
        """Open a channel."""

    async def accept_channel(self) -> trio.abc.HalfCloseableStream:
        """Wait for a channel of the peer."""

    async def ping(self) -> float:
        """Measure a round trip, in seconds."""

    def close(self, code: int, reason: str) -> None:
        """End it now; both sides see the reason. Safe to call more than once."""

    def statistics(self) -> object:
        """Counters of the transport."""


class Connector(Protocol):
    """What is needed of ``OverlayNode``."""

    async def connect(self, peer_id: PeerId) -> PeerConnection:
        """Open a new connection."""

    async def accept_connection(self) -> PeerConnection:
        """Wait for a connection that a peer opened."""


ServeChannel: TypeAlias = Callable[
    [PeerId, trio.abc.HalfCloseableStream], Awaitable[None]
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnectionsConfig:
    """Limits of sharing.

    ``linger_s``: how long a connection that we opened stays without use: the next verb
    of a person follows within that time, and an idle connection costs keep-alives.
    ``doubt_s``: a connection silent for longer is asked before it is used again, since
    a peer that lost power says no good-bye; ``probe_s``: how long it has to answer:
    where UDP stops to pass, a WebSocket and a relay take over within two seconds, and
    the connection goes on.
    ``max_channels``: channels that one peer may have served at once.
    ``max_links``: connections served at once.
    """

    linger_s: float = 30.0
    doubt_s: float = 5.0
    probe_s: float = 3.0
    max_channels: int = 32
    max_links: int = 1024


class Link:
    """One connection, and how much it is used."""

    def __init__(self, connection: PeerConnection, *, is_ours: bool) -> None:
        self.connection = connection
        self.is_ours = is_ours
        self.users = 0
        self.used_at = trio.current_time()

    @property
    def is_alive(self) -> bool:
        """Whether the connection has not ended, as far as we know."""
        return not self.connection.closed.is_set()

    def take(self) -> None:
        """Count one more user."""
        self.users += 1

    def give_back(self) -> None:
        """Count one user less."""
        self.users -= 1
        self.used_at = trio.current_time()


class PeerConnections:
    """The live connections of one node, by peer."""

    def __init__(
        self,
        node: Connector,
        serve_channel: ServeChannel,
        config: PeerConnectionsConfig | None = None,
    ) -> None:
        """``serve_channel`` gets each channel that a peer opens; it must not raise."""
        self._node = node
        self._serve_channel = serve_channel
        self._config = config or PeerConnectionsConfig()
        self._links: dict[PeerId, list[Link]] = {}
        self._locks: dict[PeerId, trio.Lock] = {}
        self._fresh = trio.open_memory_channel[Link](self._config.max_links)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve connections, opened here or there, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept)
            nursery.start_soon(self._close_unused)
            task_status.started()
            async for link in self._fresh[1]:
                nursery.start_soon(self._serve_link, link)

    @asynccontextmanager
    async def borrow(self, peer_id: PeerId) -> AsyncGenerator[PeerConnection, None]:
        """Use a connection to a peer, a live one or a new one.

        Raises:
            NetworkError: the peer cannot be found or reached.
        """
        link = await self._live_link(peer_id)
        link.take()
        try:
            yield link.connection
        finally:
            link.give_back()

    def connections(self) -> tuple[PeerConnection, ...]:
        """All connections that have not ended."""
        links = [link for links in self._links.values() for link in links]
        return tuple(link.connection for link in links if link.is_alive)

    def hang_up(self, peer_id: PeerId) -> int:
        """End the connections to a peer, whoever uses them; returns how many."""
        live = [link for link in self._links.get(peer_id, ()) if link.is_alive]
        for link in live:
            link.connection.close(NORMAL, HUNG_UP)
        return len(live)

    async def _live_link(self, peer_id: PeerId) -> Link:
        lock = self._locks.setdefault(peer_id, trio.Lock())
        try:
            async with lock:
                link = await self._usable_link(peer_id)
                if link is None:
                    connection = await self._node.connect(peer_id)
                    link = await self._enter(connection, is_ours=True)
                return link
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(peer_id, None)

    async def _usable_link(self, peer_id: PeerId) -> Link | None:
        for link in reversed(self._links.get(peer_id, [])):
            if link.is_alive and await self._answers(link):
                return link
        return None

    async def _answers(self, link: Link) -> bool:
        if trio.current_time() - link.used_at < self._config.doubt_s:
            return True
        try:
            with trio.fail_after(self._config.probe_s):
                await link.connection.ping()
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            link.connection.close(NORMAL, FELL_SILENT)
            return False
        return True

    async def _enter(self, connection: PeerConnection, *, is_ours: bool) -> Link:
        """Serve a connection; one that both ``connect`` and ``accept`` gave, once."""
        links = self._links.setdefault(connection.peer_id, [])
        for known in links:
            if known.connection is connection:
                return known
        link = Link(connection, is_ours=is_ours)
        links.append(link)
        await self._fresh[0].send(link)
        return link

    async def _accept(self) -> None:
        while True:
            connection = await self._node.accept_connection()
            if sum(map(len, self._links.values())) >= self._config.max_links:
                logger.warning("%s refused: too many", short(connection.peer_id))
                connection.close(NORMAL, "too many connections")
                continue
            await self._enter(connection, is_ours=False)

    async def _serve_link(self, link: Link) -> None:
        peer_id = link.connection.peer_id
        try:
            async with trio.open_nursery() as nursery:
                await self._accept_channels(link, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._links[peer_id].remove(link)
            if not self._links[peer_id]:
                del self._links[peer_id]

    async def _accept_channels(self, link: Link, nursery: trio.Nursery) -> None:
        while True:
            try:
                channel = await link.connection.accept_channel()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if len(nursery.child_tasks) >= self._config.max_channels:
                await channel.aclose()
                continue
            link.take()
            nursery.start_soon(self._serve_one, link, channel)

    async def _serve_one(
        self, link: Link, channel: trio.abc.HalfCloseableStream
    ) -> None:
        try:
            async with channel:
                await self._serve_channel(link.connection.peer_id, channel)
        finally:
            link.give_back()

    async def _close_unused(self) -> None:
        while True:
            await trio.sleep(self._config.linger_s / 2)
            limit = trio.current_time() - self._config.linger_s
            for links in list(self._links.values()):
                for link in links:
                    if link.is_ours and not link.users and link.used_at <= limit:
                        link.connection.close(NORMAL, "not used any more")
