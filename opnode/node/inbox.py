"""The inbox: where received files go, and the parts of files that are still coming.

Owns partial files and the one step that gives a whole file its name. Refuses to know
the network. Every function here may block on a disk: call it in a worker thread.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opnode.core.errors import TransferDeclined
from opnode.node.data_directory import sync_directory
from opnode.node.file_names import MAX_TRIES, free_path, safe_file_name_untrusted

PARTIAL: Final = ".partial"

MAX_PARTIALS: Final = 64
"""Unfinished files kept for a resume; the longest untouched goes first."""

HASH_BLOCK: Final = 1 << 20


@dataclass(slots=True)
class PartialFile:
    """A file that is coming in; ``digest`` covers its first ``size`` bytes."""

    path: Path
    descriptor: int
    size: int
    digest: "hashlib._Hash"

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
    """One directory that files of peers are put into."""

    def __init__(self, directory: Path) -> None:
        """The directory is created when the first file comes."""
        self.directory = directory

    def open_partial(self, key: str, size: int) -> PartialFile:
        """Open what is there of the file ``key``, or start it.

        Args:
            key: Name of the partial file; hexadecimal digits, made by us.
            size: Bytes of the whole file.

        Raises:
            TransferDeclined: the directory is not writable, or has no room; the text
                is for the sender and names no local path.
        """
        partials = self.directory / PARTIAL
        try:
            partials.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_room(partials, keep=key)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(partials / key, flags, 0o600)
        except OSError as error:
            reason = error.strerror or "error"
            raise TransferDeclined(f"the inbox is not writable: {reason}") from None
        partial = PartialFile(partials / key, descriptor, 0, hashlib.sha256())
        try:
            _hash_existing(partial, size)
            _check_free_space(self.directory, size - partial.size)
        except OSError as error:
            partial.close()
            raise TransferDeclined(f"the inbox failed: {error.strerror}") from None
        except TransferDeclined:
            partial.close()
            raise
        return partial

    def publish_untrusted(self, partial: PartialFile, name: str) -> Path:
        """Give a whole, verified file its name; durable when this returns.

        Raises:
            OSError: the disk failed; the partial file is kept.
        """
        os.fsync(partial.descriptor)
        partial.close()
        safe = safe_file_name_untrusted(name)
        for _ in range(MAX_TRIES):
            final = free_path(self.directory, safe)
            if _take_name(partial.path, final):
                sync_directory(self.directory)
                return final
        raise FileExistsError(errno.EEXIST, "other programs take every name")


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


def _hash_existing(partial: PartialFile, size: int) -> None:
    """Hash the bytes of an earlier attempt; more than ``size`` cannot be right."""
    if os.fstat(partial.descriptor).st_size > size:
        os.ftruncate(partial.descriptor, 0)
    while block := os.read(partial.descriptor, HASH_BLOCK):
        partial.digest.update(block)
        partial.size += len(block)


def _check_free_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise TransferDeclined(f"disk full: {needed} bytes needed, {free} free")


def _make_room(partials: Path, *, keep: str) -> None:
    present = [path for path in partials.iterdir() if path.name != keep]
    if len(present) < MAX_PARTIALS:
        return
    present.sort(key=lambda path: path.stat().st_mtime)
    for path in present[: len(present) - MAX_PARTIALS + 1]:
        path.unlink(missing_ok=True)
