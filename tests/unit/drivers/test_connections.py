import pytest
import trio
import trio.testing

from opnode.core.addresses import Endpoint
from opnode.core.errors import LocalProtocolError
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connections import ConnectionsConfig
from opnode.protocols.rudp.config import RudpConfig
from opnode.testing.linked import HOSTS, open_linked_pair, seeded_certificate
from opnode.testing.virtual_network import Link

NEAR = Link(latency_s=(0.0002, 0.0002))
SLOW = Link(latency_s=(0.05, 0.05))


async def test_a_ping_measures_the_round_trip(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        assert await pair.first.connection.ping() == pytest.approx(0.1, abs=0.01)


async def test_datagrams_arrive_whole(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        for number in range(5):
            await pair.first.connection.send_datagram(b"%d" % number)
        received = [await pair.second.connection.receive_datagram() for _ in range(5)]
        assert received == [b"0", b"1", b"2", b"3", b"4"]
        with pytest.raises(LocalProtocolError, match="at most"):
            await pair.first.connection.send_datagram(bytes(2000))


async def test_a_full_datagram_queue_drops_the_oldest(autojump_clock):
    async with open_linked_pair() as pair:
        limit = pair.second.table.config.max_datagrams
        for number in range(limit + 10):
            await pair.first.connection.send_datagram(b"%d" % number)
            await trio.sleep(0.01)
        assert await pair.second.connection.receive_datagram() == b"10"
        assert pair.second.connection.statistics().datagrams_dropped == 10


async def test_a_datagram_waits_for_room_instead_of_being_dropped(autojump_clock):
    limits = ConnectionsConfig(max_datagrams=10_000)
    async with open_linked_pair(SLOW) as pair:
        pair.second.table.config = limits
        sender = pair.first.connection
        for number in range(2000):
            await sender.send_datagram(number.to_bytes(2, "big") + bytes(1000))
        await trio.sleep(1)
        assert sender.statistics().packets_lost == 0
        for number in range(2000):
            data = await pair.second.connection.receive_datagram()
            assert data[:2] == number.to_bytes(2, "big")
        assert pair.second.connection.statistics().datagrams_dropped == 0


async def test_dropping_a_datagram_is_the_callers_choice_and_he_is_told(
    autojump_clock,
):
    async with open_linked_pair(SLOW) as pair:
        taken = [
            pair.first.connection.send_datagram_nowait(bytes(1000)) for _ in range(999)
        ]
        assert taken[0]
        assert not taken[-1]
        await trio.sleep(1)
        assert pair.first.connection.send_datagram_nowait(b"again")


async def test_whoever_waits_for_room_for_a_datagram_hears_of_the_end(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        sender = pair.first.connection
        while sender.send_datagram_nowait(bytes(1000)):
            pass

        async def send():
            with pytest.raises(trio.ClosedResourceError):
                await sender.send_datagram(b"waits")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            sender.close(0, "")


async def test_the_peer_hears_why_a_connection_was_closed(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        pair.first.connection.close(3, "enough")
        await pair.second.connection.closed.wait()
        assert "peer: enough (3)" in pair.second.connection.close_reason
        with pytest.raises(trio.BrokenResourceError):
            await pair.second.connection.open_channel()
        with pytest.raises(trio.ClosedResourceError):
            await pair.first.connection.open_channel()


async def test_everybody_who_waits_hears_that_the_connection_ended(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        connection = pair.second.connection

        async def expect_broken(wait):
            with pytest.raises(trio.BrokenResourceError):
                await wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_broken, connection.accept_channel)
            nursery.start_soon(expect_broken, connection.receive_datagram)
            await trio.sleep(1)
            pair.network.kill(HOSTS[0])
            nursery.start_soon(expect_broken, connection.ping)


async def test_a_silent_path_ends_the_connection_after_the_idle_time(autojump_clock):
    config = RudpConfig(idle_timeout_s=20, keep_alive_s=5)
    async with open_linked_pair(SLOW, config=config) as pair:
        await pair.first.connection.ping()
        await trio.sleep(100)
        assert pair.first.connection.close_reason is None
        pair.network.kill(HOSTS[1])
        with trio.fail_after(30):
            await pair.first.connection.closed.wait()
        assert "network" in pair.first.connection.close_reason


async def test_a_connection_follows_its_peer_to_another_path(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        first, second = pair.first.connection, pair.second.connection
        moved = Path(PathKind.DIRECT, pair.second.hub.local)
        first.set_path(moved)
        assert first.path == moved
        assert await first.ping() > 0
        assert second.path.endpoint == pair.first.hub.local


async def test_what_leads_the_path_in_use_may_become_known_only_later(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        connection = pair.first.connection
        relay = Endpoint("198.51.100.1", 4000)
        named = Path(PathKind.RELAY, connection.path.endpoint, relay)
        assert connection.add_path(named)
        assert connection.path == named


async def test_a_full_socket_delays_and_loses_nothing(autojump_clock):
    async with open_linked_pair() as pair:
        socket = pair.first.hub._socket
        channel = await pair.first.connection.open_channel()
        socket.stall()
        await channel.send_all(b"late")
        await trio.sleep(0.001)
        socket.resume()
        theirs = await pair.second.connection.accept_channel()
        assert await theirs.receive_some() == b"late"


async def test_opening_waits_while_the_peer_allows_no_more_channels(autojump_clock):
    config = RudpConfig(max_channels=128)
    async with open_linked_pair(config=config) as pair:
        opened = []
        with trio.move_on_after(1):
            while True:
                channel = await pair.first.connection.open_channel()
                await channel.send_all(b"x")
                opened.append(channel)
        assert len(opened) >= 128
        for _ in opened:
            theirs = await pair.second.connection.accept_channel()
            await theirs.aclose()
        for channel in opened:
            await channel.aclose()
        with trio.fail_after(5):
            await pair.first.connection.open_channel()


async def test_a_connection_tells_whom_it_reaches(autojump_clock):
    async with open_linked_pair() as pair:
        certificate = seeded_certificate(HOSTS[0])
        assert pair.first.connection.peer_id == certificate.peer_id
        assert pair.first.connection.statistics().packets_sent >= 0


async def test_cancelled_pings_leave_nothing_behind(autojump_clock):
    async with open_linked_pair(SLOW) as pair:
        connection = pair.first.connection
        await connection.ping()
        pair.network.kill(HOSTS[1])
        for _ in range(3 * RudpConfig().max_pings):
            with trio.move_on_after(0.01) as scope:
                await connection.ping()
            assert scope.cancelled_caught


async def test_more_pings_at_once_than_allowed_find_the_connection_busy(autojump_clock):
    async with open_linked_pair(SLOW) as pair, trio.open_nursery() as nursery:
        connection = pair.first.connection
        for _ in range(RudpConfig().max_pings):
            nursery.start_soon(connection.ping)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="16 pings"):
            await connection.ping()


async def test_channels_that_were_reset_before_anybody_took_them_are_forgotten(
    autojump_clock,
):
    async with open_linked_pair() as pair:
        first, second = pair.first.connection, pair.second.connection
        for _ in range(300):
            channel = await first.open_channel()
            await channel.reset(7)
            await trio.sleep(0.01)
        kept = await first.open_channel()
        await kept.send_all(b"x")
        await trio.sleep(1)
        assert len(second._channels) == 1
        assert second.statistics().channels_open == 1
        theirs = await second.accept_channel()
        assert await theirs.receive_some() == b"x"


async def test_the_rest_of_a_large_write_leaves_with_the_next_or_soon_by_itself(
    autojump_clock, monkeypatch
):
    async with open_linked_pair(NEAR) as pair:
        channel = await pair.first.connection.open_channel()
        await channel.send_all(bytes(3 << 20))
        taken = await pair.second.connection.accept_channel()
        left = 3 << 20
        while left:
            left -= len(await taken.receive_some())
        await trio.sleep(1)
        assert pair.first.connection.statistics().congestion_window > 10 << 16
        sizes = []
        send = pair.first.hub.send

        def counted(data, *rest):
            sizes.append(len(data))
            return send(data, *rest)

        monkeypatch.setattr(pair.first.hub, "send", counted)
        started_at = trio.current_time()
        for _ in range(10):
            await channel.send_all(bytes(1 << 16))
        left = 10 << 16
        while left:
            left -= len(await taken.receive_some())
        # 10.5 bursts; a rest for every write would make it 20.
        assert len(sizes) <= 14
        assert trio.current_time() - started_at < 0.005
