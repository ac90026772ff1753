"""File names that come from peers: made safe, and made unique in a directory.

Owns the rules of a name. Refuses to know what is in the file.
"""

import unicodedata
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 192
"""Bytes of a name, so that "name (9999).ext" has at most 200; systems allow 255."""

MAX_SUFFIX: Final = 20
"""Bytes of an extension that survive the shortening of a long name."""

MAX_TRIES: Final = 10_000
"""How many "name (n).ext" are tried before the directory counts as full."""

FALLBACK: Final = "unnamed"

_FORBIDDEN: Final = frozenset('/\\:*?"<>|')
_RESERVED: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL"}
    | {f"COM{digit}" for digit in "123456789"}
    | {f"LPT{digit}" for digit in "123456789"}
)


def safe_file_name_untrusted(name: str) -> str:
    """Return a name that stays in its directory and shows what it is.

    Separators and characters that other systems reserve become "_"; control, format
    (they can turn the reading direction and hide an extension) and unassigned
    characters go; so do dots and blanks at both ends (Windows drops trailing ones).
    """
    normal = unicodedata.normalize("NFC", name)
    shown = "".join(
        "_" if character in _FORBIDDEN else character
        for character in normal
        if unicodedata.category(character)[0] != "C"
    )
    cleaned = _shorten(" ".join(shown.split()).lstrip(". ").rstrip(". "))
    if not cleaned:
        return FALLBACK
    if cleaned.partition(".")[0].rstrip().upper() in _RESERVED:
        return f"_{cleaned}"
    return cleaned


def free_path(directory: Path, name: str) -> Path:
    """Return ``directory/name``, or ``name (1).ext`` and so on if that is taken.

    Raises:
        FileExistsError: all of them are taken.
    """
    stem, suffix = split_suffix(name)
    for number in range(MAX_TRIES):
        candidate = directory / (f"{stem} ({number}){suffix}" if number else name)
        if not candidate.exists() and not candidate.is_symlink():
            return candidate
    raise FileExistsError(f"{directory / name} and {MAX_TRIES} others are taken")


def split_suffix(name: str) -> tuple[str, str]:
    """Split "a.tar.gz" into "a.tar" and ".gz"; a long "extension" is none."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or len(suffix.encode()) >= MAX_SUFFIX:
        return name, ""
    return stem, dot + suffix


def _shorten(name: str) -> str:
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, suffix = split_suffix(name)
    room = MAX_BYTES - len(suffix.encode())
    kept = stem.encode()[:room].decode("utf-8", "ignore")
    return kept.rstrip(". ") + suffix
