"""The address book: names that this user gave to peers, in one JSON file.

Owns petnames and their rules. Refuses to know whether a peer can be reached.
"""

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from opnode.core.errors import ConfigError, StorageError
from opnode.core.ids import PeerId, format_peer_id, parse_peer_id
from opnode.node.data_directory import write_atomically

MAX_CONTACTS: Final = 10_000
"""Petnames held: more than a person keeps, and still one small file."""

MAX_NAME: Final = 64
"""Characters of a name: one column of a table."""

MAX_FILE: Final = 16 * 1024 * 1024
"""Largest file read: 10 000 entries of the longest names need about 4 MB."""

PEER_ID_PREFIX: Final = "op1"


@dataclass(frozen=True, slots=True)
class Petname:
    """One entry: what the user calls a peer."""

    name: str
    peer_id: PeerId


class _StoredBook(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    contacts: dict[str, str]


class AddressBook:
    """Petnames by name; every change is on disk before it counts."""

    def __init__(self, path: Path | None) -> None:
        """Read the book at ``path``; ``None`` keeps it in memory.

        Raises:
            StorageError: the file cannot be read or is damaged; it is left as it is,
                because a user made it.
        """
        self._path = path
        self._names: dict[str, PeerId] = {} if path is None else _load(path)

    def add(self, name: str, peer_id: PeerId) -> Petname:
        """Call ``peer_id`` by ``name`` from now on.

        Raises:
            ConfigError: the name cannot be used, is taken by another peer, or the book
                is full.
            StorageError: the book cannot be written; it is as before.
        """
        cleaned = clean_name(name)
        if self._names.get(cleaned, peer_id) != peer_id:
            holder = format_peer_id(self._names[cleaned])
            raise ConfigError(
                "name", f"{cleaned!r}, the name of {holder}", "a name not taken yet"
            )
        if cleaned not in self._names and len(self._names) >= MAX_CONTACTS:
            raise ConfigError(
                "contacts", f"{len(self._names)}", f"at most {MAX_CONTACTS}"
            )
        self._replace({**self._names, cleaned: peer_id})
        return Petname(cleaned, peer_id)

    def remove(self, name: str) -> Petname:
        """Forget the name.

        Raises:
            ConfigError: nobody has that name.
            StorageError: the book cannot be written; it is as before.
        """
        cleaned = clean_name(name)
        if cleaned not in self._names:
            raise ConfigError("name", repr(cleaned), "one that `contacts list` shows")
        left = dict(self._names)
        peer_id = left.pop(cleaned)
        self._replace(left)
        return Petname(cleaned, peer_id)

    def petnames(self) -> tuple[Petname, ...]:
        """Everybody in the book, by name."""
        return tuple(Petname(name, self._names[name]) for name in sorted(self._names))

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._names.values()

    def name_of(self, peer_id: PeerId) -> str | None:
        """What the user calls a peer, if anything."""
        for name, known in self._names.items():
            if known == peer_id:
                return name
        return None

    def resolve(self, text: str) -> PeerId:
        """Read a PEER argument: a name from the book, or a peer id.

        Raises:
            ConfigError: neither.
        """
        if text in self._names:
            return self._names[text]
        if text.strip().lower().startswith(PEER_ID_PREFIX):
            return parse_peer_id(text, field="peer")
        found = repr(text[:MAX_NAME])
        expected = "a peer id (op1...) or a name that `opnode contacts list` shows"
        raise ConfigError("peer", found, expected)

    def _replace(self, names: dict[str, PeerId]) -> None:
        if self._path is not None:
            texts = {name: format_peer_id(names[name]) for name in sorted(names)}
            stored = msgspec.json.encode(_StoredBook(version=1, contacts=texts))
            write_atomically(self._path, msgspec.json.format(stored, indent=1))
        self._names = names


def clean_name(name: str) -> str:
    """Return ``name`` normalised (NFC), with single blanks.

    Raises:
        ConfigError: nothing is left, it is too long, has characters that do not print
            (they could pass one name for another), or could be taken for a peer id or
            an option.
    """
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not 1 <= len(cleaned) <= MAX_NAME:
        found = f"{len(cleaned)} characters"
        raise ConfigError("name", found, f"between 1 and {MAX_NAME}")
    if not cleaned.isprintable():
        raise ConfigError("name", ascii(cleaned), "characters that print")
    if cleaned.startswith("-") or cleaned.lower().startswith(PEER_ID_PREFIX):
        expected = f"a name that begins with neither - nor {PEER_ID_PREFIX}"
        raise ConfigError("name", repr(cleaned), expected)
    return cleaned


def _load(path: Path) -> dict[str, PeerId]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise StorageError(f"{path}: larger than {MAX_FILE} bytes")
        stored = msgspec.json.decode(path.read_bytes(), type=_StoredBook)
        return {
            clean_name(name): parse_peer_id(text, field=name)
            for name, text in stored.contacts.items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigError) as error:
        raise StorageError(
            f"{path}: {error}; it is left as it is: put it right or move it away"
        ) from None
