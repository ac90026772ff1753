"""`wiring`: what a change at one part starts at another."""

from types import SimpleNamespace

from opnode.core.addresses import Endpoint
from opnode.node.network_watch import NetworkChange
from opnode.node.wiring import (
    wire_gateways,
    wire_introducers,
    wire_neighbours,
    wire_websocket,
)
from opnode.protocols.websocket import GatewayUrl

HELD = ("a gateway",)
SEEN = Endpoint("192.0.2.1", 4000)


class Watch:
    def __init__(self):
        self.listeners = []
        self.moves = 0

    def subscribe(self, listener):
        self.listeners.append(listener)

    def seen_elsewhere(self):
        self.moves += 1


def parts(**others):
    made = {
        "gateways": SimpleNamespace(held=HELD, network_changed="udp", reach="reach"),
        "finder": SimpleNamespace(gateway_at="look up"),
        "network_watch": Watch(),
        "presence": None,
        "relaying": SimpleNamespace(ways=None, services=SimpleNamespace()),
        "websocket": None,
        "neighbours": None,
        "joiner": SimpleNamespace(is_joined=True),
        "observed": SimpleNamespace(best=None, guess=SEEN),
    }
    return SimpleNamespace(**(made | others))


def test_going_around_by_websocket_is_being_somewhere_else():
    ways, presence = SimpleNamespace(), SimpleNamespace()
    wired = parts(presence=presence)
    wired.relaying.ways = ways
    wire_gateways(wired)
    wired.gateways.on_change()
    assert wired.network_watch.moves == 1
    assert wired.network_watch.listeners == ["udp"]
    assert presence.gateways() == HELD
    assert ways.on_out_of_reach == "reach"
    assert wired.gateways.look_up == "look up"


def test_a_gateway_tells_where_it_is_as_others_see_it():
    class WebSocket:
        def watch_peers(self, has_peers):
            self.has_peers = has_peers

        def url(self, host):
            return GatewayUrl("ws", host, 8080)

    websocket = WebSocket()
    wired = parts(websocket=websocket)
    wire_websocket(wired)
    assert websocket.has_peers()
    assert wired.relaying.services.own_urls() == ("ws://192.0.2.1:8080",)
    wired.observed.best = Endpoint("9.9.9.9", 1)
    assert wired.relaying.services.own_urls() == ("ws://9.9.9.9:8080",)


def test_without_them_nothing_is_wired():
    wired = parts()
    for wire in (wire_gateways, wire_websocket, wire_neighbours):
        wire(wired)
    assert not hasattr(wired.joiner, "neighbours")


def test_neighbours_are_asked_by_who_joins_and_where_we_are():
    neighbours = SimpleNamespace(entries="entries", network_changed="links")
    wired = parts(neighbours=neighbours)
    wire_neighbours(wired)
    assert wired.joiner.neighbours == "entries"
    assert wired.network_watch.listeners == ["links"]


def test_a_silent_path_is_a_reason_to_look_at_introducers_and_at_udp():
    looked = []
    connector = SimpleNamespace(
        switchboard=SimpleNamespace(), network_changed="restart"
    )
    presence = SimpleNamespace(network_changed=looked.append)
    wired = parts(connector=connector, presence=presence)
    wired.gateways.suspect = lambda: looked.append("udp")
    wire_introducers(wired, None)
    connector.on_silent()
    assert looked == [NetworkChange.SEEN_ELSEWHERE, "udp"]
    assert wired.network_watch.listeners == ["restart"]
    wire_introducers(parts(connector=None), None)
