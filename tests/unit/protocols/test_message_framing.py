import pytest

from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.protocols.message_framing import (
    MAX_STREAMED_SIZE,
    MessageSplitter,
    encode_length,
)


def framed(*messages):
    return b"".join(encode_length(len(message)) + message for message in messages)


@pytest.mark.parametrize(
    ("size", "encoded"),
    [
        (0, "00"),
        (37, "25"),
        (63, "3f"),
        (64, "4040"),
        (15293, "7bbd"),
        (16383, "7fff"),
        (16384, "80004000"),
        (494878333, "9d7f3e7d"),
        (1 << 30, "c000000040000000"),
        (151288809941952652, "c2197c5eff14e88c"),
        (MAX_STREAMED_SIZE, "ffffffffffffffff"),
    ],
)
def test_lengths_are_written_as_rfc_9000_a_1_does(size, encoded):
    assert encode_length(size).hex() == encoded


@pytest.mark.parametrize("size", [-1, MAX_STREAMED_SIZE + 1])
def test_a_length_that_cannot_be_told_is_refused(size):
    with pytest.raises(LocalProtocolError, match=str(size)):
        encode_length(size)


def test_several_messages_in_one_piece_come_out_one_by_one():
    messages = [b"a", b"", b"b" * 63, b"c" * 64, b"d" * 16384]
    splitter = MessageSplitter(20_000)
    splitter.add(framed(*messages))
    assert splitter.split() == messages
    assert splitter.size == 0
    assert splitter.split() == []


@pytest.mark.parametrize("size", [1, 64, 16384])
def test_a_message_that_comes_byte_by_byte_comes_out_whole(size):
    message = bytes(index % 251 for index in range(size))
    splitter = MessageSplitter(20_000)
    found = []
    for byte in framed(message, b"next"):
        splitter.add(bytes((byte,)))
        found += splitter.split()
    assert found == [message, b"next"]


def test_a_message_that_is_too_long_names_both_sizes_and_keeps_those_before_it():
    splitter = MessageSplitter(10)
    splitter.add(framed(b"first", b"x" * 11))
    assert splitter.split() == [b"first"]
    with pytest.raises(RemoteProtocolError, match="11 bytes, at most 10"):
        splitter.check_next()


def test_a_length_alone_is_enough_to_refuse_a_message():
    splitter = MessageSplitter(1 << 20)
    splitter.add(encode_length(MAX_STREAMED_SIZE))
    assert splitter.split() == []
    with pytest.raises(RemoteProtocolError, match=str(MAX_STREAMED_SIZE)):
        splitter.check_next()


def test_nothing_is_refused_before_its_length_is_whole():
    splitter = MessageSplitter(10)
    splitter.check_next()
    splitter.add(encode_length(1 << 20)[:3])
    assert splitter.split() == []
    splitter.check_next()
    assert splitter.take_length() is None


def test_a_length_can_be_taken_alone_and_the_bytes_piece_by_piece():
    splitter = MessageSplitter(10)
    splitter.add(framed(b"x" * 100, b"next"))
    assert splitter.split() == []
    assert splitter.take_length() == 100
    assert splitter.take(60) == b"x" * 60
    assert splitter.take(40) == b"x" * 40
    assert splitter.split() == [b"next"]


def test_a_length_that_is_longer_than_it_must_be_is_read_all_the_same():
    splitter = MessageSplitter(10)
    splitter.add(bytes.fromhex("c000000000000003") + b"abc" + bytes.fromhex("4001d9"))
    assert splitter.split() == [b"abc", b"\xd9"]


def test_a_long_message_in_many_pieces_is_joined_once():
    splitter = MessageSplitter(1 << 20)
    body = bytes(1 << 20)
    splitter.add(encode_length(len(body)))
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    for piece in pieces[:-1]:
        assert splitter.split() == []
        splitter.add(piece)
    # Nothing was joined while the end was missing: that would copy quadratically.
    assert len(splitter._parts) == len(pieces)
    splitter.add(pieces[-1])
    assert splitter.split() == [body]
