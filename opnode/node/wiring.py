"""Who tells whom of WebSockets, neighbours and moves: lines between parts, no more.

Owns what a change at one part starts at another. Refuses to know how any of them works.
"""

from collections.abc import Awaitable, Callable

from opnode.core.ids import PeerId
from opnode.node.assembly import Parts
from opnode.node.introducer_finder import FoundPeer, IntroducerFinder
from opnode.node.network_watch import NetworkChange


def wire_gateways(parts: Parts) -> None:
    """Let the parts that send know by whom, and the gateways when to try UDP."""
    gateways, watch = parts.gateways, parts.network_watch
    # Whoever goes around by WebSocket is somewhere else, and so on the way back.
    gateways.on_change = watch.seen_elsewhere
    gateways.look_up = parts.finder.gateway_at
    watch.subscribe(gateways.network_changed)
    if parts.presence is not None:
        parts.presence.gateways = lambda: gateways.held
    if parts.relaying.ways is not None:
        parts.relaying.ways.on_out_of_reach = gateways.reach


def wire_websocket(parts: Parts) -> None:
    """Let the node's own gateway know the network, and others its address."""
    websocket = parts.websocket
    if websocket is None:
        return
    websocket.watch_peers(lambda: parts.joiner.is_joined)

    def urls() -> tuple[str, ...]:
        seen_at = parts.observed.best or parts.observed.guess
        return (str(websocket.url(seen_at.host)),)

    parts.relaying.services.own_urls = urls


def wire_neighbours(parts: Parts) -> None:
    """Join through neighbours, and look for them where we are now."""
    if parts.neighbours is not None:
        parts.joiner.neighbours = parts.neighbours.entries
        parts.network_watch.subscribe(parts.neighbours.network_changed)


def wire_introducers(
    parts: Parts, lookup: Callable[[PeerId], Awaitable[FoundPeer]]
) -> None:
    """Connections learn of moves, and through whom the other end is reached then."""
    connector, presence = parts.connector, parts.presence
    if connector is None:
        return
    finder = IntroducerFinder(lookup, presence)
    connector.own_introducers = finder.own
    connector.switchboard.find_introducers = finder.find
    parts.network_watch.subscribe(connector.network_changed)

    def look_around() -> None:
        # A path that fell silent may tell that our NAT forgot its introducers, too, or
        # that no UDP passes any more.
        if presence is not None:
            presence.network_changed(NetworkChange.SEEN_ELSEWHERE)
        parts.gateways.suspect()

    connector.on_silent = look_around
