import pytest
import trio

from opnode.core.errors import PeerUnreachable
from opnode.testing.overlay import open_overlay


async def test_a_peer_that_no_longer_consents_ends_the_connection(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection = await alice.connect(bob.peer_id)
        overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
        with trio.fail_after(60):
            await connection.closed.wait()
        assert "consent" in connection.close_reason
        await trio.sleep(10)
        assert alice.connector.ice.statistics().sessions == 0


async def test_the_first_packet_is_heard_before_our_own_checks_are_done(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection = await alice.connect(bob.peer_id)
        await connection.ping()
        assert bob.statistics().traffic.unknown_connection == 0


async def test_a_meeting_without_a_path_leaves_nothing(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
        with pytest.raises(PeerUnreachable):
            await alice.connect(bob.peer_id)
        await trio.sleep(30)
        for node in (alice, bob):
            assert node.connector.ice.statistics().sessions == 0
            assert node.statistics().traffic.connections == 0
