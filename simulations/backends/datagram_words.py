"""A datagram of ours in words, for a readable log.

Owns what a reader is told of each kind. Refuses to know secrets: what is sealed is
shown by its size.
"""

from typing import Final

import msgspec

from opnode.core.errors import RemoteProtocolError
from opnode.drivers.socket_hub import RELAYED, RUDP
from opnode.protocols.rpc.datagrams import (
    REPLY_TYPE,
    REQUEST_TYPE,
    decode_reply_untrusted,
    decode_request_untrusted,
)

_STUN_TYPES: Final = {
    0x0001: "STUN binding request",
    0x0011: "STUN binding indication",
    0x0101: "STUN binding answer",
    0x0111: "STUN binding error",
}
_STUN_LAST, _STUN_HEADER = 0x03, 20
_NETWORK: Final = slice(1, 9)
_SHOWN_BYTES: Final = 4
"""Of an id or a token: enough to tell two apart."""
_LONGEST: Final = 60
"""Characters of one field: records and contacts would fill a screen."""


def in_words(data: bytes) -> str:
    """What a datagram is, in one line."""
    if not data:
        return "nothing"
    first = data[0]
    if first in (REQUEST_TYPE, REPLY_TYPE):
        return _rpc(data)
    if first == RUDP:
        return f"RUDP packet, {len(data)} bytes, connection {data[1:5].hex()}…"
    if first == RELAYED:
        return f"relayed, {len(data)} bytes: {in_words(data[9:])}"
    if first <= _STUN_LAST and len(data) >= _STUN_HEADER:
        kind = int.from_bytes(data[:2], "big")
        return _STUN_TYPES.get(kind, f"STUN 0x{kind:04x}")
    return f"{len(data)} bytes, first 0x{first:02x}"


def _rpc(data: bytes) -> str:
    is_request = data[0] == REQUEST_TYPE
    decode = decode_request_untrusted if is_request else decode_reply_untrusted
    try:
        body = decode(data, data[_NETWORK]).body
    except RemoteProtocolError as error:
        return f"malformed RPC: {error}"
    fields = (f"{name} {_value(getattr(body, name))}" for name in fields_of(body))
    verb = "asks" if is_request else "answers"
    return f"{verb} {type(body).__name__} {', '.join(fields)}".rstrip()


def fields_of(body: msgspec.Struct) -> tuple[str, ...]:
    """The names of a message's fields."""
    return body.__struct_fields__


def _value(value: object) -> str:
    if isinstance(value, bytes):
        shown = value[:_SHOWN_BYTES].hex()
        return shown if len(value) <= _SHOWN_BYTES else shown + "…"
    if isinstance(value, (list, tuple)):
        return f"({len(value)})"
    return str(msgspec.to_builtins(value))[:_LONGEST]
