import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import ConfigError
from opnode.core.ids import PeerId
from opnode.daemon.chat import MESSAGES, ChatSession, Line, Shown
from opnode.daemon.chat_desk import ChatDesk, LineArrived, LineDelivered, SessionEnded
from opnode.daemon.frames import FrameStream

ANN = PeerId(bytes([1]) * 32)


def pair():
    left, right = memory_stream_pair()
    return ChatSession(FrameStream(left, MESSAGES)), ChatSession(
        FrameStream(right, MESSAGES)
    )


async def test_c_6_a_line_without_a_viewer_goes_to_the_console_and_counts_as_shown(
    nursery,
):
    console = []
    desk = ChatDesk(lambda peer_id, text: console.append((peer_id, text)))
    ours, theirs = pair()
    nursery.start_soon(desk.run_session, ANN, ours)
    await theirs.send_line("hello")
    assert await theirs.receive_untrusted() == Shown(1)
    assert console == [(ANN, "hello")]
    await theirs.aclose()


async def test_a_viewer_gets_lines_receipts_and_the_end():
    console = []
    desk = ChatDesk(lambda _, text: console.append(text))
    ours, theirs = pair()
    async with trio.open_nursery() as nursery, desk.view(ANN) as events:
        nursery.start_soon(desk.run_session, ANN, ours)
        await theirs.send_line("hello")
        assert await events.receive() == LineArrived(ours, Line(1, "hello"))
        await ours.send_line("hi")
        await theirs.receive_untrusted()
        await theirs.mark_shown(1)
        assert await events.receive() == LineDelivered(ours, 1)
        assert theirs.unshown == 1
        await theirs.aclose()
        assert await events.receive() == SessionEnded(ours)
    assert console == []


async def test_c_7_the_newest_conversation_is_the_one_to_answer_in(nursery):
    desk = ChatDesk(lambda *_: None)
    assert desk.session(ANN) is None
    first, first_peer = pair()
    second, second_peer = pair()
    nursery.start_soon(desk.run_session, ANN, first)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(desk.run_session, ANN, second)
    await trio.testing.wait_all_tasks_blocked()
    assert desk.session(ANN) is second
    await second_peer.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert desk.session(ANN) is first
    await first_peer.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert desk.session(ANN) is None


async def test_c_8_one_terminal_at_a_time_chats_with_a_peer():
    desk = ChatDesk(lambda *_: None)
    async with desk.view(ANN):
        with pytest.raises(ConfigError, match="another terminal"):
            async with desk.view(ANN):
                pytest.fail("entered")
    async with desk.view(ANN):
        await trio.lowlevel.checkpoint()


async def test_lines_go_to_the_console_again_once_the_terminal_is_gone(nursery):
    console = []
    desk = ChatDesk(lambda _, text: console.append(text))
    ours, theirs = pair()
    nursery.start_soon(desk.run_session, ANN, ours)
    async with desk.view(ANN):
        await trio.lowlevel.checkpoint()
    await theirs.send_line("still there?")
    await theirs.receive_untrusted()
    assert console == ["still there?"]
    await theirs.aclose()
