"""`station`: what is drawn cannot be told from the key alone; counters start at 0."""

import random

from opnode.core.addresses import Endpoint
from opnode.core.ids import NodeId
from opnode.drivers.rpc.config import COUNTERS
from opnode.drivers.rpc.station import Secrets, Station
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.datagrams import Sender
from opnode.protocols.rpc.messages import MAIN_NETWORK
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import VirtualNetwork

KEY = seeded_signing_key("station")


def test_secrets_differ_by_draw_by_entropy_and_by_key():
    one, other = Secrets(KEY, bytes(32)), Secrets(KEY, b"\1" * 32)
    keyless = Secrets(None, bytes(32))
    drawn = [one.draw(), one.draw(), other.draw(), keyless.draw()]
    assert len(set(drawn)) == 4
    assert {len(secret) for secret in drawn} == {32}


def test_the_same_key_and_entropy_draw_the_same():
    assert Secrets(KEY, bytes(32)).draw() == Secrets(KEY, bytes(32)).draw()


async def test_a_new_station_has_counted_nothing_and_tells_nobody():
    host = VirtualNetwork(random.Random(1)).host("10.0.0.1")
    hub = SocketHub(await host.bind(Endpoint("10.0.0.1", 4000)))
    station = Station.on(hub, Sender(MAIN_NETWORK, NodeId(bytes(20)), leaf=True))
    assert station.counts == dict.fromkeys(COUNTERS, 0)
    assert station.on_answered is station.on_asked is None
    assert station.on_failure is station.on_observed is None
    hub.close()
