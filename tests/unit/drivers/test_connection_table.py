import random

import pytest
import trio

from opnode.core.errors import LocalProtocolError, PeerUnreachable
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connection_table import ConnectionTable
from opnode.drivers.connections import ConnectionsConfig
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.testing.linked import open_linked_pair, seeded_certificate, transport_keys


class BuggyRudp(RudpConnection):
    def handle_deadline(self, now):
        raise KeyError(f"a bug at {now}")


def make_rudp(label, kind=RudpConnection):
    keys, _ = transport_keys(label)
    return kind(initiator=True, keys=keys, config=RudpConfig(), rng=random.Random(1))


async def test_a_full_table_refuses_by_name(autojump_clock):
    async with open_linked_pair() as pair:
        table = ConnectionTable(pair.first.hub, ConnectionsConfig(max_connections=1))
        table.open(make_rudp("one"), seeded_certificate("x"))
        with pytest.raises(PeerUnreachable, match="1 connections"):
            table.open(make_rudp("two"), seeded_certificate("y"))


async def test_one_set_of_keys_makes_one_connection(autojump_clock):
    async with open_linked_pair() as pair:
        table = ConnectionTable(pair.first.hub)
        table.open(make_rudp("one"), seeded_certificate("x"))
        with pytest.raises(LocalProtocolError):
            table.open(make_rudp("one"), seeded_certificate("x"))


async def test_a_closed_connection_leaves_the_table_and_the_hub(autojump_clock):
    async with open_linked_pair() as pair:
        await pair.first.connection.ping()
        pair.first.table.close_all("over")
        await trio.sleep(5)
        for end in (pair.first, pair.second):
            assert end.table.connections() == []
            assert end.hub.statistics().connections == 0


async def test_timers_that_moved_leave_no_growing_heap(autojump_clock):
    async with open_linked_pair() as pair:
        for _ in range(800):
            await pair.first.connection.ping()
            await trio.sleep(0.1)
        assert pair.first.table.timers < 200


async def test_a_bug_in_one_connection_leaves_the_timers_of_the_others(
    autojump_clock, caplog
):
    async with open_linked_pair() as pair:
        table = pair.first.table
        rudp = make_rudp("broken", BuggyRudp)
        broken = table.open(rudp, seeded_certificate("broken"))
        broken.set_path(Path(PathKind.DIRECT, pair.second.hub.local))
        await trio.sleep(300)
        assert broken.closed.is_set()
        assert table.connections() == [pair.first.connection]
        assert await pair.first.connection.ping() >= 0
    assert "a bug" in caplog.text
    caplog.clear()


async def test_a_connection_with_nothing_to_do_holds_no_ciphers_and_still_works(
    autojump_clock,
):
    async with open_linked_pair() as pair:
        await pair.first.connection.ping()
        await trio.sleep(60)
        for end in (pair.first, pair.second):
            keys = end.connection._rudp._rekeying.keys
            assert keys._current is None
        assert await pair.first.connection.ping() >= 0
        assert await pair.second.connection.ping() >= 0


async def test_messages_and_answers_do_not_wake_the_timers_each_time(autojump_clock):
    async with open_linked_pair() as pair, trio.open_nursery() as nursery:
        table, visits = pair.second.table, []
        visit = table._visit
        table._visit = lambda now: (visits.append(now), visit(now))
        ours = await pair.first.connection.open_channel()
        await ours.send_all(b"?")
        theirs = await pair.second.connection.accept_channel()
        nursery.start_soon(answer, theirs)
        await ours.receive_some()
        visits.clear()
        for _ in range(1000):
            await ours.send_all(b"?")
            await ours.receive_some()
        assert len(visits) < 10
        nursery.cancel_scope.cancel()


async def answer(channel):
    while data := await channel.receive_some():
        await channel.send_all(data)
