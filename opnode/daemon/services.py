"""Services: what this node does with the channels that peers open.

Owns the dispatch by the first message and the policy for files. Refuses to know how a
connection came about. A peer that breaks a protocol, stalls or hangs up ends its own
channel; nothing leaves ``serve_channel`` but cancellation.
"""

import enum
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import trio

from opnode.core.errors import OpnodeError
from opnode.core.ids import PeerId, short
from opnode.core.text import printable
from opnode.daemon import chat, transfer
from opnode.daemon.address_book import AddressBook
from opnode.daemon.chat import ChatSession
from opnode.daemon.chat_desk import ChatDesk
from opnode.daemon.file_names import safe_file_name_untrusted
from opnode.daemon.frames import HELLO, FrameStream, Hello, Refused
from opnode.daemon.inbox import Inbox
from opnode.daemon.transfer import FileReceiver, Offer

logger = logging.getLogger(__name__)

ECHO: Final = "echo"
SERVED: Final = (chat.SERVICE, ECHO, transfer.SERVICE)


class AcceptPolicy(enum.Enum):
    """Whose files are taken: whoever the user agrees to, contacts, or nobody."""

    ASK = "ask"
    CONTACTS = "contacts"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProgress:
    """A file is coming in."""

    peer_id: PeerId
    name: str
    done: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileArrived:
    """A whole file is in the inbox."""

    peer_id: PeerId
    petname: str | None
    path: Path
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFailed:
    """A file was declined or did not come whole."""

    peer_id: PeerId
    petname: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLine:
    """A line for the console: nobody is chatting with that peer right now."""

    peer_id: PeerId
    petname: str | None
    text: str


ServiceEvent: TypeAlias = FileProgress | FileArrived | FileFailed | ChatLine
Notify: TypeAlias = Callable[[ServiceEvent], None]
Ask: TypeAlias = Callable[[PeerId, Offer], Awaitable[bool]]
"""Puts the question to the user; true accepts. Bounded in time by the service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesConfig:
    """Limits of patience.

    ``hello_s``: for the first message. ``ask_s``: for the user to answer, shorter than
    a sender waits. ``echo_idle_s``: silence that ends an echo.
    """

    hello_s: float = 10.0
    ask_s: float = 120.0
    echo_idle_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ServicesStatistics:
    """Counts since the start."""

    channels: int
    refused: int
    broken: int


class Services:
    """The services of one node: ``chat``, ``echo`` and ``file``."""

    def __init__(
        self,
        *,
        inbox: Path,
        policy: AcceptPolicy,
        book: AddressBook,
        notify: Notify,
        ask: Ask | None = None,
        config: ServicesConfig | None = None,
    ) -> None:
        """``ask`` is ``None`` when there is no terminal to ask at."""
        self.chat_desk = ChatDesk(self._show_line)
        self._book = book
        self._policy = policy
        self._notify = notify
        self._ask = ask
        self._asking = trio.Lock()
        self._config = config or ServicesConfig()
        self._inbox = Inbox(inbox)
        self._receiver = FileReceiver(
            self._inbox, decide=self._decide, progress=self._show_progress
        )
        self._channels = self._refused = self._broken = 0

    async def serve_channel(
        self, peer_id: PeerId, channel: trio.abc.HalfCloseableStream
    ) -> None:
        """Serve one channel that a peer opened, until it ends."""
        self._channels += 1
        try:
            await self._dispatch(peer_id, FrameStream(channel, HELLO))
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("%s hung up", short(peer_id))
        except (OpnodeError, trio.TooSlowError) as error:
            self._broken += 1
            reason = printable(str(error)) or "stalled"
            logger.info("channel of %s ended: %s", short(peer_id), reason)

    def drop_stale_parts(self) -> None:
        """Delete parts of files that nobody came back for; blocks for a few deletions.

        To be called at the start: later ones go when the next file comes.
        """
        self._inbox.drop_stale()

    def statistics(self) -> ServicesStatistics:
        """How many channels were served, refused, and broken by the peer."""
        return ServicesStatistics(self._channels, self._refused, self._broken)

    async def _dispatch(self, peer_id: PeerId, frames: FrameStream[Hello]) -> None:
        with trio.fail_after(self._config.hello_s):
            hello = await frames.receive_untrusted()
        match hello.service:
            case transfer.SERVICE:
                await self._receive_file(peer_id, frames.expecting(transfer.OFFER))
            case chat.SERVICE:
                session = ChatSession(frames.expecting(chat.MESSAGES))
                await self.chat_desk.run_session(peer_id, session)
            case service if service == ECHO:
                await self._echo(frames)
            case unknown:
                await self._refuse(frames, unknown)

    async def _refuse(self, frames: FrameStream[Hello], unknown: str) -> None:
        self._refused += 1
        served = ", ".join(SERVED)
        name = printable(unknown)
        await frames.send(Refused(f"no service {name!r} here, there are {served}"))
        await frames.stream.send_eof()
        with trio.move_on_after(self._config.hello_s):
            await frames.wait_end(1 << 20)

    async def _echo(self, frames: FrameStream[Hello]) -> None:
        while True:
            with trio.fail_after(self._config.echo_idle_s):
                data = await frames.receive_raw()
                if not data:
                    await frames.stream.send_eof()
                    return
                await frames.stream.send_all(data)

    async def _receive_file(self, peer_id: PeerId, frames: FrameStream[Offer]) -> None:
        try:
            received = await self._receiver.receive_untrusted(frames, peer_id)
        except (trio.BrokenResourceError, OpnodeError, trio.TooSlowError) as error:
            reason = printable(str(error)) or "the sender stalled"
            petname = self._book.name_of(peer_id)
            self._notify(FileFailed(peer_id=peer_id, petname=petname, reason=reason))
            raise
        arrived = FileArrived(
            peer_id=peer_id,
            petname=self._book.name_of(peer_id),
            path=received.path,
            size=received.size,
            sha256=received.sha256,
        )
        self._notify(arrived)

    async def _decide(self, peer_id: PeerId, offer: Offer) -> str | None:
        match self._policy:
            case AcceptPolicy.NEVER:
                return "this node takes no files"
            case AcceptPolicy.CONTACTS:
                if peer_id in self._book:
                    return None
                return "this node takes files from its contacts, and you are not one"
            case AcceptPolicy.ASK:
                return await self._ask_user(peer_id, offer)

    async def _ask_user(self, peer_id: PeerId, offer: Offer) -> str | None:
        if self._ask is None:
            return "this node asks its user, and no terminal is there to ask at"
        # One question at a time; those who wait have the same bound.
        accepted: bool | None = None
        with trio.move_on_after(self._config.ask_s):
            async with self._asking:
                accepted = await self._ask(peer_id, offer)
        if accepted is None:
            return "nobody answered the question"
        return None if accepted else "the user declined"

    def _show_progress(self, peer_id: PeerId, offer: Offer, done: int) -> None:
        name = safe_file_name_untrusted(offer.name)
        self._notify(
            FileProgress(peer_id=peer_id, name=name, done=done, size=offer.size)
        )

    def _show_line(self, peer_id: PeerId, text: str) -> None:
        line = printable(text)
        petname = self._book.name_of(peer_id)
        self._notify(ChatLine(peer_id=peer_id, petname=petname, text=line))
