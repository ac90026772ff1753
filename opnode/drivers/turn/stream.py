"""The way to a TURN server over TCP (RFC 8656 §3.1), for where UDP does not pass.

Owns the stream, the queue towards it and the cutting of what comes into messages.
Refuses to know what the messages say.
"""

import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RelayUnavailable
from opnode.drivers.network.network import Buffer, segments_of

ConnectStream: TypeAlias = Callable[[Endpoint], Awaitable[trio.abc.Stream]]

_HEAD: Final = struct.Struct("!HH")
_STUN_HEADER: Final = 20
_ALIGNMENT: Final = 4
# What waits while the stream is slow; more would only be late. As long as a datagram
# would wait in a home gateway's queue.
_QUEUE_BYTES: Final = 1 << 18


async def connect_stream(endpoint: Endpoint) -> trio.abc.Stream:
    """Open a TCP connection."""
    return await trio.open_tcp_stream(endpoint.host, endpoint.port)


class TurnStream:
    """A TURN server's TCP connection, message by message."""

    def __init__(
        self, stream: trio.abc.Stream, receive_untrusted: Callable[[bytes], None]
    ) -> None:
        """``receive_untrusted`` gets each message, without its padding."""
        self._stream = stream
        self._receive_untrusted = receive_untrusted
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._buffer = bytearray()
        self._wake = trio.Event()

    def send(self, data: Buffer, segment_size: int = 0) -> bool:
        """Queue messages; what finds the queue full is lost, as datagrams may be."""
        for segment in segments_of(data, segment_size or max(len(data), 1)):
            padded = bytes(segment) + bytes(-len(segment) % _ALIGNMENT)
            if self._queued + len(padded) <= _QUEUE_BYTES:
                self._queue.append(padded)
                self._queued += len(padded)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Read and write until the connection ends.

        Raises:
            RelayUnavailable: it ended.
        """
        reason = "the TURN server closed the connection"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            try:
                while chunk := await self._stream.receive_some():
                    self._cut_untrusted(chunk)
            except trio.BrokenResourceError as error:
                reason = f"the connection to the TURN server broke: {error}"
            nursery.cancel_scope.cancel()
        raise RelayUnavailable(reason)

    async def _write(self, reader: trio.CancelScope) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._queue:
                chunk = self._queue.popleft()
                self._queued -= len(chunk)
                try:
                    await self._stream.send_all(chunk)
                except trio.BrokenResourceError:
                    reader.cancel()
                    return

    def _cut_untrusted(self, chunk: bytes | bytearray) -> None:
        """Hand on every message that is complete; none is longer than 64 kB."""
        self._buffer += chunk
        while len(self._buffer) >= _HEAD.size:
            _, length = _HEAD.unpack_from(self._buffer)
            is_channel = self._buffer[0] & 0xC0 == 0x40  # noqa: PLR2004 - RFC 8656 §12
            size = length + (_HEAD.size if is_channel else _STUN_HEADER)
            padded = size + -size % _ALIGNMENT
            if len(self._buffer) < padded:
                return
            message = bytes(self._buffer[:size])
            del self._buffer[:padded]
            self._receive_untrusted(message)
