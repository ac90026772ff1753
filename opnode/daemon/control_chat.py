"""A terminal's side of a chat: lines between the control socket and a conversation.

Owns the numbers that the terminal sees and their relation to the ids on the channel.
Refuses to know how lines are shown.
"""

from typing import Final, Protocol

import trio

from opnode.core.errors import PeerUnreachable
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon import control_messages as messages
from opnode.daemon.chat import ChatSession
from opnode.daemon.chat_desk import ChatDesk, ChatEvent, LineArrived, LineDelivered
from opnode.daemon.control_messages import Event, Request
from opnode.daemon.peer_connections import PeerConnections

CONNECT_S: Final = 30.0
"""Seconds until a peer that cannot be reached is given up; a person waits."""

MAX_UNSHOWN: Final = 256
"""Lines of the peer that the terminal has not marked as shown; more end the chat."""


class Client(Protocol):
    """The terminal on the other end of the control socket."""

    async def send(self, event: Event) -> None:
        """Report an event."""

    async def receive(self) -> Request:
        """Wait for a line that follows the request."""


class ChatConversation:
    """One `opnode chat`, from its start to its end."""

    def __init__(
        self,
        peer_id: PeerId,
        connections: PeerConnections,
        desk: ChatDesk,
        client: Client,
    ) -> None:
        """Nothing happens before ``run``."""
        self._peer_id = peer_id
        self._connections = connections
        self._desk = desk
        self._client = client
        self._said: dict[tuple[int, int], int] = {}
        self._to_show: dict[int, tuple[ChatSession, int]] = {}
        self._shown = 0
        self._failure: Exception | None = None

    async def run(self, name: str | None) -> None:
        """Carry lines both ways until the terminal hangs up.

        Raises:
            NetworkError: the peer cannot be reached, or is no longer.
            ConfigError: another terminal chats with that peer.
        """
        async with self._desk.view(self._peer_id) as events:
            session = self._desk.session(self._peer_id)
            if session is None:
                await self._with_own_session(events, name)
            else:
                await self._carry(session, events, name)
        if self._failure is not None:
            raise self._failure

    async def _with_own_session(
        self, events: trio.MemoryReceiveChannel[ChatEvent], name: str | None
    ) -> None:
        with trio.fail_after(CONNECT_S) as deadline:
            async with self._connections.borrow(self._peer_id) as connection:
                deadline.deadline = trio.current_time() + CONNECT_S
                channel = await connection.open_channel()
                session = await ChatSession.open(channel)
                deadline.deadline = float("inf")
                async with channel, trio.open_nursery() as nursery:
                    nursery.start_soon(self._run_session, session)
                    await self._carry(session, events, name)
                    nursery.cancel_scope.cancel()

    async def _run_session(self, session: ChatSession) -> None:
        try:
            await self._desk.run_session(self._peer_id, session)
        except Exception as error:  # noqa: BLE001 - handed to the terminal by run()
            self._failure = error

    async def _carry(
        self,
        session: ChatSession,
        events: trio.MemoryReceiveChannel[ChatEvent],
        name: str | None,
    ) -> None:
        ready = messages.ChatReady(peer_id=format_peer_id(self._peer_id), name=name)
        await self._client.send(ready)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen_to_terminal, session)
            await self._listen_to_peer(session, events)
            nursery.cancel_scope.cancel()

    async def _listen_to_peer(
        self, session: ChatSession, events: trio.MemoryReceiveChannel[ChatEvent]
    ) -> None:
        async for event in events:
            if isinstance(event, LineArrived):
                await self._show(event)
            elif isinstance(event, LineDelivered):
                key = (id(event.session), event.line_id)
                number = self._said.pop(key, None)
                if number is not None:
                    await self._client.send(messages.Delivered(number=number))
            elif event.session is session:
                self._failure = self._failure or PeerUnreachable(
                    "the peer ended the chat"
                )
                return

    async def _show(self, event: LineArrived) -> None:
        if len(self._to_show) >= MAX_UNSHOWN:
            raise messages.RequestError(
                "MalformedRequest", f"{MAX_UNSHOWN} lines were not marked as shown"
            )
        self._shown += 1
        self._to_show[self._shown] = (event.session, event.line.line_id)
        line = messages.ChatLine(number=self._shown, text=event.line.text)
        await self._client.send(line)

    async def _listen_to_terminal(self, session: ChatSession) -> None:
        while True:
            request = await self._client.receive()
            try:
                await self._obey(request, session)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The end of the session reaches _listen_to_peer as an event.
                await trio.sleep_forever()

    async def _obey(self, request: Request, session: ChatSession) -> None:
        match request:
            case messages.Say(number=number, text=text):
                line_id = await session.send_line(text)
                self._said[id(session), line_id] = number
            case messages.MarkShown(number=number):
                shown = self._to_show.pop(number, None)
                if shown is not None:
                    await shown[0].mark_shown(shown[1])
            case _:
                text = "found another verb, expected say or shown"
                raise messages.RequestError("MalformedRequest", text)
