import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import (
    EVENTS,
    MAX_LINE,
    VERBS,
    JsonLines,
    RequestError,
    parse_request_untrusted,
)

REQUESTS = [
    messages.Id(),
    messages.Status(),
    messages.Lookup(peer="ann"),
    messages.Trace(target="ann", nodes=True),
    messages.Doctor(),
    messages.Ping(peer="ann", count=3),
    messages.HangUp(peer="ann"),
    messages.Send(peer="ann", path="/a"),
    messages.Chat(peer="ann"),
    messages.AddContact(name="ann", peer="op1"),
    messages.ListContacts(),
    messages.RemoveContact(name="ann"),
    messages.Stop(),
    messages.Say(number=1, text="hello"),
    messages.MarkShown(number=1),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_request_survives_the_line(request_):
    assert parse_request_untrusted(msgspec.json.encode(request_)) == request_


def test_every_verb_has_a_request():
    named = {msgspec.to_builtins(request)["verb"] for request in REQUESTS}
    assert named == set(VERBS) | {"say", "shown"}


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b"", "MalformedRequest", "expected"),
        (b"hello", "MalformedRequest", "expected"),
        (b"\xff\xff", "MalformedRequest", "expected"),
        (b"[" * 5000, "MalformedRequest", "expected"),
        (b'{"verb":"id"}', "MalformedRequest", "version"),
        (b'{"version":2,"verb":"id"}', "UnsupportedVersion", "speaks 1"),
        (b'{"version":1,"verb":"fly\\u001b"}', "UnknownVerb", "lookup, trace"),
        (b'{"version":1,"verb":"ping"}', "MalformedRequest", "peer"),
        (b'{"version":1,"verb":"ping","peer":5}', "MalformedRequest", "peer"),
        (b'{"version":1,"verb":"trace"}', "MalformedRequest", "target"),
        (
            b'{"version":1,"verb":"trace","target":"a","nodes":"yes"}',
            "MalformedRequest",
            "nodes",
        ),
        (
            b'{"version":1,"verb":"trace","target":"' + b"a" * 257 + b'"}',
            "MalformedRequest",
            "length <= 256",
        ),
        (
            b'{"version":1,"verb":"ping","peer":"a","count":-1}',
            "MalformedRequest",
            "count",
        ),
    ],
)
def test_k_3_a_line_that_is_no_request_is_refused_by_name(line, code, says):
    with pytest.raises(RequestError, match=says) as caught:
        parse_request_untrusted(line)
    assert caught.value.code == code


@given(st.binary(max_size=200))
def test_no_line_raises_anything_but_a_request_error(line):
    with contextlib.suppress(RequestError):
        parse_request_untrusted(line)


async def test_lines_arrive_in_order_however_the_bytes_are_split():
    left, right = memory_stream_pair()
    lines = JsonLines(right)
    data = b'{"a":1}\n{"b":2}\n{"c"'
    for start in range(0, len(data), 3):
        await left.send_all(data[start : start + 3])
    await left.send_eof()
    assert await lines.receive_line_untrusted() == b'{"a":1}'
    assert await lines.receive_line_untrusted() == b'{"b":2}'
    assert await lines.receive_line_untrusted() is None


async def test_k_2_a_line_without_end_is_refused_at_its_bound():
    left, right = memory_stream_pair()
    await left.send_all(b"x" * (MAX_LINE + 1))
    with pytest.raises(RequestError, match=str(MAX_LINE)):
        await JsonLines(right).receive_line_untrusted()


async def test_an_event_survives_the_line():
    left, right = memory_stream_pair()
    event = messages.TransferProgress(done=1, size=2)
    await JsonLines(left).send(event)
    line = await JsonLines(right).receive_line_untrusted()
    assert EVENTS.decode(line) == event
