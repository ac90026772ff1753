import math

import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import ConfigError, PeerUnreachable
from opnode.core.ids import PeerId
from opnode.daemon import control_messages as messages
from opnode.daemon.chat import MESSAGES, ChatSession, Line, Shown
from opnode.daemon.chat_desk import ChatDesk
from opnode.daemon.control_chat import ChatConversation
from opnode.daemon.frames import HELLO, FrameStream
from opnode.daemon.peer_connections import PeerConnections

ANN = PeerId(bytes([1]) * 32)


class FakeConnection:
    timings = path = None
    peer_id = ANN

    def __init__(self, remote):
        self.closed = trio.Event()
        self._remote = remote

    async def open_channel(self):
        ours, theirs = memory_stream_pair()
        self._remote.send_nowait(theirs)
        return ours

    async def accept_channel(self):
        await trio.sleep_forever()

    async def aclose(self):
        self.closed.set()


class Terminal:
    """A node with one connection, and the person at its terminal."""

    def __init__(self):
        self.said_in, self.said_out = trio.open_memory_channel(math.inf)
        self.events_in, self.events = trio.open_memory_channel(math.inf)
        self.channels_in, self.channels = trio.open_memory_channel(math.inf)
        self.console = []
        self.desk = ChatDesk(lambda _, text: self.console.append(text))
        self.pool = PeerConnections(self, None)
        self.conversation = ChatConversation(ANN, self.pool, self.desk, self)

    async def connect(self, _peer_id):
        await trio.lowlevel.checkpoint()
        return FakeConnection(self.channels_in)

    async def accept_connection(self):
        await trio.sleep_forever()

    async def send(self, event):
        self.events_in.send_nowait(event)

    async def receive(self):
        return await self.said_out.receive()

    async def peer_session(self):
        frames = FrameStream(await self.channels.receive(), HELLO)
        await frames.receive_untrusted()
        return ChatSession(frames.expecting(MESSAGES))


@pytest.fixture
async def terminal(nursery):
    terminal = Terminal()
    await nursery.start(terminal.pool.run)
    return terminal


async def test_lines_go_both_ways_with_their_receipts(terminal, nursery):
    nursery.start_soon(terminal.conversation.run, "ann")
    peer = await terminal.peer_session()
    assert (await terminal.events.receive()).name == "ann"
    terminal.said_in.send_nowait(messages.Say(number=70, text="hello"))
    assert await peer.receive_untrusted() == Line(1, "hello")
    await peer.mark_shown(1)
    assert await terminal.events.receive() == messages.Delivered(number=70)
    await peer.send_line("hi")
    assert await terminal.events.receive() == messages.ChatLine(number=1, text="hi")
    assert peer.unshown == 1
    terminal.said_in.send_nowait(messages.MarkShown(number=1))
    assert await peer.receive_untrusted() == Shown(1)


async def test_the_end_of_the_peer_ends_the_chat(terminal):
    failures = []

    async def chat():
        try:
            await terminal.conversation.run(None)
        except PeerUnreachable as error:
            failures.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(chat)
        peer = await terminal.peer_session()
        await terminal.events.receive()
        await peer.aclose()
    assert failures == ["the peer ended the chat"]


async def test_a_conversation_that_the_peer_began_is_continued(terminal, nursery):
    ours, theirs = memory_stream_pair()
    begun = ChatSession(FrameStream(ours, MESSAGES))
    peer = ChatSession(FrameStream(theirs, MESSAGES))
    nursery.start_soon(terminal.desk.run_session, ANN, begun)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(terminal.conversation.run, "ann")
    await terminal.events.receive()
    terminal.said_in.send_nowait(messages.Say(number=1, text="yes?"))
    assert await peer.receive_untrusted() == Line(1, "yes?")
    assert terminal.channels.statistics().current_buffer_used == 0
    await theirs.aclose()


async def test_a_second_terminal_for_the_same_peer_is_refused(terminal):
    async with terminal.desk.view(ANN):
        with pytest.raises(ConfigError, match="another terminal"):
            await terminal.conversation.run("ann")


async def test_another_verb_inside_a_chat_is_refused(terminal):
    terminal.said_in.send_nowait(messages.Id())
    with pytest.RaisesGroup(messages.RequestError, flatten_subgroups=True):
        await terminal.conversation.run("ann")
