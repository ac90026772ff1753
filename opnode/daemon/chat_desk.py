"""The chat desk: which conversations are open, and who shows their lines.

Owns the way of a line from a session to a viewer (a terminal that chats with that peer)
or, when there is none, to the node's console. Refuses to know sockets and peers' names.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from opnode.core.errors import ConfigError
from opnode.core.ids import PeerId
from opnode.daemon.chat import ChatSession, Line

VIEWER_QUEUE: Final = 64
"""Events that wait for a slow terminal; then the conversation itself waits."""


@dataclass(frozen=True, slots=True)
class LineArrived:
    """A line to show; whoever shows it calls ``session.mark_shown``."""

    session: ChatSession
    line: Line


@dataclass(frozen=True, slots=True)
class LineDelivered:
    """The peer has shown our line ``line_id`` of ``session``."""

    session: ChatSession
    line_id: int


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The conversation is over; lines without a receipt may be lost."""

    session: ChatSession


ChatEvent: TypeAlias = LineArrived | LineDelivered | SessionEnded
ShowOnConsole: TypeAlias = Callable[[PeerId, str], None]


class ChatDesk:
    """The open conversations of one node."""

    def __init__(self, show_on_console: ShowOnConsole) -> None:
        """``show_on_console`` gets the lines of peers that nobody is chatting with."""
        self._show_on_console = show_on_console
        self._sessions: dict[PeerId, list[ChatSession]] = {}
        self._viewers: dict[PeerId, trio.MemorySendChannel[ChatEvent]] = {}

    def session(self, peer_id: PeerId) -> ChatSession | None:
        """The newest open conversation with a peer."""
        sessions = self._sessions.get(peer_id)
        return sessions[-1] if sessions else None

    @asynccontextmanager
    async def view(
        self, peer_id: PeerId
    ) -> AsyncGenerator[trio.MemoryReceiveChannel[ChatEvent], None]:
        """Be the one who shows the lines of a peer.

        Raises:
            ConfigError: another terminal already does.
        """
        if peer_id in self._viewers:
            raise ConfigError(
                "peer", "one you chat with in another terminal", "another peer"
            )
        sender, receiver = trio.open_memory_channel[ChatEvent](VIEWER_QUEUE)
        self._viewers[peer_id] = sender
        try:
            async with sender, receiver:
                yield receiver
        finally:
            del self._viewers[peer_id]

    async def run_session(self, peer_id: PeerId, session: ChatSession) -> None:
        """Route the lines and receipts of one conversation until it ends.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
            trio.BrokenResourceError: the connection broke.
        """
        self._sessions.setdefault(peer_id, []).append(session)
        try:
            while (message := await session.receive_untrusted()) is not None:
                if isinstance(message, Line):
                    await self._show(peer_id, session, message)
                else:
                    await self._tell(peer_id, LineDelivered(session, message.line_id))
        finally:
            self._forget(peer_id, session)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.1):
                # Bounded and shielded: a cancelled node still tells its terminals.
                await self._tell(peer_id, SessionEnded(session))

    async def _show(self, peer_id: PeerId, session: ChatSession, line: Line) -> None:
        if await self._tell(peer_id, LineArrived(session, line)):
            return
        self._show_on_console(peer_id, line.text)
        await session.mark_shown(line.line_id)

    async def _tell(self, peer_id: PeerId, event: ChatEvent) -> bool:
        viewer = self._viewers.get(peer_id)
        if viewer is None:
            return False
        try:
            await viewer.send(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The terminal went away this moment.
            return False
        return True

    def _forget(self, peer_id: PeerId, session: ChatSession) -> None:
        sessions = self._sessions[peer_id]
        sessions.remove(session)
        if not sessions:
            del self._sessions[peer_id]
