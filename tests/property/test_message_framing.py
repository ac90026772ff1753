import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.errors import RemoteProtocolError
from opnode.protocols.message_framing import MessageSplitter, encode_length

MESSAGES = st.lists(
    st.integers(0, 300).map(bytes) | st.sampled_from([bytes(16383), bytes(16384)]),
    max_size=12,
)


@given(MESSAGES, st.lists(st.integers(1, 400), min_size=1))
def test_any_split_of_the_stream_gives_the_same_messages(messages, cuts):
    stream = b"".join(encode_length(len(one)) + one for one in messages)
    splitter = MessageSplitter(16384)
    found = []
    at = turn = 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        splitter.add(stream[at : at + step])
        found += splitter.split()
        at += step
        turn += 1
    assert found == messages
    assert splitter.size == 0


@given(st.binary(max_size=200), st.integers(0, 100))
def test_what_is_held_is_bounded_or_refused(stream, maximum):
    splitter = MessageSplitter(maximum)
    splitter.add(stream)
    assert all(len(message) <= maximum for message in splitter.split())
    if splitter.size > maximum + 7:
        with pytest.raises(RemoteProtocolError, match=f"at most {maximum}"):
            splitter.check_next()
