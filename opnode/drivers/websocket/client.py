"""One WebSocket to a gateway, through which all that is for the gateway leaves.

Owns how it is opened, whose certificate is believed, and that the hub sends by it while
it is open. Refuses to know when a gateway is needed and which one.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from opnode.core.addresses import Endpoint
from opnode.core.crypto import sha256
from opnode.core.errors import ConfigError, PeerUnreachable, RemoteProtocolError
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.websocket.carrier import CarrierConfig, WebSocketCarrier
from opnode.protocols.websocket import (
    MAX_MESSAGE,
    GatewayUrl,
    check_hello_untrusted,
    hello,
)

logger = logging.getLogger(__name__)

OPEN_S: Final = 8.0
"""From the first SYN to WELCOME: TCP, TLS, HTTP and HELLO take five round trips, and a
lost SYN another second."""

Dial: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a TCP connection to a host and port; OSError when there is none."""


@dataclass(frozen=True, slots=True)
class GatewayTrust:
    """Whose certificates are believed beside those that an address pins.

    ``authorities``: a PEM file of more authorities; None for the system's alone.
    """

    authorities: Path | None = None


async def dial_tcp(host: str, port: int) -> trio.abc.Stream:
    """Open a TCP connection, to whichever of the host's addresses answers first."""
    return await trio.open_tcp_stream(host, port)


class GatewayLink:
    """A WebSocket to one gateway.

    Attributes:
        url: where it is.
        endpoint: the gateway's address for UDP; what is sent there leaves by this.
        carrier: once it is open.
    """

    def __init__(  # noqa: PLR0913 - all different, named by every caller
        self,
        hub: SocketHub,
        *,
        url: GatewayUrl,
        endpoint: Endpoint,
        network: bytes,
        dial: Dial = dial_tcp,
        trust: GatewayTrust | None = None,
        config: CarrierConfig | None = None,
    ) -> None:
        self.url = url
        self.endpoint = endpoint
        self.carrier: WebSocketCarrier | None = None
        self._hub = hub
        self._network = network
        self._dial = dial
        self._trust = trust or GatewayTrust()
        self._config = config or CarrierConfig()
        self._failure = ""
        self._stream: trio.abc.Stream | None = None

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> str:
        """Open it and carry until it ends; returns why it did.

        Started when the gateway has let us in; from then on the hub uses it.

        Raises:
            PeerUnreachable: it could not be opened, and why.
        """
        reason = ""
        try:
            async with trio.open_nursery() as nursery:
                carrier = await self._open(nursery)
                if carrier is not None:
                    reason = await self._carry(carrier, task_status)
                nursery.cancel_scope.cancel()
        except* (HandshakeError, ConnectionClosed, trio.BrokenResourceError) as errors:
            self._failure = f"no WebSocket: {_first(errors)!r}"
        finally:
            if self._stream is not None:
                await trio.aclose_forcefully(self._stream)
        if self.carrier is None:
            raise PeerUnreachable(f"gateway {self.url}: {self._failure}")
        return reason or self._failure

    async def _carry(
        self, carrier: WebSocketCarrier, task_status: trio.TaskStatus[None]
    ) -> str:
        self.carrier = carrier
        self._hub.divert(self.endpoint, carrier)
        logger.info("gateway %s: connected", self.url)
        task_status.started()
        try:
            return await carrier.run(self._deliver_untrusted)
        finally:
            self.release()

    def release(self) -> None:
        """Send by UDP again what is for the gateway; what it still sends is heard."""
        if self._hub.carrier_of(self.endpoint) is self.carrier:
            self._hub.remove_carrier(self.endpoint)

    async def _open(self, nursery: trio.Nursery) -> WebSocketCarrier | None:
        """Connect and say HELLO; None where ``_failure`` says what went wrong."""
        try:
            with trio.fail_after(OPEN_S):
                self._stream = await self._connect()
                return await self._greet(nursery, self._stream)
        except trio.TooSlowError:
            self._failure = f"not open within {OPEN_S:.0f} s"
        except ConnectionClosed as closed:
            said = closed.reason
            text = f"{said.code} {said.reason or said.name}" if said else "no reason"
            self._failure = f"closed: {text}"
        except (OSError, trio.BrokenResourceError) as error:
            cause = error.__cause__ or error
            self._failure = str(cause) or repr(cause)
        except RemoteProtocolError as error:
            self._failure = str(error)
        return None

    async def _connect(self) -> trio.abc.Stream:
        url = self.url
        tcp = await self._dial(url.host, url.port)
        if url.scheme == "ws":
            return tcp
        context = _tls(url, self._trust)
        stream = trio.SSLStream(
            tcp, context, server_hostname=url.host, https_compatible=True
        )
        try:
            await stream.do_handshake()
            _check_pin(url, stream.getpeercert(binary_form=True))
        except BaseException:
            await trio.aclose_forcefully(tcp)
            raise
        return stream

    async def _greet(
        self, nursery: trio.Nursery, stream: trio.abc.Stream
    ) -> WebSocketCarrier:
        url = self.url
        connection = await wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # any stream will do
            f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}",
            url.path,
            message_queue_size=1,
            max_message_size=MAX_MESSAGE,
        )
        await connection.send_message(hello(self._network))
        check_hello_untrusted(await connection.get_message(), self._network)
        return WebSocketCarrier(connection, self._config)

    def _deliver_untrusted(self, data: bytes) -> None:
        self._hub.deliver_untrusted(data, self.endpoint)


def check_trust(trust: GatewayTrust) -> None:
    """Read the authorities' file once, early.

    Raises:
        ConfigError: it holds no certificates.
    """
    if trust.authorities is None:
        return
    try:
        ssl.create_default_context(cafile=str(trust.authorities))
    except OSError as error:
        found = f"{trust.authorities}: {error.strerror or error}"
        expected = "a PEM file of certificates"
        raise ConfigError("gateway-ca", found, expected) from None


def _tls(url: GatewayUrl, trust: GatewayTrust) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if url.pin:
        # The one certificate is named: who signed it and for which name says no more.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif trust.authorities is not None:
        context.load_verify_locations(str(trust.authorities))
    return context


def _check_pin(url: GatewayUrl, certificate: object) -> None:
    if not url.pin:
        return
    found = sha256(certificate) if isinstance(certificate, bytes) else b""
    if found != url.pin:
        text = f"certificate: found {found.hex()[:16]}…, expected {url.pin.hex()[:16]}…"
        raise RemoteProtocolError(text)


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
