import contextlib
import random

import pytest
import trio

from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.drivers.messages import PACK_SIZE, MessageChannel
from opnode.protocols.message_framing import encode_length
from opnode.testing.linked import open_linked_pair
from opnode.testing.virtual_network import Link

ROUGH = Link(latency_s=(0.01, 0.03), loss=0.05, duplicate=0.02, reorder=0.05)


@contextlib.asynccontextmanager
async def message_pair(link=None, **options):
    async with open_linked_pair(link) as pair:
        ours = await pair.first.connection.open_channel()
        theirs = await pair.second.connection.accept_channel()
        yield (
            MessageChannel(ours, **options),
            MessageChannel(theirs, **options),
            pair,
        )


async def test_messages_arrive_whole_and_in_order_over_a_lossy_link(autojump_clock):
    dice = random.Random(3)
    sent = [dice.randbytes(dice.choice((0, 1, 63, 64, 900, 20_000))) for _ in range(99)]
    async with message_pair(ROUGH) as (ours, theirs, _):

        async def send():
            await ours.send_batch(sent[:50])
            for message in sent[50:]:
                await ours.send(message)
            await ours.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert [message async for message in theirs] == sent
        with pytest.raises(trio.EndOfChannel):
            await theirs.receive()


async def test_a_lone_message_leaves_before_send_returns(autojump_clock):
    async with message_pair(Link(latency_s=(0.01, 0.01))) as (ours, theirs, _):
        started_at = trio.current_time()
        await ours.send(b"now")
        assert await theirs.receive() == b"now"
        assert trio.current_time() - started_at == pytest.approx(0.01, abs=0.001)


async def test_messages_written_in_one_go_leave_packed_with_the_next_checkpoint(
    autojump_clock,
):
    async with message_pair(Link(latency_s=(0.01, 0.01))) as (ours, theirs, pair):
        await trio.sleep(1)
        before = pair.first.connection.statistics().packets_sent
        for _ in range(10):
            ours.send_nowait(bytes(100))
        assert pair.first.connection.statistics().packets_sent == before
        started_at = trio.current_time()
        assert await theirs.receive_batch() == [bytes(100)] * 10
        assert trio.current_time() - started_at == pytest.approx(0.01, abs=0.001)
        assert pair.first.connection.statistics().packets_sent == before + 1


async def test_batches_hold_everything_and_end_with_the_channel(autojump_clock):
    async with message_pair() as (ours, theirs, _):

        async def send():
            for index in range(1000):
                ours.send_nowait(index.to_bytes(2, "big"))
            await ours.send_eof()

        found = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for batch in theirs.receive_batches():
                assert batch
                found += batch
        assert found == [index.to_bytes(2, "big") for index in range(1000)]


async def test_receive_and_receive_batch_share_what_came(autojump_clock):
    async with message_pair() as (ours, theirs, _):
        await ours.send_batch([b"1", b"2", b"3"])
        assert await theirs.receive() == b"1"
        assert await theirs.receive_batch() == [b"2", b"3"]


async def test_whoever_does_not_wait_is_told_when_the_window_is_full(autojump_clock):
    async with message_pair() as (ours, theirs, _):
        sent = 0
        with trio.move_on_after(5):
            while True:
                await ours.send(sent.to_bytes(4, "big") + bytes(9996))
                sent += 1
        with pytest.raises(trio.WouldBlock):
            ours.send_nowait(b"too early")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send, b"waited")
            for index in range(sent):
                message = await theirs.receive()
                assert message[:4] == index.to_bytes(4, "big")
            assert await theirs.receive() == b"waited"


async def test_what_was_collected_leaves_although_its_sender_does_not_wait(
    autojump_clock,
):
    async with message_pair() as (ours, theirs, _):
        count = 0
        with contextlib.suppress(trio.WouldBlock):
            while True:
                ours.send_nowait(bytes(60_000))
                count += 1
        found = 0
        while found < count:
            found += len(await theirs.receive_batch())


async def test_many_messages_bound_the_memory_of_the_sender(autojump_clock):
    async with message_pair() as (ours, _, _):
        with contextlib.suppress(trio.WouldBlock):
            while True:
                ours.send_nowait(bytes(1000))
        packer = ours._packer
        held = sum(map(len, packer._pending)) + packer._rest.nbytes
        assert held <= PACK_SIZE + 1002


async def test_a_message_that_is_too_long_is_refused_by_its_sender(autojump_clock):
    async with message_pair(max_size=10) as (ours, theirs, _):
        with pytest.raises(LocalProtocolError, match="11 bytes, at most 10"):
            ours.send_nowait(bytes(11))
        with pytest.raises(LocalProtocolError, match="11 bytes, at most 10"):
            await ours.send(bytes(11))
        await ours.send(b"fits")
        assert await theirs.receive() == b"fits"


async def test_a_message_that_is_too_long_can_still_be_read_as_a_stream(autojump_clock):
    async with message_pair(max_size=10) as (ours, theirs, _):
        outgoing = await ours.open_message(5000)
        await outgoing.send_all(bytes(2000))
        with pytest.raises(trio.BusyResourceError):
            await ours.send(b"in between")
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match="5000 bytes, at most 10"):
                await theirs.receive()
        async with await theirs.receive_message() as incoming:
            assert incoming.size == 5000
            assert len(await incoming.receive_some(100)) == 100
            with pytest.raises(trio.BusyResourceError):
                await theirs.receive()
            async with outgoing:
                await outgoing.send_all(bytearray(3000))
            await ours.send(b"after")
            rest = b"".join([part async for part in incoming])
            assert rest == bytes(4900)
        assert await theirs.receive() == b"after"


