"""The gateway: WebSockets of clients whose network lets no UDP through.

Owns the listening socket, who is let in, and that each client's WebSocket is a carrier
of the hub with an address of its own. Refuses to know what the datagrams say: the parts
behind the hub answer them as if they had come by UDP.
"""

import logging
import ssl
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import trio
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    wrap_server_stream,
)

from opnode.core.addresses import Endpoint, is_loopback, site_of
from opnode.core.crypto import sha256
from opnode.core.errors import ConfigError
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.websocket.carrier import CarrierConfig, WebSocketCarrier
from opnode.protocols.websocket import (
    MAX_MESSAGE,
    CloseCode,
    HelloError,
    check_hello_untrusted,
    welcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_CLOSE_S: Final = 1.0

Listener: TypeAlias = trio.SocketListener | trio.SSLListener[trio.SocketStream]
ByteStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """How much a node does for clients without UDP, each limit with its reason.

    Attributes:
        max_clients: at 60 kB each with its buffers, 15 MB.
        max_per_host: people behind one office's address; a host of this machine, where
            a proxy that ends TLS is, has no such limit.
        max_strangers: connections without a HELLO yet; more are closed unheard.
        strangers_per_host: of them for one host, so that it keeps nobody else out.
        hello_s: from the TCP connection to HELLO: TLS, HTTP and three round trips of a
            slow link.
        carrier: limits of each WebSocket. A client renews its registration sooner than
            every ten minutes, so one that is quiet for longer is forgotten.
    """

    max_clients: int = 256
    max_per_host: int = 16
    max_strangers: int = 64
    strangers_per_host: int = 8
    hello_s: float = 10.0
    carrier: CarrierConfig = field(default_factory=lambda: CarrierConfig(idle_s=600.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatistics:
    """Clients now and since the start, what was carried for them, who was refused."""

    clients: int
    served: int
    refused: int
    failed: int
    datagrams: int
    bytes: int


class WebSocketGateway:
    """Lets clients in and carries their datagrams to and from the hub."""

    def __init__(
        self,
        hub: SocketHub,
        network: bytes,
        config: GatewayConfig | None = None,
    ) -> None:
        """``network``: the 8 bytes of our network."""
        self.has_peers: Callable[[], bool] = _always
        self._hub = hub
        self._network = network
        self._config = config or GatewayConfig()
        self._clients: dict[Endpoint, WebSocketCarrier] = {}
        self._hosts: Counter[bytes] = Counter()
        self._strangers: Counter[bytes] = Counter()
        self._served = self._refused = self._failed = 0
        self._datagrams = self._bytes = 0

    def statistics(self) -> GatewayStatistics:
        """Read the counters; bytes are those of datagrams, both ways."""
        live = [carrier.statistics() for carrier in self._clients.values()]
        return GatewayStatistics(
            clients=len(self._clients),
            served=self._served,
            refused=self._refused,
            failed=self._failed,
            datagrams=self._datagrams
            + sum(s.datagrams_in + s.datagrams_out for s in live),
            bytes=self._bytes + sum(s.bytes_in + s.bytes_out for s in live),
        )

    async def run(
        self,
        listeners: list[Listener],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Let clients in until cancelled."""
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_listeners, self._serve_untrusted, listeners)
            await nursery.start(serve)
            task_status.started()

    async def serve(self, stream: trio.abc.Stream, remote: Endpoint) -> None:
        """Serve one client from its TCP connection on until it is gone.

        A bug here costs this client alone.
        """
        if self._is_crowded(remote):
            self._refused += 1
            await trio.aclose_forcefully(stream)
            return
        try:
            async with trio.open_nursery() as nursery:
                await self._meet(nursery, stream, remote)
                nursery.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - whatever a stranger sent, others go on
            self._failed += 1
            logger.debug("the WebSocket of %s failed: %r", remote, error)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_untrusted(self, stream: ByteStream) -> None:
        try:
            remote = _remote(stream)
        except OSError:
            # It is gone already.
            await trio.aclose_forcefully(stream)
            return
        await self.serve(stream, remote)

    def _is_crowded(self, remote: Endpoint) -> bool:
        """Whether as many as may be, of that host or in all, have yet to say HELLO."""
        config = self._config
        if self._strangers.total() >= config.max_strangers:
            return True
        of_host = self._strangers[site_of(remote.host)]
        return of_host >= config.strangers_per_host and not is_loopback(remote.host)

    async def _meet(
        self, nursery: trio.Nursery, stream: trio.abc.Stream, remote: Endpoint
    ) -> None:
        host = site_of(remote.host)
        self._strangers[host] += 1
        connection: WebSocketConnection | None = None
        try:
            with trio.move_on_after(self._config.hello_s):
                request = await wrap_server_stream(
                    nursery, stream, message_queue_size=1, max_message_size=MAX_MESSAGE
                )
                accepted = await request.accept()
                if await self._admit(accepted, remote):
                    connection = accepted
        except (ConnectionClosed, HandshakeError):
            self._failed += 1
        finally:
            self._strangers[host] -= 1
            if not self._strangers[host]:
                del self._strangers[host]
        if connection is not None:
            await self._carry(connection, remote)

    async def _admit(self, connection: WebSocketConnection, remote: Endpoint) -> bool:
        """Hear HELLO and answer it, or say why not."""
        hello = await connection.get_message()
        refusal = self._judge(hello, remote)
        if refusal is None:
            await connection.send_message(welcome(self._network))
            return True
        self._refused += 1
        code, reason = refusal
        logger.info("the WebSocket of %s is refused: %s", remote, reason)
        with trio.move_on_after(_CLOSE_S):
            await connection.aclose(int(code), reason[:120])
        return False

    def _judge(
        self, hello: str | bytes, remote: Endpoint
    ) -> tuple[CloseCode, str] | None:
        try:
            check_hello_untrusted(hello, self._network)
        except HelloError as refused:
            return refused.code, str(refused)
        if not self.has_peers():
            return CloseCode.NO_PEERS, "this gateway knows no other node now"
        if len(self._clients) >= self._config.max_clients:
            return CloseCode.FULL, "too many clients"
        full = self._hosts[site_of(remote.host)] >= self._config.max_per_host
        if full and not is_loopback(remote.host):
            return CloseCode.HOST_FULL, "too many clients of one host"
        return None

    async def _carry(self, connection: WebSocketConnection, remote: Endpoint) -> None:
        carrier = WebSocketCarrier(connection, self._config.carrier)
        name = self._hub.add_carrier(carrier, remote)
        host = site_of(remote.host)
        self._clients[name] = carrier
        self._hosts[host] += 1
        self._served += 1
        logger.info("%s is here by WebSocket", remote)
        reason = "the gateway stops"
        try:
            reason = await carrier.run(partial(self._deliver_untrusted, name))
        finally:
            self._hub.remove_carrier(name)
            del self._clients[name]
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            carried = carrier.statistics()
            self._datagrams += carried.datagrams_in + carried.datagrams_out
            self._bytes += carried.bytes_in + carried.bytes_out
            logger.info("the WebSocket of %s ended: %s", remote, reason)

    def _deliver_untrusted(self, name: Endpoint, data: bytes) -> None:
        self._hub.deliver_untrusted(data, name)


async def open_listeners(
    endpoint: Endpoint, certificate: Path | None = None, key: Path | None = None
) -> list[Listener]:
    """Listen for WebSockets, with TLS where a certificate is given.

    Args:
        endpoint: where; port 0 lets the system choose.
        certificate: a PEM file of the certificate and its chain.
        key: the PEM file of its key; None when it is in the same file.

    Raises:
        ConfigError: the address cannot be bound, or the files are no certificate.
    """
    # Trio's listener for "::" takes no IPv4; without a host there is one for each.
    is_dual = endpoint.host == "::" and endpoint.port != 0
    host = None if is_dual else endpoint.host
    try:
        listeners = await trio.open_tcp_listeners(endpoint.port, host=host)
    except OSError as error:
        expected = "an address of this host and a TCP port that is free"
        found = f"{endpoint} ({error.strerror})"
        raise ConfigError("websocket", found, expected) from None
    if certificate is None:
        return list(listeners)
    context = _tls(certificate, key)
    return [
        trio.SSLListener(each, context, https_compatible=True) for each in listeners
    ]


def self_signed_pin(certificate: Path) -> bytes:
    """SHA-256 of a certificate that nobody else vouches for; else nothing.

    Of those alone that may sign, as ``openssl req -x509`` makes them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(str(certificate))
    except OSError:
        return b""
    described = context.get_ca_certs()
    if len(described) != 1 or described[0].get("issuer") != described[0].get("subject"):
        return b""
    return sha256(context.get_ca_certs(binary_form=True)[0])


def bound_to(listener: Listener) -> Endpoint:
    """Where a listener listens."""
    inner: object = listener
    if isinstance(listener, trio.SSLListener):
        inner = listener.transport_listener
    assert isinstance(inner, trio.SocketListener)
    name = inner.socket.getsockname()
    return Endpoint(str(name[0]), int(name[1]))


def _tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        # SSLError is one, too; it names the fault and no secret.
        found = f"{certificate}: {error.strerror or error}"
        expected = "PEM files of a certificate and its key, without a password"
        raise ConfigError("tls-cert", found, expected) from None
    return context


def _remote(stream: ByteStream) -> Endpoint:
    inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    name = inner.socket.getpeername()
    host = str(name[0]).partition("%")[0]
    bracketed = f"[{host}]" if ":" in host else host
    return Endpoint.parse(f"{bracketed}:{name[1]}")


def _always() -> bool:
    return True
