import enum
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import pytest

from opnode.core.addresses import Endpoint
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon.plain_values import as_plain, plain_fields


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int


class Inner(msgspec.Struct):
    key: bytes


@dataclass(frozen=True)
class Outer:
    colour: Colour
    point: Point
    inner: Inner
    endpoint: Endpoint
    endpoints: tuple[Endpoint, ...]
    table: dict[Colour, float]
    nothing: None
    is_on: bool


def test_statistics_of_any_kind_become_plain_values():
    outer = Outer(
        Colour.RED,
        Point(1),
        Inner(b"\x01\xff"),
        Endpoint("::1", 5),
        (Endpoint("192.0.2.1", 7),),
        {Colour.RED: 0.5},
        None,
        True,
    )
    assert plain_fields(outer) == {
        "colour": "red",
        "point": {"x": 1},
        "inner": {"key": "01ff"},
        "endpoint": "[::1]:5",
        "endpoints": ["192.0.2.1:7"],
        "table": {"red": 0.5},
        "nothing": None,
        "is_on": True,
    }


def test_a_peer_id_is_written_as_people_exchange_it():
    ann = PeerId(bytes([1]) * 32)
    plain = as_plain([{"peer_id": ann, "node_id": b"\x01"}, {"peer_id": None}])
    text = format_peer_id(ann)
    assert plain == [{"peer_id": text, "node_id": "01"}, {"peer_id": None}]


def test_a_value_without_fields_has_no_row():
    with pytest.raises(TypeError, match="int"):
        plain_fields(5)


def test_endless_nesting_is_refused():
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="deeper"):
        as_plain(value)
