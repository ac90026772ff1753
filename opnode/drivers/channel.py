"""A channel: one ordered, reliable byte stream, as a trio stream.

Owns waiting, half-close and the errors that ``trio.abc`` asks for. Refuses to know how
bytes travel; that is its carrier's business.
"""

from typing import Final, Protocol

import trio

from opnode.core.errors import LocalProtocolError

READ_SIZE: Final = 1 << 18
"""Bytes that one ``receive_some`` returns at most when the caller names no limit."""


class ChannelCarrier(Protocol):
    """What a channel needs of the connection below it. Nothing here blocks."""

    def write(self, channel_id: int, data: memoryview) -> int:
        """Take bytes; after fewer than all, ``on_writable`` will be called."""
        ...

    def read(self, channel_id: int, max_bytes: int) -> bytes | None:
        """Give bytes: None when there are none yet, empty at the end."""
        ...

    def finish(self, channel_id: int) -> None:
        """End our direction after what was written."""
        ...

    def abandon(self, channel_id: int, code: int) -> None:
        """Reset both directions and forget the channel."""
        ...

    def release(self, channel_id: int, *, is_ended: bool) -> None:
        """End our direction politely and forget the channel."""
        ...


class Channel(trio.abc.HalfCloseableStream):
    """One ordered, reliable byte stream inside a connection.

    Raises ``trio.ClosedResourceError`` when our side closed it and
    ``trio.BrokenResourceError`` when the peer or the network did.
    """

    def __init__(self, connection: ChannelCarrier, channel_id: int) -> None:
        self.channel_id = channel_id
        self._connection = connection
        self._readable = trio.Event()
        self._writable = trio.Event()
        self._broken: str | None = None
        self._stopped: str | None = None
        self._closed = False
        self._finished = False
        self._ended = False
        self._is_delivered = False
        self._delivered = trio.Event()
        self._sending = False
        self._reading = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of ``data`` to the channel; waits while its window is full."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this channel")
        await trio.lowlevel.checkpoint()
        self._check_sendable()
        view = memoryview(data).cast("B")
        self._sending = True
        try:
            while view.nbytes:
                self._check_sendable()
                self._writable = trio.Event()
                view = view[self._connection.write(self.channel_id, view) :]
                if view.nbytes:
                    await self._writable.wait()
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Checkpoint; ``send_all`` itself waits for room in the window."""
        await trio.lowlevel.checkpoint()
        self._check_sendable()

    async def send_eof(self) -> None:
        """End our direction; the peer reads to the end and may go on sending."""
        await trio.lowlevel.checkpoint()
        if self._finished:
            return
        self._check_sendable()
        self._finished = True
        self._connection.finish(self.channel_id)

    async def wait_delivered(self) -> None:
        """Wait until the peer holds every byte, after ``send_eof``.

        Closing the connection before that may lose what is still on its way.
        """
        if not self._finished:
            raise LocalProtocolError("wait_delivered comes after send_eof")
        await self._delivered.wait()
        reason = self._broken or self._stopped
        if reason is not None and not self._is_delivered:
            raise trio.BrokenResourceError(reason)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return between 1 and ``max_bytes`` bytes, or ``b""`` at the end."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes: found {max_bytes}, expected at least 1")
        if self._reading:
            raise trio.BusyResourceError("another task is reading from this channel")
        await trio.lowlevel.checkpoint()
        self._reading = True
        try:
            while True:
                self._readable = trio.Event()
                data = self._read(max_bytes or READ_SIZE)
                if data is not None:
                    return data
                await self._readable.wait()
        finally:
            self._reading = False

    async def reset(self, code: int = 0) -> None:
        """Abandon both directions; what was not delivered is lost."""
        await trio.lowlevel.checkpoint()
        self._abandon(code)

    async def aclose(self) -> None:
        """Close: a finished channel ends politely, an unfinished one is reset.

        What was sent before ``aclose`` without ``send_eof`` is still delivered; the
        peer then sees the end of the stream.
        """
        if not self._closed:
            self._closed = True
            self._connection.release(self.channel_id, is_ended=self._ended)
            self._wake()
        await trio.lowlevel.checkpoint()

    def on_readable(self) -> None:
        """Bytes or the end of the stream arrived."""
        self._readable.set()

    def on_writable(self) -> None:
        """The window has room again."""
        self._writable.set()

    def on_delivered(self) -> None:
        """The peer has every byte and the end of our direction."""
        self._is_delivered = True
        self._delivered.set()

    def on_stopped(self, code: int) -> None:
        """The peer reads no more: sending is over."""
        self._stopped = f"the peer stopped reading (code {code})"
        self._wake()

    def on_broken(self, reason: str) -> None:
        """The peer reset the channel, or the connection ended."""
        if self._broken is None:
            self._broken = reason
        self._wake()

    def _read(self, max_bytes: int) -> bytes | None:
        if self._closed:
            raise trio.ClosedResourceError("this channel was closed")
        if self._ended:
            return b""
        data = self._connection.read(self.channel_id, max_bytes)
        if data is None and self._broken is not None:
            raise trio.BrokenResourceError(self._broken)
        if data == b"":
            self._ended = True
        return data

    def _abandon(self, code: int) -> None:
        if self._closed:
            return
        self._closed = True
        self._connection.abandon(self.channel_id, code)
        self._wake()

    def _check_sendable(self) -> None:
        if self._closed or self._finished:
            raise trio.ClosedResourceError("this channel was closed for sending")
        reason = self._broken or self._stopped
        if reason is not None:
            raise trio.BrokenResourceError(reason)

    def _wake(self) -> None:
        self._readable.set()
        self._writable.set()
        self._delivered.set()
