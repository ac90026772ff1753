"""The TURN servers that the user gave: one allocation, kept ready on one of them.

Owns the choice of the server, the attempts after a failure, and who may use the
relayed address. Refuses to know the protocol with the server (`turn_allocation.py`)
and how a connection chooses among its paths.

The allocation is made when the node starts and kept, because a call must not wait for
it: making one takes two round trips to the server, as long as the rest of the call.
It costs 2 packets in 25 s, and nothing where no server was given.
"""

import contextlib
import enum
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from opnode.core.addresses import Candidate, Endpoint, reaches
from opnode.core.crypto import random_bytes as system_random_bytes
from opnode.core.errors import NetworkError, RelayUnavailable
from opnode.drivers.asyncio_island import Island
from opnode.drivers.network.network import Buffer, Network
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.turn.allocation import (
    Allocation,
    AllocationStatistics,
    RandomBytes,
    TurnConfig,
    TurnCredentials,
)
from opnode.drivers.turn.stream import ConnectStream, TurnStream, connect_stream

_log = logging.getLogger(__name__)

_NAMED: Final = 2
"""Addresses of a peer that are tried through our own allocation: its relayed one, and
the one that it is seen at. Each is one more path that the connection checks."""


class TurnTransport(enum.Enum):
    """How we talk to a TURN server."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnServer:
    """A server that the user may use."""

    host: str
    port: int
    transport: TurnTransport
    username: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        """The server as its URL (RFC 7065)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"turn:{host}:{self.port}?transport={self.transport.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnServerStatus:
    """What is known of one server; the reason says why it does not serve us."""

    url: str
    is_in_use: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStatistics:
    """What the servers do for us."""

    servers: tuple[TurnServerStatus, ...]
    ways: int
    allocation: AllocationStatistics | None


class TurnClient:
    """Keeps one relayed address, on the first server that gives one."""

    def __init__(  # noqa: PLR0913 - what stands between the servers and the hub
        self,
        hub: SocketHub,
        island: Island,
        network: Network,
        servers: Sequence[TurnServer],
        *,
        config: TurnConfig | None = None,
        random_bytes: RandomBytes = system_random_bytes,
        connect: ConnectStream = connect_stream,
    ) -> None:
        self._hub = hub
        self._island = island
        self._network = network
        self._servers = tuple(servers)
        self._config = config or TurnConfig()
        self._random_bytes = random_bytes
        self._connect = connect
        self._allocation: Allocation | None = None
        self._in_use: TurnServer | None = None
        self._reasons: dict[TurnServer, str] = {}
        self._ways: set[TurnWay] = set()
        self._changed = trio.Event()

    @property
    def relayed(self) -> Endpoint | None:
        """Where peers reach us through a server now."""
        return self._allocation.relayed if self._allocation is not None else None

    async def wait_changed(self) -> None:
        """Wait until the relayed address is another one, or gone."""
        await self._changed.wait()

    async def leave(self) -> None:
        """Give the address back before the node stops; the caller bounds the time."""
        if self._allocation is not None:
            await self._allocation.release()

    async def run(self) -> None:
        """Keep an allocation, until cancelled; without a server there is none."""
        if not self._servers:
            return
        async with trio.open_nursery() as nursery:
            await self._keep(nursery)

    async def _keep(self, nursery: trio.Nursery) -> None:
        config = self._config
        wait_s = config.min_retry_s
        while True:
            started_at = trio.current_time()
            for server in self._servers:
                await self._use(server, nursery)
            if trio.current_time() - started_at > config.max_retry_s:
                # One of them served for long, so this failure is a new one.
                wait_s = config.min_retry_s
            await trio.sleep(wait_s)
            wait_s = min(2 * wait_s, config.max_retry_s)

    def open_way(self, candidates: Iterable[Candidate]) -> "TurnWay":
        """Let a peer at these addresses through to us, until the way is closed."""
        way = TurnWay(self, candidates)
        self._ways.add(way)
        if self._allocation is not None:
            way.enter(self._allocation)
        return way

    def forget(self, way: "TurnWay") -> None:
        """Forget a way; its peer may be somebody else's still."""
        self._ways.discard(way)

    def statistics(self) -> TurnStatistics:
        """Read what became of the servers."""
        return TurnStatistics(
            servers=tuple(
                TurnServerStatus(
                    url=str(server),
                    is_in_use=server is self._in_use,
                    reason=self._reasons.get(server),
                )
                for server in self._servers
            ),
            ways=len(self._ways),
            allocation=self._allocation.statistics() if self._allocation else None,
        )

    async def _use(self, server: TurnServer, nursery: trio.Nursery) -> None:
        """Use a server for as long as it serves us, and once more if it did for long.

        Whoever was started anew has forgotten us, and serves again at once.
        """
        started_at = trio.current_time()
        await self._try(server, nursery)
        if trio.current_time() - started_at > self._config.refresh_s:
            await self._try(server, nursery)

    def _tell_changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _try(self, server: TurnServer, nursery: trio.Nursery) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                with trio.fail_after(2 * self._config.request_s):
                    endpoint = await self._resolve(server)
                    stream = await self._open_stream(server, endpoint)
                if stream is not None:
                    await stack.enter_async_context(stream)
                link = _Link(self._hub, endpoint)
                allocation = self._new_allocation(server, endpoint, link)
                async with link.connected(allocation, stream, nursery):
                    await allocation.open()
                    await self._hold(server, allocation)
        except (RelayUnavailable, trio.TooSlowError) as failure:
            reason = str(failure) or "the TURN server does not answer"
            if self._reasons.get(server) != reason:
                _log.warning("%s: %s", server, reason)
            self._reasons[server] = reason

    async def _resolve(self, server: TurnServer) -> Endpoint:
        """The server's address, of a family that our socket speaks.

        Raises:
            RelayUnavailable: its name has none.
        """
        try:
            found = await self._network.resolve(server.host, server.port)
        except NetworkError as failure:
            raise RelayUnavailable(f"its name does not resolve: {failure}") from None
        is_tcp = server.transport is TurnTransport.TCP
        for endpoint in found:
            if is_tcp or reaches(self._hub.local.host, endpoint.host):
                return endpoint
        raise RelayUnavailable(f"{found[0]} is of another family than our socket")

    async def _open_stream(
        self, server: TurnServer, endpoint: Endpoint
    ) -> trio.abc.Stream | None:
        if server.transport is TurnTransport.UDP:
            return None
        try:
            return await self._connect(endpoint)
        except OSError as error:
            raise RelayUnavailable(f"no TCP connection: {error}") from None

    def _new_allocation(
        self, server: TurnServer, endpoint: Endpoint, link: "_Link"
    ) -> Allocation:
        return Allocation(
            self._hub,
            self._island,
            link,
            endpoint,
            TurnCredentials(server.username, server.password),
            config=self._config,
            random_bytes=self._random_bytes,
        )

    async def _hold(self, server: TurnServer, allocation: Allocation) -> None:
        """Tell of an allocation and keep it.

        Raises:
            RelayUnavailable: it is lost.
        """
        self._allocation, self._in_use = allocation, server
        self._reasons.pop(server, None)
        for way in self._ways:
            way.enter(allocation)
        self._tell_changed()
        _log.info("%s gives us %s", server, allocation.relayed)
        try:
            await allocation.run()
        finally:
            self._allocation = self._in_use = None
            for way in self._ways:
                way.exit()
            allocation.close()
            self._tell_changed()


