"""The inbox: where received files go, and the parts of files that are still coming.

Owns partial files, how much of the disk peers may fill, and the one step that gives a
whole file its name. Refuses to know the network. Every function here may block on a
disk: call it in a worker thread.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opnode.core.errors import TransferDeclined
from opnode.daemon.file_names import MAX_TRIES, free_path, safe_file_name_untrusted
from opnode.drivers.clock import WallClock, system_wall_clock
from opnode.node.data_directory import sync_directory

PARTIAL: Final = ".partial"

HASH_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxConfig:
    """How much of the disk peers may fill.

    ``reserve_bytes``, ``reserve_share``: what stays free for everything else on the
    disk, the larger of the two counts: 256 MB let a small system log, update and start;
    2 % is where file systems begin to fragment and slow down.
    ``max_kept``: unfinished files kept for a resume, at most a link and an inode each.
    ``kept_share``: part of the disk that they may fill; of a single one that is larger
    its sender keeps the resume. ``keep_s``: a week; who does not come back within
    holidays does not come back.
    """

    reserve_bytes: int = 256_000_000
    reserve_share: float = 0.02
    max_kept: int = 64
    kept_share: float = 0.25
    keep_s: float = 7 * 86400.0


@dataclass(slots=True)
class PartialFile:
    """A file that is coming in; ``digest`` covers its first ``size`` bytes.

    ``expected``: bytes of the whole file. ``held``: those of earlier attempts, which
    are on the disk before they are hashed.
    """

    path: Path
    descriptor: int
    expected: int
    held: int
    digest: "hashlib._Hash"
    size: int = 0

    @property
    def missing(self) -> int:
        """Bytes that the disk still has to take."""
        return self.expected - max(self.size, self.held)

    @property
    def is_open(self) -> bool:
        """Whether a transfer writes it."""
        return self.descriptor >= 0

    def append(self, blocks: Sequence[bytes]) -> None:
        """Write and hash what arrived.

        Raises:
            OSError: the disk is full or failed.
        """
        for block in blocks:
            view = memoryview(block)
            while view.nbytes:
                view = view[os.write(self.descriptor, view) :]
            self.digest.update(block)
            self.size += len(block)

    def close(self) -> None:
        """Let go of the file and keep it for a resume."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def discard(self) -> None:
        """Close and delete it."""
        self.close()
        self.path.unlink(missing_ok=True)


