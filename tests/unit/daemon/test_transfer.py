import errno
import hashlib
import os
import random
import socket
import threading
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import (
    ConfigError,
    RemoteProtocolError,
    TransferCorrupt,
    TransferDeclined,
    TransferError,
)
from opnode.core.ids import PeerId
from opnode.daemon.frames import HELLO, FrameStream, Hello, Refused
from opnode.daemon.inbox import Inbox, PartialFile
from opnode.daemon.transfer import (
    OFFER,
    SERVICE,
    FileReceiver,
    FileSender,
    Offer,
    Receipt,
    SourceFile,
    Trailer,
    TransferConfig,
    Verdict,
    partial_key,
    printable,
)

PEER = PeerId(bytes(32))
CONFIG = TransferConfig(block=10_000)


async def accept(peer_id, offer):
    return None


def nothing(*values):
    return None


def same(stream):
    return stream


class CutStream(trio.abc.HalfCloseableStream):
    """Passes ``limit`` bytes, then the connection is dead for both sides."""

    def __init__(self, stream, limit):
        self.stream, self.left = stream, limit

    async def send_all(self, data):
        allowed = bytes(data)[: self.left]
        self.left -= len(allowed)
        await self.stream.send_all(allowed)
        if not self.left:
            await self.stream.send_stream.aclose()
            raise trio.BrokenResourceError("cut")

    async def receive_some(self, max_bytes=None):
        data = await self.stream.receive_some(max_bytes)
        if not data:
            raise trio.BrokenResourceError("cut")
        return data

    async def wait_send_all_might_not_block(self):
        await trio.lowlevel.checkpoint()

    async def send_eof(self):
        await self.stream.send_eof()

    async def aclose(self):
        await self.stream.aclose()


class Pair:
    """A sender and a receiver on the two ends of one stream."""

    def __init__(self, tmp_path, *, decide=accept, config=CONFIG, content=None):
        self.source = tmp_path / "source.bin"
        data = random.Random(1).randbytes(100_123) if content is None else content
        self.source.write_bytes(data)
        self.inbox = tmp_path / "inbox"
        self.config = config
        self.progress = []
        self.incoming = []
        self.arrived = trio.Event()
        self.receiver = FileReceiver(
            Inbox(self.inbox),
            decide=decide,
            progress=self.note_incoming,
            config=config,
        )

    def note_incoming(self, *event):
        done = event[-1]
        self.incoming.append(done)
        if done:
            self.arrived.set()

    async def serve(self, channel):
        frames = FrameStream(channel, HELLO)
        assert (await frames.receive_untrusted()).service == SERVICE
        try:
            return await self.receiver.receive_untrusted(frames.expecting(OFFER), PEER)
        finally:
            await channel.aclose()

    async def send(self, *, wrap=same, receiving=same):
        """Returns what the sender and the receiver ended with."""
        left, right = memory_stream_pair()
        outcomes = {}

        async def note(name, function):
            try:
                outcomes[name] = await function
            except Exception as error:  # noqa: BLE001 - the test looks at it
                outcomes[name] = error

        async def run_sender(channel):
            async with channel:
                return await FileSender(
                    channel,
                    SourceFile.inspect(self.source),
                    progress=lambda done, _size: self.progress.append(done),
                    config=self.config,
                ).run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "receiver", self.serve(receiving(right)))
            nursery.start_soon(note, "sender", run_sender(wrap(left)))
        return outcomes["sender"], outcomes["receiver"]

    def files(self):
        return sorted(p.name for p in self.inbox.rglob("*") if p.is_file())


async def test_t_1_a_file_arrives_whole_under_its_name(tmp_path):
    pair = Pair(tmp_path)
    sent, received = await pair.send()
    assert received.path == pair.inbox / "source.bin"
    assert received.path.read_bytes() == pair.source.read_bytes()
    digest = hashlib.sha256(pair.source.read_bytes()).digest()
    assert sent.sha256 == received.sha256 == digest
    assert (sent.name, sent.size, sent.offset) == ("source.bin", 100_123, 0)
    assert pair.files() == ["source.bin"]


async def test_progress_grows_to_the_size_on_both_sides(tmp_path):
    pair = Pair(tmp_path)
    await pair.send()
    # The sender tells every block; one read of the receiver takes all that is there.
    for seen, least in ((pair.progress, 11), (pair.incoming, 2)):
        assert seen == sorted(seen)
        assert (seen[0], seen[-1]) == (0, 100_123)
        assert len(seen) >= least


async def test_t_11_a_sender_that_hangs_up_on_the_receipt_has_still_sent_the_file(
    tmp_path,
):
    class HangsUpAtTheEnd(CutStream):
        async def send_eof(self):
            raise trio.BrokenResourceError("the peer stopped reading")

    pair = Pair(tmp_path)
    sent, received = await pair.send(receiving=lambda s: HangsUpAtTheEnd(s, 1 << 20))
    assert received.path.read_bytes() == pair.source.read_bytes()
    assert sent.sha256 == received.sha256


