import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.daemon.chat import MAX_LINE, MESSAGES, ChatConfig, ChatSession, Line, Shown
from opnode.daemon.frames import HELLO, FrameStream, Refused


async def sessions(config=None):
    left, right = memory_stream_pair()
    opener = await ChatSession.open(left)
    frames = FrameStream(right, HELLO)
    assert (await frames.receive_untrusted()).service == "chat"
    return opener, ChatSession(frames.expecting(MESSAGES), config)


async def test_lines_go_both_ways_and_receipts_come_back():
    ann, ben = await sessions()
    assert await ann.send_line("hello") == 1
    assert await ann.send_line("are you there?") == 2
    assert await ben.receive_untrusted() == Line(1, "hello")
    await ben.mark_shown(1)
    assert await ann.receive_untrusted() == Shown(1)
    assert ann.unshown == 1
    assert await ben.send_line("yes") == 1
    assert await ann.receive_untrusted() == Line(1, "yes")


async def test_a_closed_conversation_ends_with_none():
    ann, ben = await sessions()
    await ann.aclose()
    assert await ben.receive_untrusted() is None


async def test_c_3_a_line_may_have_its_limit_in_bytes_and_not_one_more():
    ann, ben = await sessions()
    await ann.send_line("x" * MAX_LINE)
    assert len((await ben.receive_untrusted()).text) == MAX_LINE
    with pytest.raises(LocalProtocolError, match="4097 bytes"):
        await ann.send_line("x" * (MAX_LINE - 1) + "\u00e4")


async def test_c_4_lines_wait_while_too_many_are_not_shown(autojump_clock):
    ann, ben = await sessions(ChatConfig(max_unshown=2))
    await ben.send_line("1")
    await ben.send_line("2")
    with trio.move_on_after(1) as waiting:
        await ben.send_line("3")
    assert waiting.cancelled_caught
    await ann.receive_untrusted()
    await ann.mark_shown(1)
    await ben.receive_untrusted()
    with trio.fail_after(1):
        assert await ben.send_line("3") == 3


async def test_c_5_receipts_leave_while_lines_wait_for_theirs(autojump_clock):
    ann, ben = await sessions(ChatConfig(max_unshown=1))
    await ben.send_line("1")
    await ann.send_line("a")
    await ben.receive_untrusted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ben.send_line, "2")
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(1):
            await ben.mark_shown(1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "message",
    [Line(2, "out of order"), Line(1, "\u00e4" * 4000), Shown(1), Refused("no")],
)
async def test_c_1_a_peer_that_breaks_a_rule_is_found_out(message):
    left, right = memory_stream_pair()
    await FrameStream(left, MESSAGES).send(message)
    with pytest.raises(RemoteProtocolError):
        await ChatSession(FrameStream(right, MESSAGES)).receive_untrusted()


async def test_c_2_a_receipt_counts_once():
    ann, ben = await sessions()
    await ann.send_line("hello")
    await ben.mark_shown(1)
    await ben.mark_shown(1)
    await ann.receive_untrusted()
    with pytest.raises(RemoteProtocolError, match="never sent"):
        await ann.receive_untrusted()


async def test_the_words_of_a_refusal_are_told_printable():
    left, right = memory_stream_pair()
    opener = await ChatSession.open(left)
    await FrameStream(right, HELLO).send(Refused("no\x1b[2J"))
    with pytest.raises(RemoteProtocolError, match="no\N{REPLACEMENT CHARACTER}"):
        await opener.receive_untrusted()
