"""The fuzz targets of introductions, replayed by hypothesis as plain tests."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.introduction_targets import TARGETS, Target, payload_target

every_target = pytest.mark.parametrize(
    "target", TARGETS, ids=[target.__name__ for target in TARGETS]
)

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
) | (st.text(max_size=40) | st.binary(max_size=40))
structures = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=20,
)


@every_target
@given(data=st.binary(max_size=1200))
def test_i_11_only_named_refusals_escape_from_any_bytes(target: Target, data: bytes):
    target(data)


@every_target
@given(data=st.binary(min_size=3, max_size=6))
def test_i_11_only_named_refusals_escape_from_slightly_changed_messages(
    target: Target, data: bytes
):
    target(data)


@given(fields=structures)
def test_i_11_only_named_refusals_escape_from_any_msgpack(fields: object):
    payload_target(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91" * 1100,
        b"\x96" + b"\x91" * 1000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x96\xc4\x00\xa4\xff\xff\xff\xff",
    ],
)
def test_corpus_deep_nesting_and_false_lengths(data: bytes):
    for target in TARGETS:
        target(data)