async def test_an_empty_file_arrives(tmp_path):
    pair = Pair(tmp_path, content=b"")
    _, received = await pair.send()
    assert received.path.read_bytes() == b""


async def test_nothing_is_written_in_the_loop_and_a_cancelled_part_is_kept(
    tmp_path, monkeypatch
):
    append, writers = PartialFile.append, []

    def note(partial, blocks):
        writers.append(threading.get_ident())
        append(partial, blocks)

    monkeypatch.setattr(PartialFile, "append", note)
    pair = Pair(tmp_path)
    left, right = memory_stream_pair()
    offer = Offer("a", 30_000, bytes(16), 0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve, right)
        await FrameStream(left, HELLO).send(Hello(SERVICE), offer)
        await left.send_all(bytes(15_000))
        await left.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
    assert writers
    assert threading.get_ident() not in writers
    part = pair.inbox / ".partial" / partial_key(PEER, offer)
    assert part.stat().st_size == 15_000


@pytest.mark.parametrize("limit", [150, 40_000, 100_150])
async def test_t_2_a_transfer_goes_on_where_the_connection_broke(tmp_path, limit):
    pair = Pair(tmp_path)
    sent, received = await pair.send(wrap=lambda stream: CutStream(stream, limit))
    assert isinstance(sent, trio.BrokenResourceError)
    assert isinstance(received, trio.BrokenResourceError | RemoteProtocolError)
    parts = pair.files()
    assert "source.bin" not in parts
    sent, received = await pair.send()
    assert received.path.read_bytes() == pair.source.read_bytes()
    assert sent.offset == received.offset >= min(limit, 100_123) - 200
    assert pair.files() == ["source.bin"]


async def test_t_3_a_file_changed_since_the_break_is_never_delivered_mixed(tmp_path):
    pair = Pair(tmp_path)
    before = pair.source.stat()
    await pair.send(wrap=lambda stream: CutStream(stream, 50_000))
    pair.source.write_bytes(bytes(100_123))
    os.utime(pair.source, ns=(before.st_atime_ns, before.st_mtime_ns))
    sent, received = await pair.send()
    assert isinstance(sent, TransferCorrupt)
    assert isinstance(received, TransferCorrupt)
    assert pair.files() == []
    sent, received = await pair.send()
    assert received.path.read_bytes() == bytes(100_123)


async def test_t_5_a_declined_file_leaves_nothing_and_tells_the_reason(tmp_path):
    async def decline(peer_id, offer):
        assert offer.size == 100_123
        return "not today"

    pair = Pair(tmp_path, decide=decline)
    sent, received = await pair.send()
    assert isinstance(sent, TransferDeclined)
    assert isinstance(received, TransferDeclined)
    assert str(sent) == "not today"
    assert not pair.inbox.exists()


async def test_t_5_an_inbox_that_cannot_be_written_declines(tmp_path):
    pair = Pair(tmp_path)
    pair.inbox.touch()
    sent, _ = await pair.send()
    assert isinstance(sent, TransferDeclined)
    assert "not writable" in str(sent)


async def test_t_6_a_disk_that_fills_up_is_told_at_once_and_keeps_the_part(
    tmp_path, monkeypatch
):
    append = PartialFile.append

    def fill(partial, blocks):
        # As a disk does: what there is room for is written, in how many steps the
        # blocks may come.
        room = 30_000 - partial.size
        data = b"".join(blocks)
        append(partial, [data[:room]])
        if len(data) > room:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PartialFile, "append", fill)
    pair = Pair(tmp_path)
    sent, received = await pair.send()
    assert isinstance(sent, TransferError)
    assert "disk full" in str(sent)
    assert isinstance(received, TransferError)
    monkeypatch.undo()
    sent, received = await pair.send()
    assert sent.offset > 0
    assert received.path.read_bytes() == pair.source.read_bytes()


async def test_a_file_that_shrinks_while_it_is_sent_is_an_error(tmp_path):
    pair = Pair(tmp_path)
    inspected = SourceFile.inspect(pair.source)
    pair.source.write_bytes(b"short")
    left, right = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_quietly, pair, right)
        async with left:
            with pytest.raises(TransferError, match="shorter"):
                await FileSender(left, inspected, progress=nothing).run()
    assert "source.bin" not in [p.name for p in pair.inbox.glob("*")]


async def _serve_quietly(pair, channel):
    try:
        await pair.serve(channel)
    except (trio.BrokenResourceError, RemoteProtocolError):
        return


