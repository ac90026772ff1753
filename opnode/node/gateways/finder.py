"""Getting to know gateways while UDP works, for a time when it does not.

Owns whom is asked for them, how often, and which addresses a stranger may send us to.
Refuses to know when a gateway is needed.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from opnode.core.addresses import Endpoint, is_numeric
from opnode.core.errors import ConfigError, NetworkError
from opnode.core.ids import Contact
from opnode.drivers.rpc.rpc import Rpc
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.gateways.gateways import HELD, Gateway, GatewayKeeper
from opnode.node.gateways.memory import save_gateways
from opnode.protocols.rpc.messages import FindServices, Servers, Service
from opnode.protocols.websocket import GatewayUrl

logger = logging.getLogger(__name__)

FIRST_S: Final = 60.0
"""Not at once: who just came has other things to ask."""

GROWTH: Final = 16.0
"""A search that finds nothing is 4 kB and a dozen mappings of a NAT: after one minute,
after 17, then every four hours."""

LONGEST_S: Final = 4 * 3600.0
"""Between two searches: gateways are servers, which stay for days."""

Find = Callable[[], Awaitable[Sequence[Contact]]]
"""Nodes that say of themselves that they are gateways."""


class GatewayFinder:
    """Asks for gateways now and then, and remembers them."""

    def __init__(
        self,
        rpc: Rpc,
        keeper: GatewayKeeper,
        find: Find,
        rng: random.Random,
        path: Path | None,
    ) -> None:
        """``path``: their file; None remembers them until the node stops."""
        self._rpc = rpc
        self._keeper = keeper
        self._find = find
        self._rng = rng
        self._path = path

    async def run(self) -> None:
        """Search while UDP works and few are known, until cancelled."""
        pause_s = FIRST_S
        while True:
            await trio.sleep(self._rng.uniform(0.8, 1.2) * pause_s)
            pause_s = min(GROWTH * pause_s, LONGEST_S)
            # Whom everybody reaches is no client: the network passes its UDP.
            is_due = self._rpc.leaf and not self._keeper.held
            if is_due and len(self._keeper.known()) < 2 * HELD:
                await self._search()

    async def gateway_at(self, endpoint: Endpoint) -> Gateway | None:
        """The gateway that the node at this address says it has; None for none."""
        wanted = FindServices(int(Service.WEBSOCKET))
        try:
            answer = await self._rpc.request(endpoint, wanted)
        except NetworkError:
            return None
        urls = answer.body.urls if isinstance(answer.body, Servers) else ()
        for text in urls:
            url = _acceptable_untrusted(text, endpoint)
            if url is not None:
                return Gateway(url, endpoint.host, endpoint.port)
        return None

    async def _search(self) -> None:
        found = []
        for contact in list(await self._find())[: 2 * HELD]:
            gateway = await self.gateway_at(contact.endpoint)
            if gateway is None:
                continue
            try:
                key = await self._rpc.prove(contact.endpoint)
            except NetworkError:
                continue
            found.append(Gateway(gateway.url, gateway.host, gateway.port, key))
        self._keeper.learn(found)
        if found and self._path is not None:
            entries = [_entry(gateway) for gateway in self._keeper.known()]
            save_gateways(self._path, entries)


def _entry(gateway: Gateway) -> BootstrapEntry:
    return BootstrapEntry(gateway.public_key, gateway.host, gateway.port, gateway.url)


def _acceptable_untrusted(text: str, endpoint: Endpoint) -> GatewayUrl | None:
    """An address that its node may send us to.

    Its own host; or a name that TLS has to prove before anything is asked there. Else
    a stranger could have us send a request to a router of ours, or to anybody.
    """
    try:
        url = GatewayUrl.parse(text)
    except ConfigError:
        return None
    is_own = url.host == endpoint.host
    is_proven = url.scheme == "wss" and not url.pin and not is_numeric(url.host)
    return url if is_own or is_proven else None
