import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import PeerUnreachable
from opnode.drivers.connection_paths import Path, PathKind
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


async def test_the_end_of_consent_is_nothing_to_a_connection_that_moved_on(
    autojump_clock,
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection = await alice.connect(bob.peer_id)
        await connection.ping()
        elsewhere = Endpoint("10.0.0.3", 4999)
        socket = await overlay.network.host("10.0.0.3").bind(elsewhere)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forward, socket, alice.endpoint, bob.endpoint)
            connection.set_path(Path(PathKind.DIRECT, elsewhere))
            with trio.fail_after(10):
                while connection.path.endpoint != elsewhere:
                    await connection.ping()
            for meeting in alice.connector._meetings.values():
                session = meeting._direct._standing.session
                await session.close()
                session.doubtful.set()
                session.lost.set()
            await trio.sleep(20)
            assert await connection.ping() > 0
            assert connection.close_reason is None
            nursery.cancel_scope.cancel()


async def forward(socket, one, other):
    """Carry datagrams between two endpoints, from an address of one's own."""
    while True:
        await socket.wait_readable()
        while (received := socket.receive()) is not None:
            to = other if received.source == one else one
            socket.send(bytes(received.buffer), to, received.segment_size)
