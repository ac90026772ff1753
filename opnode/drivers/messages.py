"""Messages on a channel: each one arrives whole, in order, once.

Owns collecting, waiting and what is held of a message (docs/protocols/messages.md).
Refuses to know what a message means, and how its length is written.
"""

import contextlib
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self, TypeAlias

import trio

from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.drivers.channel import READ_SIZE, Channel
from opnode.protocols.message_framing import MessageSplitter, encode_length

MAX_MESSAGE_SIZE: Final = 1 << 20
"""Bytes of a message that is held in one piece, unless the caller says otherwise."""
PACK_SIZE: Final = 1 << 16
"""Collected bytes from which on ``send_nowait`` does not wait for company."""

Message: TypeAlias = bytes | bytearray | memoryview

# The code with which a channel is reset that ended inside a message.
_INCOMPLETE = 1


class MessageChannel(trio.abc.Channel[bytes]):
    """Sends and receives messages on one channel, which it takes over.

    When bytes leave: ``send`` and ``send_batch`` hand everything over at once, a lone
    message is on its way before they return. ``send_nowait`` collects what is written
    without a checkpoint in between and lets it leave packed, in the next round of the
    scheduler or from 64 KiB on. There is no timer.

    Several tasks may send; one at a time may receive. All methods raise
    ``trio.ClosedResourceError`` when our side closed the channel and
    ``trio.BrokenResourceError`` when the peer or the network did.
    """

    def __init__(self, channel: Channel, *, max_size: int = MAX_MESSAGE_SIZE) -> None:
        """Take over a channel on which nothing else is written or read.

        Args:
            channel: Carries the messages.
            max_size: Bytes of a message that is sent or received in one piece; longer
                ones go through ``open_message`` and ``receive_message``.
        """
        self.channel = channel
        self.max_size = max_size
        self._packer = _Packer(channel, max_size)
        self._splitter = MessageSplitter(max_size)
        self._ready: deque[bytes] = deque()
        self._is_receiving = False

    def send_nowait(self, message: Message) -> None:
        """Take a message without waiting; see the class for when it leaves.

        Costs 0.4 µs when it is as long as the one before.

        Raises:
            trio.WouldBlock: The window is full; ``send`` waits.
            LocalProtocolError: It has more than ``max_size`` bytes.
        """
        self._packer.add(message)

    async def send(self, value: Message) -> None:
        """Send a message; waits while the window is full.

        A call that was cancelled has sent nothing.

        Raises:
            LocalProtocolError: It has more than ``max_size`` bytes.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        packer = self._packer
        await packer.wait_room()
        packer.send(value)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_batch(self, messages: Iterable[Message]) -> None:
        """Send several messages, packed; waits while the window is full.

        Raises:
            LocalProtocolError: One has more than ``max_size`` bytes; those before it
                will leave.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        packer = self._packer
        for message in messages:
            if packer.is_full:
                await packer.wait_room()
            packer.add(message)
        packer.hand_over()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def flush(self) -> None:
        """Hand over what was collected; waits until the window has taken it all."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._packer.hand_over()
        await self._packer.wait_room()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def open_message(self, size: int) -> "OutgoingMessage":
        """Begin a message of any size, whose bytes are written piece by piece.

        Use it with ``async with``. Nothing else can be sent before it is complete.

        Args:
            size: Bytes that the message will have.
        """
        prefix = encode_length(size)
        await self.flush()
        self._packer.begin_stream(prefix)
        return OutgoingMessage(self._packer, size)

    async def send_eof(self) -> None:
        """End our direction after what was sent; the other goes on."""
        await self.flush()
        await self.channel.send_eof()

    async def receive(self) -> bytes:
        """Wait for the next message.

        Raises:
            trio.EndOfChannel: The peer will send no more.
            RemoteProtocolError: The next message has more than ``max_size`` bytes,
                or the channel ended inside it.
        """
        if self._ready:
            await trio.lowlevel.checkpoint()
            return self._ready.popleft()
        batch = await self.receive_batch()
        if len(batch) > 1:
            self._ready.extend(batch)
            return self._ready.popleft()
        return batch[0]

    async def receive_batch(self) -> list[bytes]:
        """Wait for messages; returns all that are here, at least one.

        Raises:
            trio.EndOfChannel: The peer will send no more.
            RemoteProtocolError: The next message has more than ``max_size`` bytes,
                or the channel ended inside it.
        """
        self._check_not_receiving()
        if self._ready:
            await trio.lowlevel.checkpoint()
            batch = list(self._ready)
            self._ready.clear()
            return batch
        self._is_receiving = True
        try:
            while not (batch := self._splitter.split()):
                if self._splitter.size:
                    self._splitter.check_next()
                await self._read_more()
            return batch
        finally:
            self._is_receiving = False

    def receive_batches(self) -> "Batches":
        """Iterate over lists of messages, until the peer ends its direction."""
        return Batches(self)

    async def receive_message(self) -> "IncomingMessage":
        """Wait for the next message of any size, to be read piece by piece.

        Use it with ``async with``; what is not read inside the block is skipped.

        Raises:
            trio.EndOfChannel: The peer will send no more.
            RemoteProtocolError: The channel ended inside the length.
        """
        self._check_not_receiving()
        if self._ready:
            await trio.lowlevel.checkpoint()
            message = self._ready.popleft()
            return IncomingMessage(self, len(message), message)
        self._is_receiving = True
        try:
            while (size := self._splitter.take_length()) is None:
                await self._read_more()
        finally:
            self._is_receiving = False
        return IncomingMessage(self, size, self._splitter.take(size))

    async def aclose(self) -> None:
        """Close the channel; what was sent is still delivered.

        Waits while the window is full; cancelled, it drops what did not fit.
        """
        try:
            with contextlib.suppress(
                trio.ClosedResourceError,
                trio.BrokenResourceError,
                trio.BusyResourceError,
            ):
                await self.flush()
        finally:
            await self.channel.aclose()

    def hold(self, *, bytes_left: int) -> None:
        """Let nobody receive while a message is read piece by piece."""
        self._is_receiving = bytes_left > 0

    async def _read_more(self) -> None:
        data = await self.channel.receive_some()
        if data:
            self._splitter.add(data)
            return
        if self._splitter.size:
            raise RemoteProtocolError(
                f"the channel ended inside a message, after {self._splitter.size} "
                "bytes of it"
            )
        raise trio.EndOfChannel

    def _check_not_receiving(self) -> None:
        if self._is_receiving:
            raise trio.BusyResourceError("a message is being received already")


class Batches:
    """Lists of messages as they come, until the peer ends its direction."""

    def __init__(self, messages: MessageChannel) -> None:
        self._messages = messages

    def __aiter__(self) -> Self:
        """Iterate; every iterator takes from the same channel."""
        return self

    async def __anext__(self) -> list[bytes]:
        """Wait for the next messages, at least one."""
        try:
            return await self._messages.receive_batch()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


class OutgoingMessage(trio.abc.SendStream):
    """A message that is written piece by piece; nothing of it is held.

    Leaving its block before it is complete resets the channel: nothing can follow half
    a message.
    """

    def __init__(self, packer: "_Packer", size: int) -> None:
        self.size = size
        self._packer = packer
        self._left = size
        self._end_if_complete()

    async def send_all(self, data: Message) -> None:
        """Write the next bytes; waits while the window is full.

        Raises:
            LocalProtocolError: They are more than the message has left.
        """
        count = memoryview(data).nbytes
        if count > self._left:
            raise LocalProtocolError(
                f"{count} bytes for a message that has {self._left} of {self.size} left"
            )
        # The length may still wait for room.
        await self._packer.wait_room()
        await self._packer.channel.send_all(data)
        self._left -= count
        self._end_if_complete()

    async def wait_send_all_might_not_block(self) -> None:
        """Checkpoint; ``send_all`` itself waits for room in the window."""
        await self._packer.channel.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """End the message; one that is not complete resets the channel."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._give_up()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the message.

        Raises:
            LocalProtocolError: The block ended before the message was complete.
        """
        left = self._left
        self._give_up()
        if left and error is None:
            raise LocalProtocolError(
                f"a message of {self.size} bytes ended {left} bytes early"
            )
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _give_up(self) -> None:
        if self._left:
            self._left = 0
            self._packer.channel.abandon(_INCOMPLETE)

    def _end_if_complete(self) -> None:
        if not self._left:
            self._packer.end_stream()


class IncomingMessage(trio.abc.ReceiveStream):
    """A message that is read piece by piece; at most what was asked for is held.

    Attributes:
        size: Bytes of the whole message.
    """

    def __init__(self, messages: MessageChannel, size: int, first: bytes) -> None:
        self.size = size
        self._messages = messages
        self._here = memoryview(first)
        self._left = size - len(first)
        self._hold()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return between 1 and ``max_bytes`` bytes, or ``b""`` at its end.

        Raises:
            RemoteProtocolError: The channel ended inside the message.
        """
        limit = READ_SIZE if max_bytes is None else max_bytes
        if self._here.nbytes or not self._left:
            await trio.lowlevel.checkpoint()
            data = bytes(self._here[:limit])
            self._here = self._here[limit:]
            return data
        data = await self._messages.channel.receive_some(min(limit, self._left))
        if not data:
            raise RemoteProtocolError(
                f"the channel ended {self._left} bytes before the end of a message "
                f"of {self.size}"
            )
        self._left -= len(data)
        self._hold()
        return data

    async def aclose(self) -> None:
        """Skip what was not read; cancelled, it resets the channel."""
        self._here = memoryview(b"")
        try:
            while await self.receive_some():
                pass
        except BaseException:
            self._messages.channel.abandon(_INCOMPLETE)
            self._left = 0
            self._hold()
            raise

    def _hold(self) -> None:
        """Keep others from reading on while bytes of the message are to come."""
        self._messages.hold(bytes_left=self._left)


