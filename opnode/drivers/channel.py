"""A channel: one ordered, reliable byte stream, as a trio stream.

Owns waiting, half-close and the errors that ``trio.abc`` asks for. Refuses to know how
bytes travel; that is its carrier's business.
"""

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import trio

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp import events

READ_SIZE: Final = 1 << 18
"""Bytes that one ``receive_some`` returns at most when the caller names no limit."""


Buffer: TypeAlias = bytes | memoryview
ChannelEvent: TypeAlias = (
    events.ChannelReadable
    | events.ChannelWritable
    | events.ChannelDelivered
    | events.ChannelReset
    | events.ChannelStopped
)


class ChannelCarrier(Protocol):
    """What a channel needs of the connection below it. Nothing here blocks."""

    def put(self, channel_id: int, data: Buffer) -> int:
        """Take bytes; after fewer than all, ``on_writable`` will be called."""
        ...

    def flush(self) -> None:
        """Let leave what may leave."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call this once in the next round of the scheduler, then flush."""
        ...

    def read(self, channel_id: int, max_bytes: int) -> bytes | None:
        """Give bytes: None when there are none yet, empty at the end."""
        ...

    def set_urgency(self, channel_id: int, urgency: int) -> None:
        """Serve the channel before those of a higher number."""
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


class Waiter:
    """One task that sleeps until it is woken; a wake-up that nobody awaits is lost.

    An event per wait would cost 2 µs more, twice in a round trip of 100 µs.
    """

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Sleep; a checkpoint."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def wake(self) -> None:
        """Let the sleeping task go on, if there is one."""
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    def _abort(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Channel(trio.abc.HalfCloseableStream):
    """One ordered, reliable byte stream inside a connection.

    What is written leaves at once, as far as windows allow: there is no timer that
    collects small writes. The scheduler's turn that trio asks of every call comes
    after that, so that the peer works meanwhile.

    Raises ``trio.ClosedResourceError`` when our side closed it and
    ``trio.BrokenResourceError`` when the peer or the network did.
    """

    def __init__(self, connection: ChannelCarrier, channel_id: int) -> None:
        self.channel_id = channel_id
        self._connection = connection
        self._reader = Waiter()
        self._writer = Waiter()
        # Who writes without waiting is told here that there is room again.
        self.on_room: Callable[[], None] | None = None
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
        await trio.lowlevel.checkpoint_if_cancelled()
        view = data if type(data) is bytes else memoryview(data).cast("B")
        taken = self.write(view)
        if taken == len(view):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._sending = True
        try:
            rest = memoryview(view)[taken:]
            while rest.nbytes:
                await self._writer.wait()
                rest = rest[self.write(rest) :]
        finally:
            self._sending = False

    def put(self, data: Buffer) -> int:
        """Take what fits the window, without waiting; it leaves with the next flush.

        Returns:
            How many bytes were taken; after fewer than all, ``on_room`` will be called.

        Raises:
            trio.ClosedResourceError: We closed the channel for sending.
            trio.BrokenResourceError: The peer or the network did.
        """
        self.check_sendable()
        return self._connection.put(self.channel_id, data)

    def write(self, data: Buffer) -> int:
        """As ``put``, and let it leave at once."""
        taken = self.put(data)
        self._connection.flush()
        return taken

    def abandon(self, code: int) -> None:
        """Reset both directions, without a checkpoint; again is harmless."""
        if self._closed:
            return
        self._closed = True
        self._connection.abandon(self.channel_id, code)
        self._wake()

    def check_sendable(self) -> None:
        """Refuse when nothing can be written any more.

        Raises:
            trio.ClosedResourceError: We closed the channel for sending.
            trio.BrokenResourceError: The peer or the network did.
        """
        if self._closed or self._finished:
            raise trio.ClosedResourceError("this channel was closed for sending")
        reason = self._broken or self._stopped
        if reason is not None:
            raise trio.BrokenResourceError(reason)

    def flush(self) -> None:
        """Let leave what was put."""
        self._connection.flush()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call this once in the next round of the scheduler, then flush."""
        self._connection.call_soon(callback)

    def set_urgency(self, urgency: int) -> None:
        """Let what we send on it go before all of a higher number; at any time.

        Channels of one urgency take turns. Nothing is told to the peer.

        Args:
            urgency: 0 to 7 (RFC 9218 §4.1); a channel starts with 3.

        Raises:
            LocalProtocolError: It is not.
        """
        self._connection.set_urgency(self.channel_id, urgency)

    async def wait_send_all_might_not_block(self) -> None:
        """Checkpoint; ``send_all`` itself waits for room in the window."""
        await trio.lowlevel.checkpoint()
        self.check_sendable()

    async def send_eof(self) -> None:
        """End our direction; the peer reads to the end and may go on sending."""
        await trio.lowlevel.checkpoint()
        if self._finished:
            return
        self.check_sendable()
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
        await trio.lowlevel.checkpoint_if_cancelled()
        data = self._read(max_bytes or READ_SIZE)
        if data is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        self._reading = True
        try:
            while data is None:
                await self._reader.wait()
                data = self._read(max_bytes or READ_SIZE)
        finally:
            self._reading = False
        return data

    async def reset(self, code: int = 0) -> None:
        """Abandon both directions; what was not delivered is lost."""
        await trio.lowlevel.checkpoint()
        self.abandon(code)

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

    def on_event(self, event: ChannelEvent) -> None:
        """Take in what the transport says about this channel."""
        match event:
            case events.ChannelReadable():
                self.on_readable()
            case events.ChannelWritable():
                self.on_writable()
            case events.ChannelDelivered():
                self.on_delivered()
            case events.ChannelReset(code=code):
                self.on_broken(f"the peer reset the channel (code {code})")
            case events.ChannelStopped(code=code):
                self.on_stopped(code)

    def on_readable(self) -> None:
        """Bytes or the end of the stream arrived."""
        self._reader.wake()

    def on_writable(self) -> None:
        """The window has room again."""
        self._writer.wake()
        if self.on_room is not None:
            self.on_room()

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

    def _wake(self) -> None:
        self._reader.wake()
        self._delivered.set()
        self.on_writable()