async def test_t_8_a_sender_that_comes_back_takes_over_from_its_old_attempt(tmp_path):
    pair = Pair(tmp_path)
    offer = SourceFile.inspect(pair.source).offer()
    old, old_right = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        failures = []

        async def old_attempt():
            try:
                await pair.serve(old_right)
            except TransferError as error:
                failures.append(str(error))

        nursery.start_soon(old_attempt)
        frames = FrameStream(old, HELLO)
        await frames.send(Hello(SERVICE), offer)
        await old.send_all(pair.source.read_bytes()[:30_000])
        await old.receive_some(4096)
        await pair.arrived.wait()
        sent, received = await pair.send()
        assert sent.offset >= 10_000
        assert received.path.read_bytes() == pair.source.read_bytes()
    assert failures == ["the sender came back on another channel"]


async def send_by_hand(pair, *messages, raw=b""):
    left, right = memory_stream_pair()
    await FrameStream(left, HELLO).send(Hello(SERVICE), *messages)
    await left.send_all(raw)
    await left.send_eof()
    return await pair.serve(right)


async def test_t_3_bytes_that_do_not_match_their_digest_are_dropped(tmp_path):
    pair = Pair(tmp_path)
    offer = Offer("a", 3, bytes(16), 0.0)
    with pytest.raises(TransferCorrupt):
        await send_by_hand(pair, offer, raw=b"abc" + _frame(Trailer(bytes(32))))
    assert pair.files() == []


def _frame(message):
    payload = msgspec.msgpack.encode(message)
    return len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    "offer",
    [
        Offer("a", -1, bytes(16), 0.0),
        Offer("a", 1 << 60, bytes(16), 0.0),
        Offer("a", 1, bytes(15), 0.0),
        Offer("a" * 2000, 1, bytes(16), 0.0),
    ],
)
async def test_t_9_an_offer_beyond_its_bounds_is_a_fault_of_the_sender(tmp_path, offer):
    with pytest.raises(RemoteProtocolError):
        await send_by_hand(Pair(tmp_path), offer)


async def test_a_sender_that_hangs_up_inside_its_offer_is_no_crash(tmp_path):
    with pytest.raises(trio.EndOfChannel):
        await send_by_hand(Pair(tmp_path))


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([Refused("no such service")], TransferDeclined),
        ([Receipt(True, "a", "")], RemoteProtocolError),
        ([Verdict(True, 1 << 40, "")], RemoteProtocolError),
        ([Verdict(True, 0, ""), Verdict(True, 0, "")], RemoteProtocolError),
        ([Verdict(True, 0, "")], trio.BrokenResourceError),
        ([], trio.BrokenResourceError),
    ],
)
async def test_a_receiver_that_breaks_the_protocol_is_an_error_of_its_kind(
    tmp_path, answers, error
):
    pair = Pair(tmp_path)
    left, right = memory_stream_pair()
    await FrameStream(right, HELLO).send(*answers)
    await right.send_eof()
    with pytest.raises(error):
        await FileSender(left, SourceFile.inspect(pair.source), progress=nothing).run()


async def test_t_10_a_sender_that_stalls_is_given_up_and_its_part_kept(tmp_path):
    pair = Pair(tmp_path, config=TransferConfig(block=10_000, stall_s=0.01))
    left, right = memory_stream_pair()
    offer = Offer("a", 100, bytes(16), 0.0)
    await FrameStream(left, HELLO).send(Hello(SERVICE), offer)
    await left.send_all(bytes(50))
    with pytest.raises(trio.TooSlowError):
        await pair.serve(right)
    part = pair.inbox / ".partial" / partial_key(PEER, offer)
    assert part.read_bytes() == bytes(50)


def test_only_a_file_can_be_sent(tmp_path, monkeypatch):
    # A socket has no long path: it is bound from here.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        SourceFile.inspect(tmp_path / "none")
    with pytest.raises(ConfigError, match=", a directory, expected a regular file"):
        SourceFile.inspect(tmp_path)
    with pytest.raises(ConfigError, match="/dev/null, a device, expected"):
        SourceFile.inspect(Path("/dev/null"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("s")
        with pytest.raises(ConfigError, match="s, a socket, expected"):
            SourceFile.inspect(tmp_path / "s")


def test_a_named_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = []

    def inspect():
        try:
            SourceFile.inspect(tmp_path / "pipe")
        except ConfigError as error:
            found.append(str(error))

    thread = threading.Thread(target=inspect, daemon=True)
    thread.start()
    thread.join(5)
    assert "pipe, a named pipe, expected a regular file" in found[0]


def test_the_same_file_makes_the_same_offer_and_a_changed_one_another(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    first = SourceFile.inspect(path).offer()
    assert SourceFile.inspect(path).offer() == first
    path.write_bytes(b"22")
    assert SourceFile.inspect(path).offer().transfer_id != first.transfer_id


def test_t_7_peers_have_parts_of_their_own():
    offer = Offer("a", 1, bytes(16), 0.0)
    assert partial_key(PEER, offer) != partial_key(PeerId(bytes([1]) * 32), offer)


def test_a_peers_text_cannot_move_the_cursor():
    assert "\x1b" not in printable("\x1b[2Jdone\n")