_MAX_TOLD: Final = 32
"""Hosts and addresses that one peer can make us remember: some signals' worth, and half
of the permissions that all peers share."""


class TurnWay:
    """What one peer may use of our allocation, and where to reach it by TURN.

    It outlives the allocation: the next one is entered as well.
    """

    def __init__(self, client: TurnClient, candidates: Iterable[Candidate]) -> None:
        """``candidates`` are the peer's, who wrote them."""
        self._client = client
        self._hosts: list[str] = []
        self._permitted: list[str] = []
        self._relayed: list[Endpoint] = []
        self._seen: list[Endpoint] = []
        self._allocation: Allocation | None = None
        self.add(candidates)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Let the peer through from these addresses, too."""
        for candidate in candidates:
            host = candidate.endpoint.host
            if host not in self._hosts and len(self._hosts) < _MAX_TOLD:
                self._hosts.append(host)
                self._permit(host)
            known = {"relay": self._relayed, "srflx": self._seen}.get(candidate.kind)
            is_new = known is not None and candidate.endpoint not in known
            if known is not None and is_new and len(known) < _MAX_TOLD:
                known.append(candidate.endpoint)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where to send to reach the peer by TURN: by its server, then by ours.

        What leads through ours are names of the hub's; they change with the allocation.
        """
        named: list[Endpoint] = []
        if self._allocation is not None:
            own = self._allocation
            through = [
                endpoint
                for endpoint in (*self._relayed[:1], *self._seen[:1])
                if reaches(own.relayed.host, endpoint.host)
            ]
            named = [own.name_of(endpoint) for endpoint in through[:_NAMED]]
        return (*self._relayed[:1], *named)

    def close(self) -> None:
        """Let the peer through no longer; idempotent."""
        self.exit()
        self._client.forget(self)

    def enter(self, allocation: Allocation) -> None:
        """Ask an allocation for what the way needs."""
        self._allocation = allocation
        for host in self._hosts:
            self._permit(host)

    def exit(self) -> None:
        """Return what was asked for; the allocation may be gone."""
        if self._allocation is not None:
            for host in self._permitted:
                self._allocation.revoke(host)
        self._permitted.clear()
        self._allocation = None

    def _permit(self, host: str) -> None:
        if self._allocation is not None and self._allocation.permit(host):
            self._permitted.append(host)


class _Link:
    """The way to a server: our UDP socket, or a stream."""

    def __init__(self, hub: SocketHub, endpoint: Endpoint) -> None:
        self._hub = hub
        self._endpoint = endpoint
        self._stream: TurnStream | None = None

    def send(self, data: Buffer, segment_size: int = 0) -> bool:
        """See `TurnLink.send`."""
        if self._stream is not None:
            return self._stream.send(data, segment_size)
        return self._hub.send(data, self._endpoint, segment_size)

    @contextlib.asynccontextmanager
    async def connected(
        self,
        allocation: Allocation,
        stream: trio.abc.Stream | None,
        nursery: trio.Nursery,
    ) -> AsyncIterator[None]:
        """Hand what the server sends to the allocation; ``nursery`` outlives this."""
        if stream is None:
            self._hub.add_turn_server(
                self._endpoint, lambda data, _: allocation.receive_untrusted(data)
            )
            try:
                yield
            finally:
                self._hub.remove_turn_server(self._endpoint)
            return
        self._stream = TurnStream(stream, allocation.receive_untrusted)
        scope = trio.CancelScope()
        nursery.start_soon(_watch, self._stream, allocation, scope)
        try:
            yield
        finally:
            scope.cancel()


async def _watch(
    stream: TurnStream, allocation: Allocation, scope: trio.CancelScope
) -> None:
    """Serve a stream; an allocation does not outlive it (RFC 8656 §5)."""
    with scope:
        try:
            await stream.run()
        except RelayUnavailable as failure:
            allocation.fail(str(failure))
