"""What others outside of the network do for this node: TURN servers and the router.

Owns that they run and are left in order, and who hears of a forwarded port. Refuses to
know how they are asked.
"""

from collections.abc import Callable, Sequence

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import random_bytes
from opnode.drivers.network.network import Network
from opnode.drivers.router.control import RouterControl
from opnode.drivers.router.home_router import find_home_routers
from opnode.drivers.router.mappings import PortMapper
from opnode.drivers.router.port_mapping import (
    MAPPING_OFF,
    PortMapping,
    PortMappingStatus,
)
from opnode.drivers.router.upnp import UpnpControl
from opnode.drivers.turn.turn import TurnClient, TurnStatistics


class Outlets:
    """Both, each of which may be missing."""

    def __init__(self, turn: TurnClient | None, mapping: PortMapping | None) -> None:
        self._turn = turn
        self._mapping = mapping

    @property
    def mapping(self) -> PortMappingStatus:
        """What became of the port on the router."""
        return MAPPING_OFF if self._mapping is None else self._mapping.status

    @property
    def turn(self) -> TurnStatistics | None:
        """What the TURN servers do for us; None for a node that calls nobody."""
        return None if self._turn is None else self._turn.statistics()

    def moved(self, _: object = None) -> None:
        """We may be in another network, with another router."""
        if self._mapping is not None:
            self._mapping.look_again()

    async def run(self) -> None:
        """Keep both until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._turn is not None:
                nursery.start_soon(self._turn.run)
            if self._mapping is not None:
                nursery.start_soon(self._mapping.run)

    async def leave(self) -> None:
        """Give back what they hold for us; the caller bounds the time."""
        async with trio.open_nursery() as nursery:
            if self._turn is not None:
                nursery.start_soon(self._turn.leave)
            if self._mapping is not None:
                nursery.start_soon(self._mapping.leave)


def port_mappers(network: Network) -> Sequence[PortMapper]:
    """Whom to ask in the network where this machine is now, the cheapest first."""
    routers = find_home_routers(network.interface_addresses())
    return [
        *(RouterControl(network, router, random_bytes) for router in routers),
        *(UpnpControl(router, _random_below) for router in routers),
    ]


def told_of(
    mapping: PortMapping,
    add: Callable[[Endpoint], None],
    forget: Callable[[Endpoint], None],
    retry: Callable[[], None],
) -> PortMapping:
    """Let others hear of the forwarded address, and of its end.

    ``retry`` is called when strangers may reach us who did not before.
    """
    known: list[Endpoint] = []

    def tell(endpoint: Endpoint | None) -> None:
        while known:
            forget(known.pop())
        if endpoint is not None:
            known.append(endpoint)
            add(endpoint)
            retry()

    mapping.on_mapped = tell
    return mapping


def _random_below(stop: int) -> int:
    return int.from_bytes(random_bytes(8)) % stop
