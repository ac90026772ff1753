"""`gateway_finder`: gateways are asked for in time, and strangers send us nowhere."""

import random

import pytest
import trio

from opnode.core.ids import Contact
from opnode.node.gateways.finder import FIRST_S, GatewayFinder
from opnode.node.gateways.gateways import Gateway
from opnode.node.gateways.memory import load_gateways
from opnode.protocols.rpc.messages import FindServices, Noted, Servers, Service
from opnode.protocols.websocket import GatewayUrl
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.rpc.wires import Net

PIN = "#sha256-" + "A" * 43


class Keeper:
    """What a finder asks of a keeper."""

    def __init__(self, *known):
        self.gateways = list(known)
        self.held = ()

    def known(self):
        return tuple(self.gateways)

    def learn(self, gateways):
        self.gateways += gateways


class Site:
    def __init__(self, client, server, keeper, path=None):
        self.client, self.server, self.keeper = client, server, keeper
        self.searches = 0
        self.finder = GatewayFinder(client, keeper, self.find, random.Random(1), path)

    async def find(self):
        await trio.lowlevel.checkpoint()
        self.searches += 1
        return [Contact(self.server.node_id, self.server.local)]

    def tells(self, *urls):
        self.server.serve(FindServices, lambda _: Servers((), urls))


async def site(nursery, *known, path=None, leaf=True):
    net = Net(nursery)
    client, server = await net.rpc(1, leaf=leaf), await net.rpc(2)
    return Site(client, server, Keeper(*known), path)


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (("ws://10.0.0.2:80",), "ws://10.0.0.2"),
        ((f"wss://10.0.0.2:8443{PIN}",), f"wss://10.0.0.2:8443{PIN}"),
        (("wss://gate.example.org",), "wss://gate.example.org"),
        (("ws://192.168.0.1", "wss://gate.example.org"), "wss://gate.example.org"),
        (("ws://192.168.0.1",), None),
        (("wss://192.168.0.1",), None),
        (("ws://router.example.org",), None),
        ((f"wss://gate.example.org{PIN}",), None),
        (("nonsense",), None),
        ((), None),
    ],
)
async def test_a_stranger_sends_us_to_its_own_host_or_where_tls_proves_the_name(
    autojump_clock, nursery, urls, expected
):
    here = await site(nursery)
    here.tells(*urls)
    found = await here.finder.gateway_at(here.server.local)
    assert (found and str(found.url)) == expected


async def test_who_is_silent_or_answers_out_of_turn_has_no_gateway(
    autojump_clock, nursery
):
    here = await site(nursery)
    here.server.serve(FindServices, lambda _: Noted())
    assert await here.finder.gateway_at(here.server.local) is None
    silent = here.server.local._replace(port=9)
    assert await here.finder.gateway_at(silent) is None


async def test_a_leaf_learns_gateways_with_their_keys_and_remembers_them(
    autojump_clock, nursery, tmp_path
):
    path = tmp_path / "gateways.json"
    here = await site(nursery, path=path)
    here.tells("ws://10.0.0.2:80")
    nursery.start_soon(here.finder.run)
    await trio.sleep(2 * FIRST_S)
    url = GatewayUrl("ws", "10.0.0.2", 80)
    key = seeded_signing_key("rpc 2").public
    assert here.keeper.gateways == [Gateway(url, "10.0.0.2", 4000, key)]
    (entry,) = load_gateways(path)
    assert (entry.node_public_key, entry.gateway) == (key, url)


async def test_searches_become_rare_and_end_when_enough_are_known(
    autojump_clock, nursery
):
    here = await site(nursery)
    here.server.services = Service.WEBSOCKET
    here.tells()
    nursery.start_soon(here.finder.run)
    await trio.sleep(24 * 3600.0)
    assert 5 <= here.searches <= 12
    here.keeper.gateways += [None] * 4
    searched = here.searches
    await trio.sleep(24 * 3600.0)
    assert here.searches == searched


async def test_a_server_needs_no_gateway(autojump_clock, nursery):
    here = await site(nursery, leaf=False)
    nursery.start_soon(here.finder.run)
    await trio.sleep(24 * 3600.0)
    assert here.searches == 0
