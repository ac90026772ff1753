import hashlib
import random

import pytest
import trio

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.config import RudpConfig
from opnode.testing.linked import open_linked_pair
from opnode.testing.virtual_network import Link

ROUGH = Link(latency_s=(0.01, 0.03), loss=0.05, duplicate=0.02, reorder=0.05)


async def channel_pair(pair):
    ours = await pair.first.connection.open_channel()
    await ours.send_all(b"?")
    theirs = await pair.second.connection.accept_channel()
    assert await theirs.receive_some() == b"?"
    return ours, theirs


async def test_what_is_sent_arrives_and_ends_where_it_ended(autojump_clock):
    payload = random.Random(5).randbytes(700_000)
    async with open_linked_pair(ROUGH) as pair:
        ours, theirs = await channel_pair(pair)

        async def send():
            await ours.send_all(payload)
            await ours.send_eof()

        digest = hashlib.sha256()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for data in theirs:
                digest.update(data)
    assert digest.digest() == hashlib.sha256(payload).digest()


async def test_half_close_leaves_the_other_direction_open(autojump_clock):
    async with open_linked_pair() as pair:
        ours, theirs = await channel_pair(pair)
        await ours.send_eof()
        assert await theirs.receive_some() == b""
        await theirs.send_all(b"still here")
        assert await ours.receive_some() == b"still here"
        await theirs.send_eof()
        assert await ours.receive_some() == b""
        assert await ours.receive_some() == b""


async def test_a_slow_reader_holds_the_sender_back(autojump_clock):
    async with open_linked_pair() as pair:
        ours, theirs = await channel_pair(pair)
        sent = 0
        with trio.move_on_after(5):
            while True:
                await ours.send_all(bytes(65_536))
                sent += 65_536
        limits = RudpConfig()
        assert sent <= limits.channel_window + limits.send_buffer + 65_536
        assert len(await theirs.receive_some(10)) == 10


async def test_a_slow_reader_does_not_stall_another_channel(autojump_clock):
    async with open_linked_pair() as pair:
        stuck, _ = await channel_pair(pair)
        with trio.move_on_after(5):
            while True:
                await stuck.send_all(bytes(65_536))
        ours, theirs = await channel_pair(pair)
        with trio.fail_after(1):
            await ours.send_all(b"free")
            assert await theirs.receive_some() == b"free"


async def test_reset_breaks_the_reader_and_the_writer_of_the_peer(autojump_clock):
    async with open_linked_pair() as pair:
        ours, theirs = await channel_pair(pair)
        await ours.reset(7)
        with pytest.raises(trio.BrokenResourceError, match="code 7"):
            await theirs.receive_some()
        await trio.sleep(1)
        with pytest.raises(trio.BrokenResourceError):
            await theirs.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"x")


async def test_a_channel_closed_here_is_closed_for_its_waiting_tasks(autojump_clock):
    async with open_linked_pair() as pair:
        ours, _ = await channel_pair(pair)

        async def read():
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(1)
            await ours.aclose()
            await ours.aclose()


async def test_aclose_still_delivers_what_was_sent(autojump_clock):
    async with open_linked_pair(ROUGH) as pair:
        ours, theirs = await channel_pair(pair)
        await ours.send_all(b"last words")
        await ours.aclose()
        received = b"".join([data async for data in theirs])
    assert received == b"last words"


async def test_wait_delivered_returns_when_the_peer_has_everything(autojump_clock):
    async with open_linked_pair(ROUGH) as pair:
        ours, theirs = await channel_pair(pair)
        with pytest.raises(LocalProtocolError):
            await ours.wait_delivered()
        await ours.send_all(bytes(200_000))
        await ours.send_eof()
        await ours.wait_delivered()
        await pair.first.connection.aclose()
        received = 0
        while received < 200_000:
            received += len(await theirs.receive_some())
        assert received == 200_000


async def test_two_tasks_cannot_use_one_direction_at_once(autojump_clock):
    async with open_linked_pair() as pair:
        ours, _ = await channel_pair(pair)

        async def read():
            with trio.move_on_after(1):
                await ours.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.1)
            with pytest.raises(trio.BusyResourceError):
                await ours.receive_some()


async def test_a_cancelled_read_loses_nothing(autojump_clock):
    async with open_linked_pair() as pair:
        ours, theirs = await channel_pair(pair)
        with trio.move_on_after(1):
            await theirs.receive_some()
        await ours.send_all(b"abc")
        assert await theirs.receive_some() == b"abc"
        with pytest.raises(ValueError, match="at least 1"):
            await theirs.receive_some(0)


async def test_sending_after_the_end_is_our_own_mistake(autojump_clock):
    async with open_linked_pair() as pair:
        ours, _ = await channel_pair(pair)
        await ours.send_eof()
        await ours.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await ours.wait_send_all_might_not_block()


async def test_an_urgent_channel_overtakes_bulk(autojump_clock):
    async with open_linked_pair(Link(latency_s=(0.01, 0.01))) as pair:
        bulk, bulk_there = await channel_pair(pair)
        urgent, urgent_there = await channel_pair(pair)
        with pytest.raises(LocalProtocolError, match="urgency of 8"):
            urgent.set_urgency(8)
        urgent.set_urgency(0)
        with trio.move_on_after(0.1):
            await bulk.send_all(bytes(20 << 20))
        await urgent.send_all(b"quick")
        with trio.fail_after(0.1):
            assert await urgent_there.receive_some() == b"quick"
        assert await bulk_there.receive_some()
