import pytest

from opnode.core.ids import node_id_of
from opnode.drivers.connection_paths import PathKind
from opnode.protocols.nat.mapping import MappingKind
from opnode.testing.overlay import open_overlay
from opnode.testing.virtual_network import Link

LINK = Link(latency_s=(0.025, 0.025))


@pytest.mark.parametrize(
    ("behind", "hold_s"), [("full", 0.0), ("port", 0.0), ("seq", 0.0), ("sym", 0.07)]
)
async def test_only_behind_random_ports_the_one_check_of_a_callee_waits(
    autojump_clock, behind, hold_s
):
    async with open_overlay(5, public=True, link=LINK) as overlay:
        node = await overlay.user(behind=behind)
        # A round trip to the introducer, and a little.
        assert node.connector.ice.hold_s() == pytest.approx(hold_s, abs=0.01)


async def test_behind_a_nat_that_a_lone_server_cannot_tell_the_check_waits_as_well(
    autojump_clock,
):
    async with open_overlay(1, public=True, link=LINK) as overlay:
        node = await overlay.user(behind="sym")
        assert node._parts.observed.nat.kind is MappingKind.UNKNOWN
        assert node.connector.ice.hold_s() == pytest.approx(0.07, abs=0.01)
        open_node = await overlay.user()
        assert open_node.connector.ice.hold_s() == 0.0


async def test_a_callee_with_random_ports_meets_a_caller_who_lets_in_known_hosts(
    autojump_clock,
):
    """Its one check must not come before the caller has sent something itself."""
    async with open_overlay(5, public=True, link=LINK) as overlay:
        caller = await overlay.user(behind="addr")
        callee = await overlay.user(behind="sym")
        connection = await caller.connect(callee.peer_id)
        assert connection.path.kind is PathKind.DIRECT


async def test_nobody_counts_ports_where_they_do_not_come_in_a_row(autojump_clock):
    async with open_overlay(5, public=True, link=LINK) as overlay:
        for behind in ("port", "sym"):
            node = await overlay.user(behind=behind)
            assert node._parts.hub.on_send is None
        node = await overlay.user()
        assert node._parts.hub.on_send is None
        node = await overlay.user(behind="seq")
        assert node._parts.hub.on_send is not None


@pytest.mark.parametrize("behind", ["port", "seq", "sym"])
async def test_a_node_takes_the_place_of_its_outer_address(autojump_clock, behind):
    async with open_overlay(5, public=True, link=LINK) as overlay:
        node = await overlay.user(behind=behind)
        outside = overlay.nat_of(node).address
        assert node.node_id == node_id_of(node.node_public_key, outside)
        offered = node.connector.ice.candidates.observed
        assert {endpoint.host for endpoint in offered} == {outside}
