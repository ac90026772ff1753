import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import TransferDeclined
from opnode.core.ids import PeerId
from opnode.daemon.address_book import AddressBook
from opnode.daemon.chat import ChatSession, Shown
from opnode.daemon.frames import HELLO, FrameStream, Hello, Refused
from opnode.daemon.services import (
    AcceptPolicy,
    ChatLine,
    FileArrived,
    FileFailed,
    FileProgress,
    Services,
    ServicesConfig,
)
from opnode.daemon.transfer import FileSender, SourceFile

ANN = PeerId(bytes([1]) * 32)
REFUSED = msgspec.msgpack.Decoder(Refused)


class World:
    def __init__(
        self, tmp_path, *, policy=AcceptPolicy.CONTACTS, ask=None, config=None
    ):
        self.events = []
        self.book = AddressBook(None)
        self.source = tmp_path / "a.txt"
        self.source.write_bytes(b"content")
        self.services = Services(
            inbox=tmp_path / "inbox",
            policy=policy,
            book=self.book,
            notify=self.events.append,
            ask=ask,
            config=config,
        )

    async def serve_here(self, channel):
        async with channel:
            await self.services.serve_channel(ANN, channel)

    async def send_file(self):
        left, right = memory_stream_pair()
        outcome = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve_here, right)
            sender = FileSender(
                left, SourceFile.inspect(self.source), progress=lambda *_: None
            )
            async with left:
                try:
                    outcome = await sender.run()
                except TransferDeclined as error:
                    outcome = error
        return outcome


async def answer_yes(peer_id, offer):
    return True


async def answer_no(peer_id, offer):
    return False


async def never_answer(peer_id, offer):
    await trio.sleep_forever()


async def test_echo_sends_back_what_comes_and_ends_with_it(tmp_path, nursery):
    left, right = memory_stream_pair()
    nursery.start_soon(World(tmp_path).serve_here, right)
    await FrameStream(left, HELLO).send(Hello("echo"))
    await left.send_all(b"ping")
    assert await left.receive_some() == b"ping"
    await left.send_eof()
    assert await left.receive_some() == b""


async def test_t_12_an_unknown_service_is_refused_by_name(tmp_path, nursery):
    world = World(tmp_path)
    left, right = memory_stream_pair()
    nursery.start_soon(world.serve_here, right)
    await FrameStream(left, HELLO).send(Hello("vide\x1bo"))
    refused = await FrameStream(left, REFUSED).receive_untrusted()
    assert "vide\N{REPLACEMENT CHARACTER}o" in refused.reason
    assert "chat, echo, file" in refused.reason
    assert world.services.statistics().refused == 1
    await left.aclose()


async def test_contacts_may_send_files_and_others_hear_why_not(tmp_path):
    world = World(tmp_path)
    outcome = await world.send_file()
    assert "you are not one" in str(outcome)
    assert world.events == [FileFailed(peer_id=ANN, petname=None, reason=str(outcome))]
    world.events.clear()
    world.book.add("ann", ANN)
    assert (await world.send_file()).name == "a.txt"
    assert isinstance(world.events[0], FileProgress)
    assert isinstance(world.events[-1], FileArrived)
    assert world.events[-1].path.read_bytes() == b"content"
    assert world.events[-1].petname == "ann"


@pytest.mark.parametrize(
    ("policy", "ask", "reason"),
    [
        (AcceptPolicy.NEVER, answer_yes, "takes no files"),
        (AcceptPolicy.ASK, answer_no, "the user declined"),
        (AcceptPolicy.ASK, None, "no terminal"),
        (AcceptPolicy.ASK, never_answer, "nobody answered"),
    ],
)
async def test_a_declined_file_has_its_reason(tmp_path, policy, ask, reason):
    config = ServicesConfig(ask_s=0.01)
    world = World(tmp_path, policy=policy, ask=ask, config=config)
    outcome = await world.send_file()
    assert isinstance(outcome, TransferDeclined)
    assert reason in str(outcome)
    assert not (tmp_path / "inbox").exists()


async def test_a_file_that_the_user_agreed_to_arrives(tmp_path):
    world = World(tmp_path, policy=AcceptPolicy.ASK, ask=answer_yes)
    assert (await world.send_file()).size == 7


async def test_one_question_at_a_time_is_put_to_the_user(tmp_path):
    asked = []

    async def ask(peer_id, offer):
        asked.append("begin")
        await trio.testing.wait_all_tasks_blocked()
        asked.append("end")
        return False

    world = World(tmp_path, policy=AcceptPolicy.ASK, ask=ask)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.send_file)
        nursery.start_soon(world.send_file)
    assert asked == ["begin", "end"] * 2


async def test_c_9_a_chat_line_reaches_the_console_printable(tmp_path, nursery):
    world = World(tmp_path)
    world.book.add("ann", ANN)
    left, right = memory_stream_pair()
    nursery.start_soon(world.serve_here, right)
    session = await ChatSession.open(left)
    await session.send_line("hi\x1b[2J")
    assert await session.receive_untrusted() == Shown(1)
    assert world.events == [
        ChatLine(peer_id=ANN, petname="ann", text="hi\N{REPLACEMENT CHARACTER}[2J")
    ]
    await left.aclose()


class Hangup(trio.abc.ReceiveStream):
    """A stream that the peer closed with words that drive terminals."""

    def __init__(self, stream):
        self.stream = stream

    async def aclose(self):
        await self.stream.aclose()

    async def receive_some(self, max_bytes=None):
        data = await self.stream.receive_some(max_bytes)
        if not data:
            raise trio.BrokenResourceError("closed by peer: \x1b[2J")
        return data


async def test_the_words_of_a_peer_that_hangs_up_are_told_printable(tmp_path):
    world = World(tmp_path)
    left, right = memory_stream_pair()
    await FrameStream(left, HELLO).send(Hello("file"))
    await left.send_eof()
    right.receive_stream = Hangup(right.receive_stream)
    await world.serve_here(right)
    (failed,) = world.events
    assert failed.reason == "closed by peer: \N{REPLACEMENT CHARACTER}[2J"


@pytest.mark.parametrize(
    "data", [b"\xff" * 100, b"\x00\x00\x00\x01\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x00"]
)
async def test_t_13_garbage_ends_its_own_channel_and_is_counted(tmp_path, data):
    world = World(tmp_path)
    left, right = memory_stream_pair()
    await left.send_all(data)
    await left.send_eof()
    await world.serve_here(right)
    assert world.services.statistics().broken == 1


async def test_a_peer_that_hangs_up_at_once_is_no_fault(tmp_path):
    world = World(tmp_path)
    left, right = memory_stream_pair()
    await left.aclose()
    await world.serve_here(right)
    assert world.services.statistics().broken == 0


async def test_a_peer_that_stalls_is_given_up(tmp_path, autojump_clock):
    world = World(tmp_path)
    _silent, right = memory_stream_pair()
    await world.serve_here(right)
    echo, echo_right = memory_stream_pair()
    await FrameStream(echo, HELLO).send(Hello("echo"))
    await world.serve_here(echo_right)
    assert trio.current_time() > 0
    assert world.services.statistics().broken == 2
    assert world.services.statistics().channels == 2
