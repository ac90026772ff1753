"""File transfer over one channel: offer, verdict, bytes, trailer, receipt.

Owns the messages and both roles. Refuses to know how the channel came about, and
whether the user wants the file: that is a function it is given. See
docs/protocols/transfer.md.

Files are read, hashed and written in worker threads, a megabyte at a time: that costs
one hand-over of about 0.1 ms each, and neither a slow disk nor a digest holds up the
loop.
"""

import contextlib
import errno
import functools
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
import trio

from opnode.core.errors import (
    ConfigError,
    RemoteProtocolError,
    TransferCorrupt,
    TransferDeclined,
    TransferError,
)
from opnode.core.ids import PeerId
from opnode.core.text import printable
from opnode.daemon.frames import READ_SIZE, FrameStream, Hello, Refused
from opnode.daemon.inbox import Inbox, PartialFile

SERVICE: Final = "file"
MAX_SIZE: Final = 1 << 50
"""Largest file offered, bytes: a petabyte; sizes stay exact in every JSON reader."""

ShortText: TypeAlias = Annotated[str, msgspec.Meta(max_length=1024)]
ByteCount: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]


class Offer(msgspec.Struct, frozen=True, array_like=True, tag="offer"):
    """The sender describes the file; ``modified`` is Unix seconds, to show."""

    name: ShortText
    size: ByteCount
    transfer_id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    modified: float


class Verdict(msgspec.Struct, frozen=True, array_like=True, tag="verdict"):
    """The receiver accepts from byte ``offset`` on, or says why not."""

    is_accepted: bool
    offset: ByteCount
    reason: ShortText


class Trailer(msgspec.Struct, frozen=True, array_like=True, tag="trailer"):
    """After the bytes: the SHA-256 of the whole file."""

    sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Receipt(msgspec.Struct, frozen=True, array_like=True, tag="receipt"):
    """The receiver has the file under ``name``, or gave up for ``reason``.

    A failed receipt may come while the bytes are still under way.
    """

    is_ok: bool
    name: ShortText
    reason: ShortText


Reply: TypeAlias = Refused | Verdict | Receipt

OFFER: Final = msgspec.msgpack.Decoder(Offer)
_REPLY: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)
_TRAILER: Final = msgspec.msgpack.Decoder(Trailer)

Progress: TypeAlias = Callable[[int, int], None]
"""Called after each block with the bytes done and the bytes of the whole file."""

Done: TypeAlias = Callable[[int], None]

Decide: TypeAlias = Callable[[PeerId, Offer], Awaitable[str | None]]
"""Asked for each offer: ``None`` accepts, a text declines and is the reason."""

