"""Chat over one channel: lines both ways, each with a receipt once it was shown.

Owns the messages, their bounds and the ids. Refuses to know who shows the lines. See
docs/protocols/chat.md.
"""

from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import msgspec
import trio

from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.core.text import printable
from opnode.daemon.frames import FrameStream, Hello, Refused

SERVICE: Final = "chat"

MAX_LINE: Final = 4096
"""Bytes of one line in UTF-8."""

LineId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]


class Line(msgspec.Struct, frozen=True, array_like=True, tag="line"):
    """One line; ids count from 1 in each direction."""

    line_id: LineId
    text: Annotated[str, msgspec.Meta(max_length=MAX_LINE)]


class Shown(msgspec.Struct, frozen=True, array_like=True, tag="shown"):
    """The line was put before a person."""

    line_id: LineId


Message: TypeAlias = Refused | Line | Shown

MESSAGES: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatConfig:
    """``max_unshown``: lines under way; more of them wait: at most 256 kB are held."""

    max_unshown: int = 64


class ChatSession:
    """One conversation; one task receives, others may send."""

    def __init__(
        self,
        frames: FrameStream[Message],
        config: ChatConfig | None = None,
    ) -> None:
        """``frames`` stands behind the Hello."""
        self._frames = frames
        limit = (config or ChatConfig()).max_unshown
        self._places = trio.Semaphore(limit, max_value=limit)
        self._unshown: set[int] = set()
        self._last_received = 0
        self._next_id = 1
        self._sending = trio.Lock()

    @classmethod
    async def open(cls, channel: trio.abc.HalfCloseableStream) -> "ChatSession":
        """Ask the peer to chat on a fresh channel."""
        frames = FrameStream(channel, MESSAGES)
        await frames.send(Hello(SERVICE))
        return cls(frames)

    async def send_line(self, text: str) -> int:
        """Send a line and return its id; waits while too many are not shown yet.

        Raises:
            LocalProtocolError: it is longer than ``MAX_LINE`` bytes.
            trio.BrokenResourceError: the conversation is over.
        """
        size = len(text.encode())
        if size > MAX_LINE:
            raise LocalProtocolError(
                f"line of {size} bytes, expected at most {MAX_LINE}"
            )
        # Outside the lock: receipts must leave while lines wait for receipts.
        await self._places.acquire()
        async with self._sending:
            line_id = self._next_id
            self._next_id += 1
            self._unshown.add(line_id)
            await self._frames.send(Line(line_id, text))
        return line_id

    async def mark_shown(self, line_id: int) -> None:
        """Tell the peer that a line of theirs was put before a person."""
        async with self._sending:
            await self._frames.send(Shown(line_id))

    async def receive_untrusted(self) -> Line | Shown | None:
        """Wait for a line of the peer or the receipt of ours; ``None`` at the end.

        Raises:
            RemoteProtocolError: malformed, refused, an id out of order, or a receipt
                for a line never sent.
            trio.BrokenResourceError: the connection broke.
        """
        try:
            message = await self._frames.receive_untrusted()
        except trio.EndOfChannel:
            return None
        match message:
            case Line(line_id=line_id):
                self._check_order(message)
                self._last_received = line_id
            case Shown(line_id=line_id):
                if line_id not in self._unshown:
                    raise RemoteProtocolError(f"receipt of line {line_id}, never sent")
                self._unshown.discard(line_id)
                self._places.release()
            case Refused(reason=reason):
                text = f"the peer does not chat: {printable(reason)}"
                raise RemoteProtocolError(text)
        return message

    @property
    def unshown(self) -> int:
        """How many of our lines no person has seen yet."""
        return len(self._unshown)

    async def aclose(self) -> None:
        """End the conversation."""
        await self._frames.stream.aclose()

    def _check_order(self, line: Line) -> None:
        if line.line_id != self._last_received + 1:
            expected = self._last_received + 1
            raise RemoteProtocolError(
                f"line id: found {line.line_id}, expected {expected}"
            )
        if len(line.text.encode()) > MAX_LINE:
            raise RemoteProtocolError(f"line longer than {MAX_LINE} bytes")
