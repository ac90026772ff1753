"""Key files: secrets on disk in a form that says what it is and notices damage.

Owns the text format, its checksum and its mode (0600). Refuses to overwrite a key, and
to know what the key is used for. Example::

    opnode key file 1
    kind: node
    ed25519: 6f0c...
    checksum: 4ad01c22b9e0f311
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opnode.core.errors import StorageError, UnreadableKey

HEADER: Final = "opnode key file 1"
MAX_SIZE: Final = 4096
"""Largest file read; the longest kind has 250 bytes."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What one key file says: its kind and its secrets by name."""

    kind: str
    fields: Mapping[str, bytes] = field(repr=False)


def encode_key_file(key: KeyFile) -> bytes:
    """Write down ``key`` as text with a checksum over everything above it."""
    lines = [HEADER, f"kind: {key.kind}"]
    lines += [f"{name}: {secret.hex()}" for name, secret in key.fields.items()]
    body = "\n".join(lines) + "\n"
    return f"{body}checksum: {_checksum(body)}\n".encode("ascii")


def load_key_file(
    path: Path, *, kind: str, fields: Mapping[str, int]
) -> dict[str, bytes] | None:
    """Read the secrets of a key file, or ``None`` if there is no such file.

    Args:
        path: Which file.
        kind: The kind that it must say it is.
        fields: Name and length in bytes of each secret expected.

    Raises:
        UnreadableKey: it is there, but cannot be read, is damaged, of another kind, or
            open to other users.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()[:MAX_SIZE]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableKey(
            f"{path}: {error.strerror}; expected a {kind} key that you can read"
        ) from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise UnreadableKey(
            f"{path}: mode {stat.S_IMODE(mode):04o} lets other users at the key,"
            f" expected 0600; put right with: chmod 600 {path}"
        )
    try:
        return _parse(data, kind=kind, fields=fields)
    except ValueError as error:
        raise UnreadableKey(
            f"{path}: {error}; it is left as it is: restore it from a copy, or move it"
            " away to start with a new key"
        ) from None


def store_key_file(path: Path, key: KeyFile) -> None:
    """Write a new key file, mode 0600; an existing one is never replaced.

    Raises:
        StorageError: the file exists, or the disk is full or not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123 - from a descriptor
            file.write(encode_key_file(key))
            file.flush()
            os.fsync(file.fileno())
        _move_without_replacing(temporary, path)
    except OSError as error:
        raise StorageError(f"{path}: key cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _move_without_replacing(temporary: Path, path: Path) -> None:
    if os.name == "posix":
        # A hard link fails if the name is taken; a rename would replace the key there.
        path.hardlink_to(temporary)
    else:
        temporary.rename(path)


def _parse(data: bytes, *, kind: str, fields: Mapping[str, int]) -> dict[str, bytes]:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f'found binary data, expected "{HEADER}"') from None
    body, separator, checksum = text.rpartition("checksum: ")
    if not text.startswith(HEADER + "\n"):
        raise ValueError(f'found another first line, expected "{HEADER}"')
    if not separator or checksum.strip() != _checksum(body):
        raise ValueError("found a checksum that does not fit: damaged or half-written")
    lines = [line.partition(": ") for line in body.splitlines()[1:]]
    found = {name: value for name, _, value in lines}
    if found.pop("kind", None) != kind:
        raise ValueError(f"found another kind of key, expected kind: {kind}")
    if found.keys() != fields.keys():
        expected = ", ".join(fields)
        raise ValueError(f"found fields {', '.join(found)}, expected {expected}")
    return {name: _secret(name, found[name], size) for name, size in fields.items()}


def _secret(name: str, text: str, size: int) -> bytes:
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"field {name}: expected hexadecimal digits") from None
    if len(secret) != size:
        raise ValueError(f"field {name}: found {len(secret)} bytes, expected {size}")
    return secret


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("ascii", "replace")).hexdigest()[:16]
