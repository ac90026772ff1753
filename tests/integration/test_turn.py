"""Our TURN client against Debian's coturn, whose nonces are stale after 10 s."""

import pytest
import trio

from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.turn.allocation import TurnConfig
from opnode.drivers.turn.turn import TurnTransport
from tests.integration.coturn import STALE_NONCE_S, running_coturn
from tests.turn_contract import TurnContract, candidate, exchanged, running_node

pytestmark = pytest.mark.integration


class TestCoturnByUdp(TurnContract):
    transport = TurnTransport.UDP

    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def network(self) -> SystemNetwork:
        return SystemNetwork()

    @pytest.fixture
    def address(self) -> str:
        return "127.0.0.1"

    @pytest.fixture
    async def server(self, tmp_path):
        async with running_coturn(tmp_path, self.transport) as server:
            yield server


class TestCoturnByTcp(TestCoturnByUdp):
    transport = TurnTransport.TCP


async def test_a_channel_outlives_stale_nonces(tmp_path):
    """Each renewal meets a nonce that is stale: 438, and again with the new one."""
    config = TurnConfig(refresh_s=4.0, permission_s=3.0)
    network = SystemNetwork()
    async with (
        running_coturn(tmp_path, TurnTransport.UDP) as server,
        running_node(network, "127.0.0.1", server, config=config) as node,
    ):
        await node.wait_relayed()
        peer = await network.bind(node.hub.local._replace(port=0))
        node.turn.open_way([candidate(peer.local)])
        ends_at = trio.current_time() + STALE_NONCE_S + 6
        while trio.current_time() < ends_at:
            await exchanged(node, peer, b"%f" % trio.current_time())
            await trio.sleep(0.5)
        statistics = node.turn.statistics()
        assert statistics.allocation is not None
        assert statistics.allocation.failures == 0
        peer.close()
    assert b"Wrong nonce" in (tmp_path / "coturn.log").read_bytes() or (
        b"438" in (tmp_path / "coturn.log").read_bytes()
    )
