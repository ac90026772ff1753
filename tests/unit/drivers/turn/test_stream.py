import itertools
import struct

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.abc import Clock

from opnode.core.errors import RelayUnavailable
from opnode.drivers.turn.stream import TurnStream
from opnode.testing.clock import run_deterministic

STUN = b"\x01\x01\x00\x04\x21\x12\xa4\x42" + bytes(12) + b"body"


def channel(payload: bytes) -> bytes:
    return struct.pack("!HH", 0x4000, len(payload)) + payload


def padded(message: bytes) -> bytes:
    return message + bytes(-len(message) % 4)


class Served:
    """A stream and the server's end of it."""

    def __init__(self) -> None:
        ours, self.theirs = trio.testing.memory_stream_pair()
        self.received: list[bytes] = []
        self.stream = TurnStream(ours, self.received.append)


def test_messages_are_cut_wherever_the_stream_was():
    messages = [STUN, channel(b""), channel(b"12345"), STUN, channel(bytes(2000))]
    wire = b"".join(map(padded, messages))

    @given(st.lists(st.integers(0, len(wire)), max_size=12))
    def check(cuts: list[int]) -> None:
        async def run() -> None:
            served = Served()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.stream.run)
                edges = [0, *sorted(cuts), len(wire)]
                for start, stop in itertools.pairwise(edges):
                    await served.theirs.send_all(wire[start:stop])
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert served.received == messages

        run_deterministic(run, seed=1)

    check()


async def test_messages_leave_padded_to_four_bytes(nursery: trio.Nursery):
    served = Served()
    nursery.start_soon(served.stream.run)
    run = channel(b"12345") + channel(b"67890") + channel(b"1")
    assert served.stream.send(run, 9)
    assert served.stream.send(STUN)
    expected = b"".join(map(padded, (*map(channel, (b"12345", b"67890", b"1")), STUN)))
    received = b""
    while len(received) < len(expected):
        received += await served.theirs.receive_some()
    assert received == expected


async def test_what_finds_the_queue_full_is_lost_and_nobody_waits():
    served = Served()
    for _ in range(1000):
        assert served.stream.send(bytes(1200))
    assert served.stream._queued <= 1 << 18


async def test_the_end_of_the_connection_is_told(autojump_clock: Clock):
    served = Served()
    await served.theirs.aclose()
    with pytest.raises(RelayUnavailable, match="closed"):
        await served.stream.run()


async def test_a_broken_connection_is_told(autojump_clock: Clock):
    served = Served()

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("reset")

    served.stream._stream.send_stream.send_all_hook = fail
    served.stream.send(STUN)
    with pytest.raises(RelayUnavailable):
        await served.stream.run()
