"""Frames: typed messages on a channel, each behind its length.

Owns the framing that every service starts with, and the way from frames to raw bytes on
the same stream. Refuses to know what the messages mean.
"""

from typing import Annotated, Final, Generic, TypeVar

import msgspec
import trio

from opnode.core.errors import LocalProtocolError, RemoteProtocolError

LENGTH_SIZE: Final = 4
"""Bytes of the big-endian length before each frame."""

MAX_FRAME: Final = 16 * 1024
"""Longest frame: the longest message, a chat line, needs a quarter; bulk goes raw."""

READ_SIZE: Final = 256 * 1024
"""What one read from the stream takes at most."""

Message = TypeVar("Message")
NextMessage = TypeVar("NextMessage")


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """First message of a channel: the side that opened it names a service."""

    service: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """Answer to a Hello, before anything else, by a side that does not serve it."""

    reason: Annotated[str, msgspec.Meta(max_length=512)]


HELLO: Final = msgspec.msgpack.Decoder(Hello)


class FrameStream(Generic[Message]):
    """Messages of one tagged union over one stream.

    Reading and writing may happen in two tasks; two readers or two writers may not.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        messages: msgspec.msgpack.Decoder[Message],
    ) -> None:
        """``messages`` decodes the union of types that the peer may send."""
        self.stream = stream
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = messages
        self._buffer = bytearray()

    def expecting(
        self, messages: msgspec.msgpack.Decoder[NextMessage]
    ) -> "FrameStream[NextMessage]":
        """The same stream from here on, with another union of messages."""
        following = FrameStream(self.stream, messages)
        following._buffer = self._buffer
        return following

    async def send(self, *messages: msgspec.Struct, raw: bytes = b"") -> None:
        """Send messages, and ``raw`` bytes behind them, in one write.

        Raises:
            LocalProtocolError: one is longer than ``MAX_FRAME``.
        """
        payloads = [encode_frame(self._encoder.encode(m)) for m in messages]
        await self.stream.send_all(b"".join(payloads) + raw)

    async def receive_untrusted(self) -> Message:
        """Wait for the next message.

        Raises:
            RemoteProtocolError: too long, malformed, or the stream ended inside it.
            trio.EndOfChannel: the stream ended between two messages.
        """
        length = int.from_bytes(await self._take(LENGTH_SIZE, may_end=True), "big")
        if length > MAX_FRAME:
            raise RemoteProtocolError(
                f"frame of {length} bytes, expected at most {MAX_FRAME}"
            )
        payload = await self._take(length, may_end=False)
        try:
            return self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"malformed message: {error}") from None

    async def receive_raw(self, max_bytes: int = READ_SIZE) -> bytes:
        """Return raw bytes that follow the frames read so far; ``b""`` at the end."""
        if self._buffer:
            taken = bytes(self._buffer[:max_bytes])
            del self._buffer[:max_bytes]
            await trio.lowlevel.checkpoint()
            return taken
        return bytes(await self.stream.receive_some(max_bytes))

    async def wait_end(self, max_bytes: int) -> None:
        """Read and drop until the peer ended its direction or ``max_bytes`` came.

        Closing while the peer still sends would cut off what we sent last; hearing the
        peer's end first makes sure that it was read.
        """
        dropped = len(self._buffer)
        self._buffer.clear()
        while dropped < max_bytes:
            data = await self.stream.receive_some(READ_SIZE)
            if not data:
                return
            dropped += len(data)

    async def _take(self, size: int, *, may_end: bool) -> bytes:
        while len(self._buffer) < size:
            data = await self.stream.receive_some(READ_SIZE)
            if data:
                self._buffer += data
            elif may_end and not self._buffer:
                raise trio.EndOfChannel
            else:
                missing = size - len(self._buffer)
                raise RemoteProtocolError(
                    f"the stream ended {missing} bytes short of a frame"
                )
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def encode_frame(payload: bytes) -> bytes:
    """Put the length before ``payload``."""
    if len(payload) > MAX_FRAME:
        raise LocalProtocolError(
            f"message of {len(payload)} bytes, expected at most {MAX_FRAME}"
        )
    return len(payload).to_bytes(LENGTH_SIZE, "big") + payload
