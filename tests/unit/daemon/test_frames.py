import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.daemon.frames import HELLO, MAX_FRAME, FrameStream, Hello, Refused

REFUSED = msgspec.msgpack.Decoder(Refused)


async def test_messages_arrive_in_order_however_the_bytes_are_split():
    sender, receiver = memory_stream_pair()
    frames = FrameStream(receiver, HELLO)
    collected = bytearray()

    class Collector:
        async def send_all(self, data):
            collected.extend(data)

    await FrameStream(Collector(), HELLO).send(Hello("file"), Hello("chat"))
    async with trio.open_nursery() as nursery:

        async def drip():
            for byte in bytes(collected):
                await sender.send_all(bytes([byte]))
            await sender.send_eof()

        nursery.start_soon(drip)
        assert await frames.receive_untrusted() == Hello("file")
        assert await frames.receive_untrusted() == Hello("chat")
        with pytest.raises(trio.EndOfChannel):
            await frames.receive_untrusted()


async def test_raw_bytes_behind_a_frame_are_not_lost():
    sender, receiver = memory_stream_pair()
    await FrameStream(sender, HELLO).send(Hello("echo"))
    await sender.send_all(b"raw bytes")
    frames = FrameStream(receiver, HELLO)
    await frames.receive_untrusted()
    assert await frames.receive_raw(3) == b"raw"
    assert await frames.receive_raw() == b" bytes"


async def test_the_buffer_moves_on_to_the_next_kind_of_message():
    sender, receiver = memory_stream_pair()
    await FrameStream(sender, HELLO).send(Hello("x"), Refused("no"))
    frames = FrameStream(receiver, HELLO)
    await frames.receive_untrusted()
    assert await frames.expecting(REFUSED).receive_untrusted() == Refused("no")


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x05hello",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x09\x92\xa5hello\xa0",
        b"\x00\x00",
        b"\x00\x00\x00\x05he",
    ],
)
async def test_what_is_no_frame_is_a_fault_of_the_peer(data):
    sender, receiver = memory_stream_pair()
    await sender.send_all(data)
    await sender.send_eof()
    with pytest.raises(RemoteProtocolError):
        await FrameStream(receiver, HELLO).receive_untrusted()


async def test_a_message_longer_than_a_frame_is_not_sent():
    sender, _ = memory_stream_pair()
    with pytest.raises(LocalProtocolError, match=str(MAX_FRAME)):
        await FrameStream(sender, HELLO).send(Refused("x" * MAX_FRAME))


async def test_waiting_for_the_end_stops_at_its_bound():
    sender, receiver = memory_stream_pair()
    await sender.send_all(bytes(100))
    await FrameStream(receiver, HELLO).wait_end(100)
    await sender.send_eof()
    await FrameStream(receiver, HELLO).wait_end(1)