Incoming: TypeAlias = Callable[[PeerId, Offer, int], None]
"""Called after each block that came in, with the bytes done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferConfig:
    """Limits of a transfer.

    ``block``: bytes read or written at once; see the module's docstring.
    ``stall_s``: silence in the middle after which the other side counts as gone.
    ``decision_s``: how long a sender waits for a person to decide; longer than the
    receiver asks. ``receipt_s``: a slow disk may sync several gigabytes.
    ``farewell_s``: a last message takes a few round trips, lost packets included.
    """

    block: int = 1 << 20
    stall_s: float = 60.0
    decision_s: float = 180.0
    receipt_s: float = 300.0
    farewell_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """What became of a sent file: ``name`` is the receiver's, ``offset`` the resume."""

    name: str
    size: int
    offset: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFile:
    """A whole, verified file at ``path``."""

    path: Path
    size: int
    offset: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that is to be sent, as it was when it was looked at."""

    path: Path
    size: int
    modified: float

    @classmethod
    def inspect(cls, path: Path) -> "SourceFile":
        """Look at ``path``.

        Raises:
            ConfigError: it is not a file that can be read.
        """
        try:
            found = path.stat()
            # Before it is opened: to open a named pipe waits for whoever writes to it.
            if not stat.S_ISREG(found.st_mode):
                text = f"{path}, {kind_of_file(found.st_mode)}"
                raise ConfigError("file", text, "a regular file")
            with path.open("rb"):
                pass
        except OSError as error:
            raise ConfigError("file", f"{path}: {error.strerror}", "a file") from None
        return cls(path=path, size=found.st_size, modified=found.st_mtime)

    def offer(self) -> Offer:
        """Describe it; the same file, unchanged, makes the same offer again."""
        digest = hashlib.sha256(b"opnode transfer")
        digest.update(repr((self.path.name, self.size, self.modified)).encode())
        name = self.path.name.encode("utf-8", "replace").decode()
        transfer_id = digest.digest()[:16]
        return Offer(name, self.size, transfer_id, self.modified)


def kind_of_file(mode: int) -> str:
    """Name what is there instead of a regular file."""
    named = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((kind for is_it, kind in named if is_it(mode)), "no regular file")


class FileSender:
    """The sending role, for one file on one channel."""

    def __init__(
        self,
        channel: trio.abc.HalfCloseableStream,
        source: SourceFile,
        *,
        progress: Progress,
        config: TransferConfig | None = None,
    ) -> None:
        """Nothing is sent before ``run``."""
        self._frames = FrameStream(channel, _REPLY)
        self._source = source
        self._progress = progress
        self._config = config or TransferConfig()
        self._failure: Exception | None = None
        self._answer: Reply | None = None
        self._digest = hashlib.sha256()

    async def run(self) -> SentFile:
        """Offer the file, send what is missing, wait for the receipt.

        Raises:
            TransferDeclined: the receiver does not want it.
            TransferCorrupt: the receiver got other bytes than we read.
            TransferError: the receiver failed, or the file changed meanwhile.
            RemoteProtocolError: the receiver broke the protocol.
            trio.BrokenResourceError: the connection broke: run again on a new channel.
            trio.TooSlowError: the receiver stalled.
        """
        await self._frames.send(Hello(SERVICE), self._source.offer())
        with trio.fail_after(self._config.decision_s):
            offset = self._check_verdict(await self._receive())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_receipt, nursery.cancel_scope)
            nursery.start_soon(self._send_body, offset, nursery.cancel_scope)
        if self._failure is not None:
            raise self._failure
        return self._check_receipt(offset)

    async def _receive(self) -> Reply:
        try:
            return await self._frames.receive_untrusted()
        except trio.EndOfChannel:
            raise trio.BrokenResourceError("the receiver hung up") from None
        except trio.ClosedResourceError as error:
            # Our own node gave the connection up; to the transfer that is a break.
            raise trio.BrokenResourceError(str(error) or "closed here") from None

    def _check_verdict(self, answer: Reply) -> int:
        if isinstance(answer, Refused):
            raise TransferDeclined(printable(answer.reason))
        if not isinstance(answer, Verdict):
            raise RemoteProtocolError("found a receipt, expected a verdict")
        if not answer.is_accepted:
            raise TransferDeclined(printable(answer.reason) or "no reason given")
        if answer.offset > self._source.size:
            raise RemoteProtocolError(
                f"verdict: found offset {answer.offset}, expected at most"
                f" {self._source.size}"
            )
        return answer.offset

    async def _wait_receipt(self, scope: trio.CancelScope) -> None:
        """Listen while sending: a receiver whose disk is full says so at once."""
        try:
            self._answer = await self._receive()
        except (trio.BrokenResourceError, RemoteProtocolError) as error:
            self._failure = self._failure or error
        scope.cancel()

    async def _send_body(self, offset: int, scope: trio.CancelScope) -> None:
        try:
            await self._send_blocks(offset)
            with trio.fail_after(self._config.receipt_s):
                await trio.sleep_forever()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The receipt, or the same break, reaches the task that listens.
            return
        except (TransferError, OSError, trio.TooSlowError) as error:
            self._failure = error
            scope.cancel()

    async def _send_blocks(self, offset: int) -> None:
        descriptor = await trio.to_thread.run_sync(os.open, self._source.path, _READ)
        try:
            skip = (descriptor, offset, self._digest)
            await trio.to_thread.run_sync(_hash_prefix, *skip)
            done = offset
            self._progress(done, self._source.size)
            while done < self._source.size:
                block = await self._read_block(descriptor, self._source.size - done)
                with trio.fail_after(self._config.stall_s):
                    await self._frames.stream.send_all(block)
                done += len(block)
                self._progress(done, self._source.size)
        finally:
            os.close(descriptor)
        await self._frames.send(Trailer(self._digest.digest()))

    async def _read_block(self, descriptor: int, missing: int) -> bytes:
        size = min(self._config.block, missing)
        block = await trio.to_thread.run_sync(
            _read_and_hash, descriptor, size, self._digest
        )
        if not block:
            raise TransferError(
                f"{self._source.path}: {missing} bytes shorter than when it was offered"
            )
        return block

    def _check_receipt(self, offset: int) -> SentFile:
        answer = self._answer
        if not isinstance(answer, Receipt):
            raise RemoteProtocolError("found another message, expected a receipt")
        if not answer.is_ok:
            reason = printable(answer.reason)
            if answer.reason == CORRUPT:
                raise TransferCorrupt(reason)
            raise TransferError(f"the receiver gave up: {reason}")
        return SentFile(
            name=printable(answer.name),
            size=self._source.size,
            offset=offset,
            sha256=self._digest.digest(),
        )


CORRUPT: Final = "the bytes do not match their SHA-256; send the file again"


class FileReceiver:
    """The receiving role for one directory; knows which files are coming in now."""

    def __init__(
        self,
        inbox: Inbox,
        *,
        decide: Decide,
        progress: Incoming,
        config: TransferConfig | None = None,
    ) -> None:
        """``decide`` is asked once for each offer."""
        self._inbox = inbox
        self._decide = decide
        self._progress = progress
        self._config = config or TransferConfig()
        self._active: dict[str, tuple[trio.CancelScope, trio.Event]] = {}

    async def receive_untrusted(
        self, frames: FrameStream[Offer], peer_id: PeerId
    ) -> ReceivedFile:
        """Serve one channel after its Hello; ends with the file in its place.

        Raises:
            TransferDeclined: we did not want it, or have no room.
            TransferCorrupt: the bytes do not match the trailer; nothing was kept.
            TransferError: our disk failed, or the sender came back on a new channel.
            RemoteProtocolError: the sender broke the protocol.
            trio.BrokenResourceError: the connection broke; the part is kept.
            trio.TooSlowError: the sender stalled; the part is kept.
        """
        with trio.fail_after(self._config.stall_s):
            offer = await frames.receive_untrusted()
        reason = await self._decide(peer_id, offer)
        if reason is not None:
            await self._decline(frames, reason)
            raise TransferDeclined(reason)
        try:
            return await self._take_over(frames, offer, peer_id)
        except TransferDeclined as declined:
            await self._decline(frames, str(declined))
            raise

    async def _take_over(
        self, frames: FrameStream[Offer], offer: Offer, peer_id: PeerId
    ) -> ReceivedFile:
        """Be the only one that writes this file.

        A sender that comes back may be quicker than we are to notice that its old
        connection is dead; the old attempt is cancelled and has let go before we open.
        """
        key = partial_key(peer_id, offer)
        while key in self._active:
            scope, released = self._active[key]
            scope.cancel()
            await released.wait()
        released = trio.Event()
        try:
            with trio.CancelScope() as scope:
                self._active[key] = (scope, released)
                progress = functools.partial(self._progress, peer_id, offer)
                return await self._receive(frames, offer, key, progress)
        finally:
            del self._active[key]
            released.set()
        raise TransferError("the sender came back on another channel")

    async def _receive(
        self, frames: FrameStream[Offer], offer: Offer, key: str, progress: Done
    ) -> ReceivedFile:
        partial = await trio.to_thread.run_sync(
            self._inbox.open_partial, key, offer.size
        )
        offset = partial.size
        try:
            await frames.send(Verdict(True, offset, ""))
            progress(offset)
            await self._receive_blocks(frames, offer, partial, progress)
            with trio.fail_after(self._config.stall_s):
                trailer = await frames.expecting(_TRAILER).receive_untrusted()
            path = await self._finish(partial, offer, trailer)
        except (OSError, TransferCorrupt) as error:
            failure = _as_transfer_error(error)
            await frames.send(Receipt(False, "", str(failure)[:500]))
            await self._close_politely(frames)
            raise failure from None
        except trio.EndOfChannel:
            raise trio.BrokenResourceError("the sender hung up") from None
        finally:
            partial.close()
        await frames.send(Receipt(True, path.name, ""))
        await self._close_politely(frames)
        digest = partial.digest.digest()
        return ReceivedFile(path=path, size=offer.size, offset=offset, sha256=digest)

    async def _receive_blocks(
        self,
        frames: FrameStream[Offer],
        offer: Offer,
        partial: PartialFile,
        progress: Done,
    ) -> None:
        missing = offer.size - partial.size
        gathered: list[bytes] = []
        size = 0
        try:
            while missing:
                with trio.fail_after(self._config.stall_s):
                    data = await frames.receive_raw(min(missing, READ_SIZE))
                if not data:
                    raise trio.BrokenResourceError("the sender hung up")
                gathered.append(data)
                size += len(data)
                missing -= len(data)
                if size >= self._config.block or not missing:
                    blocks, gathered, size = gathered, [], 0
                    await trio.to_thread.run_sync(partial.append, blocks)
                    progress(partial.size)
        finally:
            await _keep_rest(partial, gathered)

    async def _finish(
        self, partial: PartialFile, offer: Offer, trailer: Trailer
    ) -> Path:
        if partial.digest.digest() != trailer.sha256:
            await trio.to_thread.run_sync(partial.discard)
            raise TransferCorrupt(CORRUPT)
        return await trio.to_thread.run_sync(
            self._inbox.publish_untrusted, partial, offer.name
        )

    async def _decline(self, frames: FrameStream[Offer], reason: str) -> None:
        await frames.send(Verdict(False, 0, reason[:500]))
        await self._close_politely(frames)

    async def _close_politely(self, frames: FrameStream[Offer]) -> None:
        """End our side, then hear the sender's end: our last message was read.

        A sender that has read it may hang up before we end our side, which changes
        nothing any more.
        """
        with (
            trio.move_on_after(self._config.farewell_s),
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await frames.stream.send_eof()
            await frames.wait_end(MAX_SIZE)


def partial_key(peer_id: PeerId, offer: Offer) -> str:
    """Name of a partial file: no peer can touch the file of another one."""
    digest = hashlib.sha256(b"opnode partial" + peer_id + offer.transfer_id)
    digest.update(f"{offer.size} {offer.name}".encode())
    return digest.hexdigest()[:32]


async def _keep_rest(partial: PartialFile, gathered: list[bytes]) -> None:
    """Write what came before a break, so that it need not come again.

    Shielded, since a break often is a cancellation. Bounded by its size, less than a
    block and a read, and not by time: a write that was left to itself would outlive
    the descriptor, and hit whatever file got its number next.
    """
    if not gathered:
        return
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(partial.append, gathered)


_READ: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0)


def _hash_prefix(descriptor: int, offset: int, digest: "hashlib._Hash") -> None:
    left = offset
    while left:
        block = os.read(descriptor, min(left, 1 << 20))
        if not block:
            raise TransferError("the file is shorter than what was sent of it before")
        digest.update(block)
        left -= len(block)


def _read_and_hash(descriptor: int, size: int, digest: "hashlib._Hash") -> bytes:
    block = os.read(descriptor, size)
    digest.update(block)
    return block


def _as_transfer_error(error: OSError | TransferCorrupt) -> TransferError:
    if isinstance(error, TransferCorrupt):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TransferError("disk full")
    return TransferError(f"the disk failed: {error.strerror}")