async def test_a_huge_message_passes_without_being_held(autojump_clock):
    size = 40 << 20
    async with message_pair() as (ours, theirs, _):

        async def send():
            async with await ours.open_message(size) as outgoing:
                for _ in range(size >> 16):
                    await outgoing.send_all(bytes(1 << 16))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async with await theirs.receive_message() as incoming:
                found = 0
                async for part in incoming:
                    assert len(part) <= 1 << 18
                    found += len(part)
        assert found == size


async def test_a_short_message_can_be_read_piece_by_piece_too(autojump_clock):
    async with message_pair() as (ours, theirs, _):
        await ours.send_batch([b"first", b"second", b""])
        assert await theirs.receive() == b"first"
        async with await theirs.receive_message() as incoming:
            assert incoming.size == 6
            assert await incoming.receive_some(4) == b"seco"
            assert await incoming.receive_some() == b"nd"
            assert await incoming.receive_some() == b""
        assert await theirs.receive() == b""


async def test_what_is_not_read_of_a_message_is_skipped(autojump_clock):
    async with message_pair() as (ours, theirs, _), trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_batch, [bytes(900_000), b"next"])
        async with await theirs.receive_message() as incoming:
            await incoming.receive_some(10)
        assert await theirs.receive() == b"next"


async def test_a_message_left_half_written_resets_the_channel(autojump_clock):
    async with message_pair() as (ours, theirs, _):
        outgoing = await ours.open_message(100)
        with pytest.raises(LocalProtocolError, match="101 bytes for a message"):
            await outgoing.send_all(bytes(101))
        await outgoing.wait_send_all_might_not_block()
        await outgoing.send_all(bytes(40))
        with pytest.raises(LocalProtocolError, match="ended 60 bytes early"):
            async with outgoing:
                pass
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive()


async def test_closing_a_half_written_message_resets_the_channel(autojump_clock):
    async with message_pair() as (ours, theirs, _):
        outgoing = await ours.open_message(100)
        await outgoing.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send(b"x")


async def test_a_cancelled_skip_resets_the_channel(autojump_clock):
    async with message_pair() as (ours, theirs, _):
        await ours.open_message(100)
        incoming = await theirs.receive_message()
        with trio.move_on_after(1) as scope:
            await incoming.aclose()
        assert scope.cancelled_caught
        with pytest.raises(trio.ClosedResourceError):
            await theirs.receive()


@pytest.mark.parametrize("kept", [1, 2, 50])
async def test_an_end_inside_a_message_is_the_peers_mistake(kept, autojump_clock):
    async with message_pair() as (ours, theirs, _):
        await ours.channel.send_all((encode_length(100) + bytes(100))[:kept])
        await ours.channel.send_eof()
        with pytest.raises(RemoteProtocolError, match="inside a message"):
            await theirs.receive()


async def test_an_end_inside_a_streamed_message_says_how_much_is_missing(
    autojump_clock,
):
    async with message_pair() as (ours, theirs, _):
        await ours.channel.send_all(encode_length(100) + bytes(30))
        await ours.channel.send_eof()
        incoming = await theirs.receive_message()
        assert await incoming.receive_some() == bytes(30)
        with pytest.raises(RemoteProtocolError, match="70 bytes before the end"):
            await incoming.receive_some()


async def test_aclose_delivers_what_was_collected(autojump_clock):
    async with message_pair(ROUGH) as (ours, theirs, _):
        ours.send_nowait(b"last words")
        await ours.aclose()
        assert [message async for message in theirs] == [b"last words"]


async def test_a_broken_channel_is_told_to_whoever_sends_next(autojump_clock):
    async with message_pair() as (ours, theirs, _):
        await theirs.channel.reset(7)
        await trio.sleep(1)
        with pytest.raises(trio.BrokenResourceError):
            ours.send_nowait(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await ours.send(b"x")
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send(b"x")


async def test_a_sender_that_waits_for_room_learns_that_the_channel_broke(
    autojump_clock,
):
    async with message_pair() as (ours, theirs, _):

        async def send_for_ever():
            while True:
                await ours.send(bytes(60_000))

        async def send():
            with pytest.raises(trio.BrokenResourceError):
                await send_for_ever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(5)
            await theirs.channel.reset(7)


async def test_two_tasks_may_send_and_none_of_their_messages_is_torn(autojump_clock):
    async with message_pair() as (ours, theirs, _):

        async def send(letter):
            for _ in range(20):
                await ours.send(letter * 100_000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, b"a")
            nursery.start_soon(send, b"b")
            found = [await theirs.receive() for _ in range(40)]
        assert sorted(found) == [b"a" * 100_000] * 20 + [b"b" * 100_000] * 20


async def test_only_one_task_may_receive(autojump_clock):
    async with message_pair() as (_, theirs, _), trio.open_nursery() as nursery:
        nursery.start_soon(theirs.receive)
        await trio.sleep(0.1)
        with pytest.raises(trio.BusyResourceError):
            await theirs.receive_batch()
        nursery.cancel_scope.cancel()