class Inbox:
    """One directory that files of peers are put into.

    Its functions may run in several threads at once; the lock is held for what must not
    be decided twice, never while a file is hashed.
    """

    def __init__(
        self,
        directory: Path,
        config: InboxConfig | None = None,
        *,
        wall_clock: WallClock = system_wall_clock,
    ) -> None:
        """The directory is created when the first file comes."""
        self.directory = directory
        self._config = config or InboxConfig()
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._open: dict[str, PartialFile] = {}

    def open_partial(self, key: str, size: int) -> PartialFile:
        """Open what is there of the file ``key``, or start it.

        Args:
            key: Name of the partial file; hexadecimal digits, made by us.
            size: Bytes of the whole file.

        Raises:
            TransferDeclined: the directory is not writable, or has no room; the text
                is for the sender and names no local path.
        """
        try:
            with self._lock:
                partial = self._open_file(key, size)
        except OSError as error:
            reason = error.strerror or "error"
            raise TransferDeclined(f"the inbox is not writable: {reason}") from None
        try:
            _hash_existing(partial)
            with self._lock:
                self._check_free_space(partial)
        except OSError as error:
            partial.close()
            raise TransferDeclined(f"the inbox failed: {error.strerror}") from None
        except TransferDeclined:
            # A part that has nothing yet is worth nothing to its sender.
            _end_declined(partial)
            raise
        return partial

    def publish_untrusted(self, partial: PartialFile, name: str) -> Path:
        """Give a whole, verified file its name; durable when this returns.

        Raises:
            OSError: the disk failed; the partial file is kept.
        """
        os.fsync(partial.descriptor)
        safe = safe_file_name_untrusted(name)
        with self._lock:
            # Closed, it is one of those that may make room for others.
            partial.close()
            final = self._move(partial.path, safe)
        sync_directory(self.directory)
        return final

    def drop_stale(self) -> None:
        """Delete the parts that nobody came back for; a disk that fails keeps them."""
        with self._lock, contextlib.suppress(OSError):
            self._make_room(0)

    def _open_file(self, key: str, size: int) -> PartialFile:
        partials = self.directory / PARTIAL
        partials.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(1, coming=key)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(partials / key, flags, 0o600)
        held = os.fstat(descriptor).st_size
        if held > size:
            # More than there is to come cannot be right.
            os.ftruncate(descriptor, 0)
            held = 0
        partial = PartialFile(partials / key, descriptor, size, held, hashlib.sha256())
        self._open[key] = partial
        return partial

    def _move(self, partial: Path, safe: str) -> Path:
        for _ in range(MAX_TRIES):
            final = free_path(self.directory, safe)
            if _take_name(partial, final):
                return final
        raise FileExistsError(errno.EEXIST, "other programs take every name")

    def _check_free_space(self, partial: PartialFile) -> None:
        """Decline what would leave less than the reserve once all files are whole."""
        usage = shutil.disk_usage(self.directory)
        config = self._config
        share = int(usage.total * config.reserve_share)
        reserve = max(config.reserve_bytes, share)
        promised = sum(other.missing for other in self._others_open(partial))
        needed = partial.missing
        room = max(0, usage.free - reserve - promised)
        if needed > room:
            raise TransferDeclined(
                f"disk full: {needed} bytes needed, {room} free beyond a reserve of"
                f" {reserve} and {promised} for files under way"
            )

    def _others_open(self, partial: PartialFile) -> list[PartialFile]:
        self._open = {key: open_ for key, open_ in self._open.items() if open_.is_open}
        return [other for other in self._open.values() if other is not partial]

    def _make_room(self, places: int, *, coming: str = "") -> None:
        """Delete parts that are too old, too many or too large together.

        The longest untouched goes first; never one that a transfer writes or is about
        to; and the newest may be as large as it is.
        """
        kept = self._kept_newest_first(coming)
        total = shutil.disk_usage(self.directory).total
        oldest_at = self._wall_clock() - self._config.keep_s
        size = 0
        for index, (path, found) in enumerate(kept):
            size += found.st_size
            is_too_large = index > 0 and size > total * self._config.kept_share
            is_too_old = found.st_mtime < oldest_at
            is_too_many = index + places >= self._config.max_kept
            if is_too_many or is_too_large or is_too_old:
                path.unlink(missing_ok=True)
                size -= found.st_size

    def _kept_newest_first(self, coming: str) -> list[tuple[Path, os.stat_result]]:
        open_now = {key for key, partial in self._open.items() if partial.is_open}
        kept = [
            (path, path.lstat())
            for path in (self.directory / PARTIAL).iterdir()
            if path.name != coming and path.name not in open_now
        ]
        kept.sort(key=lambda entry: -entry[1].st_mtime)
        return kept


def _take_name(partial: Path, final: Path) -> bool:
    """Move without replacing; false if somebody took the name just now."""
    try:
        # A link fails when the name is taken, a rename would replace what is there.
        final.hardlink_to(partial)
    except FileExistsError:
        return False
    except OSError:
        # File systems without hard links; the gap since the check stays open there.
        partial.rename(final)
        return True
    partial.unlink()
    return True


def _hash_existing(partial: PartialFile) -> None:
    """Hash the bytes of an earlier attempt."""
    while block := os.read(partial.descriptor, HASH_BLOCK):
        partial.digest.update(block)
        partial.size += len(block)


def _end_declined(partial: PartialFile) -> None:
    if partial.size:
        partial.close()
    else:
        partial.discard()
