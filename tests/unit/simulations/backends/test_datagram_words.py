"""Datagrams in words: what they are, never what they hide."""

from hypothesis import given
from hypothesis import strategies as st

from opnode.core.ids import NodeId
from opnode.protocols.rpc.datagrams import Sender, encode_request
from opnode.protocols.rpc.messages import FindNode
from simulations.backends.datagram_words import in_words

SENDER = Sender(b"network1", NodeId(bytes(20)), leaf=False)


def test_a_request_is_shown_with_its_fields():
    data = encode_request(SENDER, bytes(8), b"", FindNode(bytes(range(20))))
    assert in_words(data) == "asks FindNode target 00010203…"
    assert in_words(b"\xd0" + bytes(8) + data).endswith(in_words(data))


def test_a_malformed_one_is_called_so():
    data = encode_request(SENDER, bytes(8), b"", FindNode(bytes(20)))
    assert in_words(data[:-1]).startswith("malformed RPC")


@given(st.binary(max_size=200))
def test_anything_has_words(data):
    assert in_words(data)
    assert "\n" not in in_words(data)
