"""Statistics as plain values: what JSON and tables can show.

Owns the translation of frozen values of any layer. Refuses to know which ones there
are.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence, Set
from typing import Final

import msgspec

from opnode.core.addresses import Endpoint
from opnode.core.ids import PeerId, format_peer_id

MAX_DEPTH: Final = 8
"""Values nest less than this; a cycle would be a bug in a statistics type."""

PEER_ID_FIELD: Final = "peer_id"


def plain_fields(value: object) -> dict[str, object]:
    """Return the fields of a dataclass, Struct or named tuple as plain values."""
    plain = as_plain(value)
    if not isinstance(plain, dict):
        raise TypeError(f"{type(value).__name__} has no named fields")
    return plain


def as_plain(value: object, depth: int = 0) -> object:
    """Return ``value`` made of dicts, lists, strings, numbers, booleans and None.

    Bytes become hexadecimal digits, endpoints their text, enums their value, and a
    ``peer_id`` the text that people exchange.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    simple = _simple(value)
    if simple is not None or value is None:
        return simple
    named = _named(value)
    if named is not None:
        return {str(_key(k)): _field(k, v, depth + 1) for k, v in named.items()}
    if isinstance(value, Sequence | Set):
        return [as_plain(item, depth + 1) for item in value]
    return str(value)


def _field(name: object, value: object, depth: int) -> object:
    # Only the name tells a peer id from other bytes: at run time it is nothing else.
    if name == PEER_ID_FIELD and isinstance(value, bytes):
        return format_peer_id(PeerId(value))
    return as_plain(value, depth)


def _simple(value: object) -> object | None:
    if isinstance(value, enum.Enum):
        return _simple(value.value)
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Endpoint):
        return str(value)
    return None


def _named(value: object) -> Mapping[object, object] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    return value if isinstance(value, Mapping) else None


def _key(key: object) -> object:
    simple = _simple(key)
    return key if simple is None else simple
