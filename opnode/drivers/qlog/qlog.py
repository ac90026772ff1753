"""Logs of connections that the field's viewers read: qlog, one file per connection.

Owns the directory, the files' names, bounds and records (JSON text sequences, RFC 7464,
as draft-ietf-quic-qlog-main-schema asks for), and that a full disk ends a log and never
a connection. Refuses to know what an event means; that is the trace's business.
"""

import errno
import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from opnode.core.errors import ConfigError
from opnode.drivers.clock import WallClock

logger = logging.getLogger(__name__)

RECORD_SEPARATOR: Final = b"\x1e"
SUFFIX: Final = ".sqlog"

QLOG_VERSION: Final = "0.3"
"""The newest that qvis takes; later drafts changed the header, not these events."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class QlogConfig:
    """Limits of the logs, each with its reason.

    Attributes:
        max_file_bytes: About 300,000 packets, more than a viewer in a browser can show.
        max_files: Of one run of the program; a busy node would fill the disk's inodes.
        write_bytes: Events are handed to the disk in pieces of this size, or each
            `write_interval_s`.
        write_interval_s: So long may events of a crash be lost.
        max_waiting_bytes: Of one file, while the disk is busy; then its log ends.
    """

    max_file_bytes: int = 64 << 20
    max_files: int = 1000
    write_bytes: int = 1 << 18
    write_interval_s: float = 0.5
    max_waiting_bytes: int = 16 << 20


class QlogDirectory:
    """Where logs go. Writing happens in ``run``, in a thread, off the packets' way."""

    def __init__(
        self, path: Path, *, wall_clock: WallClock, config: QlogConfig | None = None
    ) -> None:
        """Create the directory, readable by its owner alone, if it is not there.

        Raises:
            ConfigError: It is a file, or cannot be created or written.
        """
        self.path = path
        self.config = config or QlogConfig()
        self.wall_clock = wall_clock
        self._files: dict[QlogFile, None] = {}
        self._full: deque[QlogFile] = deque()
        self._opened = 0
        self._wake = trio.Event()
        _require_writable(path)

    def open_file(self, name: str, header: Mapping[str, object]) -> "QlogFile | None":
        """Start a log; None when there may be no further one, which is told once.

        Args:
            name: Of the file, without its suffix.
            header: The first record, without version and format.
        """
        if self._opened >= self.config.max_files:
            if self._opened == self.config.max_files:
                self._opened += 1
                limit = self.config.max_files
                logger.warning("qlog: %d files written, no further ones", limit)
            return None
        self._opened += 1
        file = QlogFile(self, self.path / f"{name}{SUFFIX}")
        self._files[file] = None
        file.add({"qlog_version": QLOG_VERSION, "qlog_format": "JSON-SEQ", **header})
        return file

    def wants_writing(self, file: "QlogFile") -> None:
        """A file has enough to be worth a write."""
        self._full.append(file)
        self._wake.set()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write until cancelled, then write what is left."""
        task_status.started()
        try:
            while True:
                with trio.move_on_after(self.config.write_interval_s):
                    await self._wake.wait()
                self._wake = trio.Event()
                files = list(dict.fromkeys(self._full)) or list(self._files)
                self._full.clear()
                await self._write(files)
        finally:
            self.write_all()

    def write_all(self) -> None:
        """Write everything now, in the calling thread: the program ends."""
        for file in list(self._files):
            file.write(file.take())
            self._forget_if_done(file)

    async def _write(self, files: "list[QlogFile]") -> None:
        for file in files:
            taken = file.take()
            if taken:
                # A write that hangs holds up other logs, and no connection.
                await trio.to_thread.run_sync(file.write, taken)
            self._forget_if_done(file)

    def _forget_if_done(self, file: "QlogFile") -> None:
        if file.is_done:
            self._files.pop(file, None)


class QlogFile:
    """One log: records in memory, then on disk, up to the limit."""

    __slots__ = (
        "_directory",
        "_ended",
        "_failed",
        "_is_created",
        "_path",
        "_records",
        "_size",
        "_waiting",
    )

    def __init__(self, directory: QlogDirectory, path: Path) -> None:
        """Made by ``QlogDirectory.open_file``."""
        self._directory = directory
        self._path = path
        self._records: list[bytes] = []
        self._waiting = 0
        self._size = 0
        self._ended = False
        self._failed = False
        self._is_created = False

    @property
    def is_open(self) -> bool:
        """Whether a further record would be kept."""
        return not self._ended

    @property
    def is_done(self) -> bool:
        """Whether the log ended and all of it is on disk, or never will be."""
        return self._ended and not self._records

    def add(self, record: Mapping[str, object]) -> None:
        """Append a record; beyond a limit the log ends, which is told once."""
        if self._ended:
            return
        data = b"%b%b\n" % (RECORD_SEPARATOR, _encode(record))
        config = self._directory.config
        if self._size + len(data) > config.max_file_bytes:
            self._end(f"{config.max_file_bytes} bytes written, its limit")
            return
        if self._waiting + len(data) > config.max_waiting_bytes:
            self._end("the disk is too slow")
            return
        self._records.append(data)
        self._size += len(data)
        before, self._waiting = self._waiting, self._waiting + len(data)
        if before < config.write_bytes <= self._waiting:
            self._directory.wants_writing(self)

    def end(self) -> None:
        """No further record will come."""
        self._ended = True

    def take(self) -> list[bytes]:
        """Take the records that wait to be written."""
        records, self._records = self._records, []
        self._waiting = 0
        return records

    def write(self, records: list[bytes]) -> None:
        """Append to the file on disk; after a failure nothing more is written."""
        if not records or self._failed:
            return
        try:
            with open(self._path, "ab", opener=self._opener) as file:
                file.write(b"".join(records))
            self._is_created = True
        except OSError as error:
            self._failed = True
            self._end(error.strerror or str(error))

    def _opener(self, path: str, flags: int) -> int:
        """Never follow or append to what somebody else put there."""
        extra = 0 if self._is_created else os.O_EXCL
        return os.open(path, flags | extra | getattr(os, "O_NOFOLLOW", 0), 0o600)

    def _end(self, why: str) -> None:
        self._ended = True
        logger.warning("qlog: the log %s ends here: %s", self._path, why)


def _require_writable(path: Path) -> None:
    """Find out at the start, not with the first connection."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise _refused(path, errno.ENOTDIR) from None
    except OSError as error:
        raise _refused(path, error.errno) from None
    if not path.is_dir():
        raise _refused(path, errno.ENOTDIR)
    if not os.access(path, os.W_OK | os.X_OK):
        raise _refused(path, errno.EACCES)


def _refused(path: Path, number: int | None) -> ConfigError:
    reason = os.strerror(number) if number is not None else "unusable"
    return ConfigError("qlog", f"{path} ({reason})", "a directory that can be written")