class _Packer:
    """Collects messages and puts them into a channel, many at a time.

    Bounded: nothing is added while something is left that the window did not take, so
    at most 64 KiB and one message are held.
    """

    __slots__ = (
        "_collected",
        "_is_scheduled",
        "_is_streaming",
        "_last_size",
        "_max_size",
        "_pending",
        "_prefix",
        "_rest",
        "_step",
        "_waiting",
        "channel",
    )

    def __init__(self, channel: Channel, max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._pending: list[bytes] = []
        self._collected = 0
        # What the window did not take; it goes first.
        self._rest: memoryview | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_scheduled = False
        self._is_streaming = False
        # Messages often have the size of the one before, and so its prefix.
        self._last_size = -1
        self._prefix = b""
        self._step = 0
        channel.on_room = self._schedule

    @property
    def is_full(self) -> bool:
        """Whether ``add`` would raise ``trio.WouldBlock``."""
        return self._rest is not None

    def add(self, message: Message) -> None:
        """Take a message, plainly written for speed: 0.4 µs.

        Raises:
            trio.WouldBlock: The window is full.
            LocalProtocolError: The message is too long.
        """
        if type(message) is not bytes:
            message = bytes(message)
        if len(message) != self._last_size:
            self._set_size(len(message))
        pending = self._pending
        if not pending:
            self._begin()
        pending.append(self._prefix)
        pending.append(message)
        self._collected += self._step
        if self._collected >= PACK_SIZE:
            self.hand_over()

    def send(self, message: Message) -> None:
        """Let a message leave at once, behind what was collected.

        Raises:
            As ``add``.
        """
        if self._pending or self._is_streaming or type(message) is not bytes:
            self.add(message)
            self.hand_over()
            return
        if len(message) != self._last_size:
            self._set_size(len(message))
        self._put(self._prefix + message)
        self.channel.flush()

    def hand_over(self) -> None:
        """Put what was collected into the channel and let it leave."""
        self._move()
        self.channel.flush()

    async def wait_room(self) -> None:
        """Wait until the window took everything; no checkpoint when it has."""
        has_waited = False
        while self._rest is not None:
            has_waited = True
            await self._waiting.park()
        if has_waited:
            self.channel.check_sendable()

    def begin_stream(self, prefix: bytes) -> None:
        """Let a message begin that is written piece by piece."""
        self._begin()
        self._is_streaming = True
        self._pending.append(prefix)
        self._move()

    def end_stream(self) -> None:
        """Let others send again."""
        self._is_streaming = False

    def _begin(self) -> None:
        """Start to collect."""
        self.channel.check_sendable()
        if self._rest is not None:
            raise trio.WouldBlock
        if self._is_streaming:
            raise trio.BusyResourceError("a message is being written piece by piece")
        self._schedule()

    def _set_size(self, size: int) -> None:
        if size > self._max_size:
            raise LocalProtocolError(
                f"a message of {size} bytes, at most {self._max_size} are allowed; "
                "open_message sends longer ones"
            )
        self._prefix = encode_length(size)
        self._step = size + len(self._prefix)
        self._last_size = size

    def _schedule(self) -> None:
        """Go on in the next round of the scheduler; also called when there is room."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self.channel.call_soon(self._move_soon)

    def _move_soon(self) -> None:
        self._is_scheduled = False
        # Whoever sends or waits next is told why.
        with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            self._move()

    def _move(self) -> None:
        """Put into the channel what its window takes."""
        try:
            if self._rest is not None:
                self._put(self._rest)
            if self._rest is None and self._pending:
                data = b"".join(self._pending)
                self._pending.clear()
                self._collected = 0
                self._put(data)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            self._rest = None
            self._pending.clear()
            self._collected = 0
            raise
        finally:
            if self._rest is None:
                self._waiting.unpark_all()

    def _put(self, data: bytes | memoryview) -> None:
        taken = self.channel.put(data)
        self._rest = memoryview(data)[taken:] if taken < len(data) else None
