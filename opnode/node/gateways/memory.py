"""The gateways that a node remembers over a restart, when it may need one to begin.

Owns their file. Refuses to know how they are found and used.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from opnode.core.errors import ConfigError, StorageError
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.data_directory import set_aside, write_atomically

logger = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 16
_MAX_FILE: Final = 16_384
"""Sixteen entries of at most 512 characters, and what JSON needs around them."""


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    gateways: list[str]


def load_gateways(path: Path) -> tuple[BootstrapEntry, ...]:
    """The entries that were saved; a damaged file is set aside and counts as empty."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE)
        stored = msgspec.json.decode(data, type=_Stored)
        entries = stored.gateways[:MAX_REMEMBERED]
        return tuple(BootstrapEntry.parse(text, field=path.name) for text in entries)
    except FileNotFoundError:
        return ()
    except (msgspec.MsgspecError, UnicodeDecodeError, ConfigError, OSError) as error:
        set_aside(path, error)
        return ()


def save_gateways(path: Path, entries: Iterable[BootstrapEntry]) -> None:
    """Write them; a disk that refuses is told of and costs the memory."""
    stored = _Stored(1, [str(entry) for entry in entries][:MAX_REMEMBERED])
    try:
        data = msgspec.json.format(msgspec.json.encode(stored), indent=1)
        write_atomically(path, data)
    except StorageError as error:
        logger.warning("gateways are not remembered: %s", error)
