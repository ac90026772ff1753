"""Options about WebSockets: of a node that offers one, and of one that needs one.

Owns their names, help texts and which of them go together. Refuses to know what the
node does with them.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from opnode.cli.options import EndpointType
from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.drivers.websocket.client import GatewayTrust, check_trust
from opnode.node.config import WebSocketOffer
from opnode.protocols.websocket import GatewayUrl

Command = TypeVar("Command", bound=Callable[..., None])


class GatewayUrlType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """Where a WebSocket is."""

    name = "URL"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> GatewayUrl:
        """Parse it, or fail with what was expected."""
        if isinstance(value, GatewayUrl):
            return value
        try:
            return GatewayUrl.parse(str(value))
        except ConfigError as error:
            self.fail(f"found {error.found}, expected {error.expected}", param, ctx)


_PEM = click.Path(dir_okay=False, exists=True, path_type=Path)


def websocket_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--websocket`` and what belongs to it, as one argument ``websocket``."""

    @click.option(
        "--websocket",
        "ws_listen",
        type=EndpointType(),
        metavar="HOST:PORT",
        help="Let in by WebSocket on this TCP port whose network passes no UDP.",
    )
    @click.option(
        "--tls-cert",
        "ws_certificate",
        type=_PEM,
        metavar="FILE",
        help="Certificate (PEM, with its chain): the WebSocket is then wss://.",
    )
    @click.option(
        "--tls-key",
        "ws_key",
        type=_PEM,
        metavar="FILE",
        help="Its key (PEM), if that is not in the same file.",
    )
    @click.option(
        "--public-url",
        "ws_url",
        type=GatewayUrlType(),
        metavar="URL",
        help="How others reach the WebSocket, as behind a proxy: wss://HOST[:PORT].",
    )
    @functools.wraps(command)
    def with_offer(
        *,
        ws_listen: Endpoint | None,
        ws_certificate: Path | None,
        ws_key: Path | None,
        ws_url: GatewayUrl | None,
        **others: object,
    ) -> None:
        offer = _offer(ws_listen, ws_certificate, ws_key, ws_url)
        command(websocket=offer, **others)

    return with_offer


def _offer(
    listen: Endpoint | None,
    certificate: Path | None,
    key: Path | None,
    url: GatewayUrl | None,
) -> WebSocketOffer | None:
    given = {"--tls-cert": certificate, "--tls-key": key, "--public-url": url}
    needless = [name for name, value in given.items() if value is not None]
    if listen is None:
        if needless:
            raise click.UsageError(f"{needless[0]} needs --websocket HOST:PORT")
        return None
    if key is not None and certificate is None:
        raise click.UsageError("--tls-key needs --tls-cert FILE")
    return WebSocketOffer(
        listen=listen, certificate=certificate, key=key, public_url=url
    )


def lan_option(command: Callable[..., None]) -> Callable[..., None]:
    """``--no-lan``, as the argument ``lan``."""
    return click.option(
        "--lan/--no-lan",
        default=True,
        help="Find peers and nodes on the same link by multicast. On by default.",
    )(command)


def gateway_trust_option(command: Callable[..., None]) -> Callable[..., None]:
    """``--gateway-ca FILE``, as the argument ``gateway_trust``."""

    @click.option(
        "--gateway-ca",
        "gateway_ca",
        type=_PEM,
        metavar="FILE",
        help="Believe these authorities (PEM), too, when a wss:// gateway is needed.",
    )
    @functools.wraps(command)
    def with_trust(*, gateway_ca: Path | None, **others: object) -> None:
        trust = GatewayTrust(gateway_ca)
        check_trust(trust)
        command(gateway_trust=trust, **others)

    return with_trust
