import math

import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import PeerUnreachable
from opnode.core.ids import PeerId
from opnode.daemon.peer_connections import PeerConnections, PeerConnectionsConfig

ANN = PeerId(bytes([1]) * 32)
BEN = PeerId(bytes([2]) * 32)


class FakeConnection:
    """One side of a connection; the test opens the peer's channels."""

    timings = None
    path = None

    def __init__(self, peer_id=ANN):
        self.peer_id = peer_id
        self.closed = trio.Event()
        self.answers = True
        self._channels = trio.open_memory_channel(math.inf)

    async def accept_channel(self):
        try:
            return await self._channels[1].receive()
        except trio.EndOfChannel:
            raise trio.BrokenResourceError("ended") from None

    def open_from_peer(self):
        ours, theirs = memory_stream_pair()
        self._channels[0].send_nowait(ours)
        return theirs

    async def ping(self):
        if not self.answers:
            await trio.sleep_forever()
        return 0.001

    def close(self, code, reason):
        assert code == 0
        self.close_reason = reason
        self.closed.set()
        self._channels[0].close()

    async def aclose(self):
        self.close(0, "")

    def statistics(self):
        return None


class FakeNode:
    def __init__(self):
        self.made = []
        self.incoming = trio.open_memory_channel(math.inf)

    async def connect(self, peer_id):
        await trio.lowlevel.checkpoint()
        if peer_id == BEN:
            raise PeerUnreachable("gone")
        self.made.append(FakeConnection(peer_id))
        return self.made[-1]

    async def accept_connection(self):
        return await self.incoming[1].receive()


class World:
    def __init__(self, config=None):
        self.node = FakeNode()
        self.served = []
        self.pool = PeerConnections(self.node, self.serve, config)

    async def serve(self, peer_id, channel):
        self.served.append(peer_id)
        await channel.receive_some(1)


@pytest.fixture
async def world(nursery):
    world = World()
    await nursery.start(world.pool.run)
    return world


async def test_k_7_verbs_share_one_connection_to_a_peer(world):
    async with world.pool.borrow(ANN) as first, world.pool.borrow(ANN) as second:
        assert first is second
    assert len(world.node.made) == 1
    assert world.pool.connections() == (world.node.made[0],)


async def test_two_who_want_a_connection_at_once_get_the_same(world):
    got = []

    async def borrow():
        async with world.pool.borrow(ANN) as connection:
            got.append(connection)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(borrow)
        nursery.start_soon(borrow)
    assert got[0] is got[1]


async def test_an_unreachable_peer_is_an_error_every_time(world):
    for _ in range(2):
        with pytest.raises(PeerUnreachable):
            async with world.pool.borrow(BEN):
                pytest.fail("borrowed")
    assert world.pool._locks == {}


async def test_a_connection_that_ended_is_replaced(world):
    async with world.pool.borrow(ANN) as first:
        await first.aclose()
    async with world.pool.borrow(ANN) as second:
        assert second is not first
        assert not second.closed.is_set()


async def test_the_connection_of_a_caller_serves_the_way_back(world):
    incoming = FakeConnection()
    world.node.incoming[0].send_nowait(incoming)
    await trio.testing.wait_all_tasks_blocked()
    async with world.pool.borrow(ANN) as connection:
        assert connection is incoming
    assert world.node.made == []


async def test_hanging_up_ends_what_others_use_and_tells_how_many(world):
    async with world.pool.borrow(ANN) as connection:
        assert world.pool.hang_up(ANN) == 1
        assert connection.close_reason == "hung up"
    assert world.pool.hang_up(ANN) == 0


async def test_channels_of_the_peer_are_served_on_both_kinds_of_connection(world):
    incoming = FakeConnection(BEN)
    world.node.incoming[0].send_nowait(incoming)
    incoming.open_from_peer()
    async with world.pool.borrow(ANN) as connection:
        connection.open_from_peer()
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(world.served) == [ANN, BEN]


async def test_a_connection_both_made_and_accepted_is_served_once(world):
    async with world.pool.borrow(ANN) as connection:
        world.node.incoming[0].send_nowait(connection)
        await trio.testing.wait_all_tasks_blocked()
        connection.open_from_peer()
        await trio.testing.wait_all_tasks_blocked()
    assert world.served == [ANN]
    assert len(world.pool.connections()) == 1


async def test_k_7_a_silent_connection_is_asked_before_it_is_used(
    autojump_clock, nursery
):
    world = World(PeerConnectionsConfig(linger_s=1000.0))
    await nursery.start(world.pool.run)
    async with world.pool.borrow(ANN) as first:
        pass
    await trio.sleep(10)
    first.answers = False
    async with world.pool.borrow(ANN) as second:
        assert second is not first
    assert first.closed.is_set()
    assert first.close_reason == "the peer fell silent"


async def test_k_7_our_unused_connection_is_closed_and_a_used_one_is_not(
    autojump_clock, nursery
):
    world = World()
    await nursery.start(world.pool.run)
    async with world.pool.borrow(ANN) as connection:
        await trio.sleep(100)
        assert not connection.closed.is_set()
    await trio.sleep(50)
    assert connection.closed.is_set()
    assert connection.close_reason == "not used any more"
    assert world.pool.connections() == ()


async def test_a_served_channel_keeps_the_connection(autojump_clock, nursery):
    world = World()
    await nursery.start(world.pool.run)
    async with world.pool.borrow(ANN) as connection:
        peer_end = connection.open_from_peer()
        await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(200)
    assert not connection.closed.is_set()
    await peer_end.aclose()
    await trio.sleep(200)
    assert connection.closed.is_set()


async def test_a_peer_cannot_open_more_channels_than_its_share(nursery):
    world = World(PeerConnectionsConfig(max_channels=2))
    await nursery.start(world.pool.run)
    async with world.pool.borrow(ANN) as connection:
        ends = [connection.open_from_peer() for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.served) == 2
        assert await ends[2].receive_some(1) == b""


async def test_connections_beyond_the_limit_are_refused(nursery):
    world = World(PeerConnectionsConfig(max_links=1))
    await nursery.start(world.pool.run)
    first, second = FakeConnection(ANN), FakeConnection(BEN)
    for connection in (first, second):
        world.node.incoming[0].send_nowait(connection)
    await trio.testing.wait_all_tasks_blocked()
    assert not first.closed.is_set()
    assert second.closed.is_set()
    assert second.close_reason == "too many connections"
