"""Whatever a peer sends on a channel, only that channel ends.

Owns: random and mutated bytes against the services of a node. Refuses to know: what the
bytes would have to be; the unit tests have that.
"""

import tempfile
from pathlib import Path

import msgspec
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from opnode.core.ids import PeerId
from opnode.daemon.address_book import AddressBook
from opnode.daemon.chat import Line, Shown
from opnode.daemon.frames import Hello, encode_frame
from opnode.daemon.services import AcceptPolicy, Services
from opnode.daemon.transfer import Offer, Receipt, Trailer, Verdict

PEER = PeerId(bytes(32))
SOUND = [
    Hello("file"),
    Hello("chat"),
    Hello("echo"),
    Offer("a", 5, bytes(16), 0.0),
    Verdict(True, 0, ""),
    Trailer(bytes(32)),
    Receipt(True, "a", ""),
    Line(1, "hello"),
    Shown(1),
]

frames = st.sampled_from(SOUND).map(lambda m: encode_frame(msgspec.msgpack.encode(m)))
pieces = st.one_of(frames, st.binary(max_size=40))


@st.composite
def mutated(draw):
    data = bytearray(b"".join(draw(st.lists(pieces, max_size=6))))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            position = draw(st.integers(0, len(data) - 1))
            data[position] = draw(st.integers(0, 255))
    return bytes(data)


async def serve(data, inbox):
    book = AddressBook(None)
    book.add("peer", PEER)
    services = Services(
        inbox=inbox,
        policy=AcceptPolicy.CONTACTS,
        book=book,
        notify=lambda _: None,
    )
    left, right = memory_stream_pair()
    await left.send_all(data)
    await left.send_eof()
    await services.serve_channel(PEER, right)
    assert services.statistics().channels == 1


@given(mutated())
@settings(max_examples=150)
def test_no_bytes_of_a_peer_raise_out_of_a_channel(data):
    with tempfile.TemporaryDirectory() as name:
        inbox = Path(name) / "inbox"
        trio.run(serve, data, inbox, clock=MockClock(rate=1000))
        whole = [path for path in inbox.glob("*") if path.is_file()]
        assert whole == []
