import random
from contextlib import asynccontextmanager

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import PeerUnreachable
from opnode.drivers.connection_paths import PathKind
from opnode.node.config import NodeConfig
from opnode.node.node import open_node
from opnode.node.ports.forecast import ForecastConfig, ForecastStatistics, PortForecast
from opnode.node.ports.probe import PortProbe
from opnode.protocols.nat.mapping import Mapping, MappingKind
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.nat import VirtualNat
from opnode.testing.nat_behaviour import PRESETS
from opnode.testing.overlay import open_overlay

SEEDS = 12
IDLE_S = 900.0
"""No mapping lives so long without traffic, so most seeds are strangers to the NAT."""


@asynccontextmanager
async def at_home(overlay, kind, number):
    """A node behind a NAT of its own."""
    outside = f"20.{number}.0.1"
    nat = VirtualNat(overlay.network, outside, PRESETS[kind], random.Random(number))
    config = NodeConfig(
        listen=Endpoint("0.0.0.0", 4000), bootstrap=tuple(overlay.entries[:2])
    )
    rng = random.Random(100 + number)
    async with open_node(
        config, network=nat.host(), wall_clock=overlay.wall_clock, rng=rng
    ) as node:
        await node.wait_published()
        yield node


def forecast_of(node):
    return node._parts.forecast


async def path_between(caller_kind, callee_kind, *, idle_s=5.0):
    """The kind of path that a call between two such homes gets."""
    async with (
        open_overlay(SEEDS, public=True) as overlay,
        at_home(overlay, caller_kind, 1) as caller,
        at_home(overlay, callee_kind, 2) as callee,
    ):
        await trio.sleep(idle_s)
        with trio.fail_after(20):
            connection = await caller.connect(callee.peer_id)
        made = [forecast_of(node).statistics() for node in (caller, callee)]
        return connection.path.kind, made


@pytest.mark.slow
@pytest.mark.parametrize("idle_s", [5.0, IDLE_S])
@pytest.mark.parametrize("other", ["full", "addr", "port"])
async def test_a_sequential_nat_is_foretold_and_met_directly(
    autojump_clock, other, idle_s
):
    for kinds in (("seq", other), (other, "seq")):
        kind, made = await path_between(*kinds, idle_s=idle_s)
        assert kind is PathKind.DIRECT
        sequential, usual = made if kinds[0] == "seq" else made[::-1]
        assert sequential.made == 1
        assert sequential.probes <= 2
        assert usual == ForecastStatistics(made=0, probes=0)


@pytest.mark.slow
async def test_two_sequential_nats_meet_when_both_are_foretold(autojump_clock):
    kind, made = await path_between("seq", "seq")
    assert kind is PathKind.DIRECT
    assert [one.made for one in made] == [1, 1]


@pytest.mark.slow
async def test_two_sequential_nats_that_forgot_each_other_meet_again_and_again(
    autojump_clock,
):
    async with (
        open_overlay(SEEDS, public=True) as overlay,
        at_home(overlay, "seq", 1) as caller,
        at_home(overlay, "seq", 2) as callee,
    ):
        for _ in range(4):
            with trio.fail_after(20):
                connection = await caller.connect(callee.peer_id)
            assert connection.path.kind is PathKind.DIRECT
            await connection.aclose()
            # Longer than a mapping lives that nothing keeps.
            await trio.sleep(IDLE_S)


@pytest.mark.slow
async def test_random_ports_behind_a_port_restricted_filter_take_no_direct_path(
    autojump_clock,
):
    with pytest.raises(PeerUnreachable):
        await path_between("sym", "port")


@pytest.mark.parametrize(
    ("preset", "kind"),
    [
        ("port", MappingKind.INDEPENDENT),
        ("full", MappingKind.INDEPENDENT),
        ("sym", MappingKind.RANDOM),
        ("seq", MappingKind.SEQUENTIAL),
    ],
)
async def test_a_node_knows_its_nat_once_it_has_joined(autojump_clock, preset, kind):
    async with open_overlay(4) as overlay, at_home(overlay, preset, 1) as node:
        nat = node._parts.observed.nat
        assert nat.kind is kind
        assert nat.host == "20.1.0.1"
        assert node._parts.observed.behind_nat
        hosts = {one.host for one in node.connector.ice.candidates.observed}
        assert hosts == {"20.1.0.1"}


@pytest.fixture
async def forecast(nursery):
    """A node whose NAT gives out the ports that its host's fresh sockets have."""
    network = DhtNetwork(nursery, 1, public=True)
    for _ in range(3):
        await network.add()
    asker, *others = network.nodes
    host = asker.hub.local.host
    nat = Mapping(kind=MappingKind.SEQUENTIAL, host=host, port=49_000, step=1)
    forecast = PortForecast(
        asker.rpc,
        lambda: [node.contact for node in others],
        lambda: nat,
        PortProbe(asker.rpc, network.network.host(host).bind),
    )
    nursery.start_soon(forecast.run)
    yield forecast
    network.close()


def ports(endpoints):
    return [endpoint.port for endpoint in endpoints]


async def test_calls_at_once_share_what_was_asked_and_later_ones_ask_again(
    autojump_clock, forecast
):
    first = ports(await forecast.foresee())
    assert first == [49_154, 49_155, 49_156, 49_157, 49_158]
    assert forecast.statistics().probes == 2
    forecast.sent(Endpoint("30.0.0.1", 9))
    assert ports(await forecast.foresee())[:4] == first[1:]
    assert forecast.statistics().probes == 2
    await trio.sleep(1)
    # The checks of these calls may still be taking ports.
    await forecast.foresee()
    assert forecast.statistics().probes == 4
    await trio.sleep(4)
    # After them the row is looked at once more, for the next call.
    assert forecast.statistics().probes == 6
    await forecast.foresee()
    assert forecast.statistics().probes == 6


async def test_what_is_due_after_one_call_is_not_asked_in_the_middle_of_the_next(
    autojump_clock, forecast
):
    await forecast.foresee()
    settle_s = ForecastConfig().settle_s
    await trio.sleep(settle_s - 0.1)
    await forecast.foresee()
    asked = forecast.statistics().probes
    await trio.sleep(settle_s - 0.1)
    assert forecast.statistics().probes == asked
    await trio.sleep(0.2)
    assert forecast.statistics().probes > asked


async def test_what_is_asked_ahead_of_a_call_is_not_asked_again(
    autojump_clock, forecast
):
    forecast.prepare()
    await trio.sleep(0.1)
    assert forecast.statistics().probes == 2
    await forecast.foresee()
    forecast.prepare()
    assert forecast.statistics() == ForecastStatistics(made=1, probes=2)


async def test_a_call_that_follows_at_once_waits_for_what_is_asked_already(
    autojump_clock, forecast
):
    forecast.prepare()
    first = await forecast.foresee()
    assert forecast.statistics() == ForecastStatistics(made=1, probes=2)
    assert ports(first) == [49_154, 49_155, 49_156, 49_157, 49_158]


async def test_what_stays_inside_takes_no_port(autojump_clock, forecast):
    forecast.is_inside = lambda host: host.startswith("192.168.1.")
    first = await forecast.foresee()
    forecast.sent(Endpoint("192.168.1.200", 9))
    assert await forecast.foresee() == first


async def test_another_nat_has_another_row(autojump_clock, forecast):
    await forecast.foresee()
    forecast.sent(Endpoint("30.0.0.1", 9))
    forecast.forget()
    await forecast.foresee()
    assert forecast.statistics().probes == 4
