"""Whole nodes behind every pair of NATs with a direct path find it, without a relay."""

import pytest
import trio

from opnode.core.errors import NetworkError
from opnode.node.config import NodeConfig, Role
from opnode.testing.overlay import open_overlay
from opnode.testing.seeded_secrets import seeded_secrets
from opnode.testing.virtual_network import Link

pytestmark = pytest.mark.slow

KINDS = ("open", "full", "addr", "port", "sym", "seq")
HOPELESS = ({"sym"}, {"sym", "port"}, {"sym", "seq"})
LINK = Link(latency_s=(0.0, 0.005), distance_s=(0.01, 0.07))
CONNECT_S = 10.0

PAIRS = [
    (caller, callee)
    for caller in KINDS
    for callee in KINDS
    if {caller, callee} not in HOPELESS
]


@pytest.fixture(autouse=True)
def repeatable():
    with seeded_secrets(1):
        yield


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
async def test_a_pair_with_a_direct_path_finds_it(autojump_clock, caller, callee):
    config = NodeConfig(role=Role.LEAF)
    async with open_overlay(6, link=LINK, public=True) as overlay:
        one = await overlay.user(behind=caller, config=config)
        other = await overlay.user(behind=callee, config=config)
        try:
            with trio.fail_after(CONNECT_S):
                connection = await one.connect(other.peer_id)
                await other.accept_connection()
        except (NetworkError, trio.TooSlowError) as failure:
            pytest.fail(f"{caller} to {callee}: {failure}")
        assert connection.path.kind.value == "direct"
        await connection.aclose()
