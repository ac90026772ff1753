"""The node as a gateway: what it does for clients whose network passes no UDP.

Owns what belongs together for them: their WebSockets, the requests forwarded for them,
and the address that others are told. Refuses to know how any of it works.
"""

from collections.abc import Callable

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.websocket.forwarding import Forwarding
from opnode.drivers.websocket.gateway import (
    GatewayStatistics,
    Listener,
    WebSocketGateway,
    bound_to,
    open_listeners,
    self_signed_pin,
)
from opnode.node.config import WebSocketOffer
from opnode.protocols.rpc.messages import Service
from opnode.protocols.websocket import GatewayUrl


class WebSocketService:
    """A gateway, from ``open`` on; ``close`` ends its listening."""

    def __init__(
        self,
        hub: SocketHub,
        rpc: Rpc,
        offer: WebSocketOffer,
        listeners: list[Listener],
        bound: Endpoint,
    ) -> None:
        """Serve the listeners, which are bound to this TCP address; see ``open``."""
        self._offer = offer
        self._bound = bound
        self._listeners = listeners
        # Whom no authority vouches for is known by its certificate alone.
        self._pin = self_signed_pin(offer.certificate) if offer.certificate else b""
        self._gateway = WebSocketGateway(hub, rpc.network_id, offer.limits)
        self._forwarding = Forwarding(rpc)
        rpc.services |= Service.WEBSOCKET

    @classmethod
    async def open(
        cls, hub: SocketHub, rpc: Rpc, offer: WebSocketOffer
    ) -> "WebSocketService":
        """Listen; clients are let in once it runs.

        Raises:
            ConfigError: the address cannot be bound, or the certificate not be read.
        """
        listeners = await open_listeners(offer.listen, offer.certificate, offer.key)
        return cls(hub, rpc, offer, listeners, bound_to(listeners[0]))

    def url(self, host: str) -> GatewayUrl:
        """Where others reach it if they see us at this host."""
        if self._offer.public_url is not None:
            return self._offer.public_url
        scheme = "ws" if self._offer.certificate is None else "wss"
        return GatewayUrl(scheme, host, self._bound.port, "/", self._pin)

    def watch_peers(self, has_peers: Callable[[], bool]) -> None:
        """Let nobody in while this says that we know no other node."""
        self._gateway.has_peers = has_peers

    def statistics(self) -> GatewayStatistics:
        """Clients, and what was carried for them."""
        return self._gateway.statistics()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve clients until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._forwarding.run)
            await nursery.start(self._gateway.run, self._listeners)
            task_status.started()
