"""Random and mutated RPC datagrams: no error escapes, nothing amplifies or grows."""

import gc
import random
import tracemalloc

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError
from opnode.core.ids import Contact, NodeId, node_id_of
from opnode.core.records import build_chunk
from opnode.core.text import printable
from opnode.drivers.dht.dht import Dht
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.store import RecordStore
from opnode.protocols.rpc import datagrams as d
from opnode.protocols.rpc import messages as m
from opnode.testing.clock import DEFAULT_BASE, VirtualWallClock
from opnode.testing.keys import seeded_signing_key

ENDPOINTS = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), st.integers(1, 65535)),
    st.tuples(st.ip_addresses(v=6).map(str), st.integers(1, 65535)),
).map(lambda pair: Endpoint(*pair))


def exactly(size):
    return st.binary(min_size=size, max_size=size)


NEAR = st.one_of(st.just(b""), exactly(20))
REQUESTS = st.one_of(
    st.builds(m.Ping, st.binary(max_size=32), st.binary(max_size=18)),
    st.builds(m.FindNode, exactly(20)),
    st.builds(m.FindValue, exactly(20), st.integers(0, 32), NEAR),
    st.builds(
        m.Store,
        st.binary(min_size=1, max_size=1137),
        NEAR,
        st.one_of(st.none(), st.integers(m.NO_RECORD, 2**63 - 1)),
    ),
    st.builds(
        m.Register,
        exactly(16),
        st.integers(0, 86_400),
        st.integers(0, 2**53),
        exactly(32),
        exactly(64),
    ),
    st.builds(
        m.Introduce,
        exactly(16),
        st.integers(0, 86_400),
        st.binary(min_size=1, max_size=1100),
    ),
    st.builds(m.Offer, exactly(16), st.binary(min_size=1, max_size=1100)),
    st.builds(m.Watch, exactly(20), st.integers(0, 86_400)),
    st.builds(m.Changed, st.binary(min_size=1, max_size=1137)),
    st.builds(m.DialBack, exactly(16)),
    st.builds(m.Dial, exactly(6), exactly(16)),
    st.builds(m.Dialled, exactly(16)),
    st.builds(m.Delegate, exactly(20), st.booleans()),
    st.builds(m.Signal, exactly(16), st.binary(min_size=1, max_size=1100)),
    st.builds(m.FindServices, st.integers(1, 255)),
    st.builds(m.JoinRelay, exactly(8), exactly(16)),
    st.builds(m.RelayEnded, exactly(8), st.integers(0, 255)),
    st.builds(m.Forward, exactly(6), st.binary(min_size=1, max_size=1100)),
)
PACKED_CONTACTS = st.lists(st.binary(min_size=26, max_size=38), max_size=20).map(tuple)
SERVERS = st.lists(st.binary(min_size=26, max_size=38), max_size=8).map(tuple)
ALTERNATES = st.lists(st.binary(min_size=26, max_size=38), max_size=3).map(tuple)
PRINTABLE = st.text(max_size=80).map(printable)
REPLIES = st.one_of(
    st.builds(m.Pong, st.binary(max_size=32), st.binary(max_size=64)),
    st.builds(m.Nodes, PACKED_CONTACTS),
    st.builds(
        m.Values,
        st.lists(st.binary(min_size=1, max_size=200), max_size=32).map(tuple),
        st.integers(0, 32),
        PACKED_CONTACTS,
    ),
    st.builds(m.Stored, PACKED_CONTACTS),
    st.builds(m.Watching, st.integers(0, 86_400)),
    st.just(m.Noted()),
    st.builds(
        m.Servers, SERVERS, st.lists(st.text(max_size=100), max_size=8).map(tuple)
    ),
    st.builds(
        m.RelayJoined,
        st.booleans(),
        st.integers(0, 86_400),
        st.integers(0, 2**53),
        st.integers(0, 2**53),
    ),
    st.builds(
        m.Forwarded,
        exactly(20),
        st.integers(0, 255),
        st.binary(min_size=1, max_size=1212),
    ),
    st.builds(m.Failure, st.integers(0, 255), PRINTABLE, ALTERNATES),
)
SENDERS = st.builds(d.Sender, st.just(m.MAIN_NETWORK), exactly(20), st.booleans())
TOKENS = st.one_of(st.just(b""), exactly(8))


@given(SENDERS, exactly(8), TOKENS, REQUESTS)
def test_every_request_comes_back_as_it_was(sender, transaction, token, body):
    data = d.encode_request(sender, transaction, token, body)
    parsed = d.decode_request_untrusted(data, m.MAIN_NETWORK)
    assert (parsed.body, parsed.token, parsed.leaf) == (body, token, sender.leaf)


@given(SENDERS, exactly(8), TOKENS, REPLIES)
def test_every_reply_comes_back_as_it_was(sender, transaction, token, body):
    here = Endpoint("192.0.2.1", 5)
    data = d.encode_reply(sender, transaction, token, here, body)
    parsed = d.decode_reply_untrusted(data, m.MAIN_NETWORK)
    assert (parsed.body, parsed.token, parsed.observed) == (body, token, here)


@given(st.binary(max_size=1500))
def test_parsing_random_bytes_raises_nothing_but_the_named_error(data):
    for decode in (d.decode_request_untrusted, d.decode_reply_untrusted):
        for head in (b"", b"\xc0" + m.MAIN_NETWORK, b"\xc1" + m.MAIN_NETWORK):
            try:
                decode(head + data, m.MAIN_NETWORK)
            except RemoteProtocolError:
                continue


@given(exactly(20), st.binary(max_size=40))
def test_parsing_a_random_contact_raises_nothing_but_the_named_error(node_id, data):
    try:
        contact = m.unpack_contact_untrusted(node_id + data)
    except RemoteProtocolError:
        return
    assert m.pack_contact(contact) == node_id + data


class RecordingHub:
    """The hub's side that an Rpc uses, for runs without a network."""

    local = Endpoint("10.0.0.1", 4000)

    def __init__(self):
        self.rpc_handler = None
        self.sent = []

    def send(self, data, destination):
        self.sent.append((len(data), destination))
        return True

    def shown(self, endpoint):
        return endpoint

    def carrier_of(self, _endpoint):
        return None


def serving_node():
    hub = RecordingHub()
    key = seeded_signing_key("fuzzed")
    rpc = Rpc(
        hub,
        node_id=node_id_of(key.public, hub.local.host),
        leaf=False,
        signing_key=key,
        rng=random.Random(1),
    )
    store = RecordStore()
    dht = Dht(rpc, store, wall_clock=VirtualWallClock(), rng=random.Random(2))
    for number in range(1, 30):
        node_id = NodeId(random.Random(number).randbytes(20))
        contact = Contact(node_id, Endpoint(f"10.0.1.{number}", 9))
        dht._contacts.table.heard(contact, 0.0)
    chunk = build_chunk(b"held" * 200, int(DEFAULT_BASE) + 10**7)
    store.put_untrusted(chunk.wire, DEFAULT_BASE)
    rpc.serve(m.Introduce, lambda _: None)
    return hub, rpc, store, chunk


def valid_requests(chunk):
    bodies = [
        m.Ping(),
        m.Ping(bytes(32)),
        m.Ping(bytes(32), bytes([10, 0, 0, 1, 15, 160])),
        m.FindNode(bytes(20)),
        m.FindValue(chunk.key),
        m.Store(chunk.wire),
        m.Introduce(bytes(16), 10, bytes(500)),
        m.Offer(bytes(16), bytes(500)),
        m.Register(bytes(16), 60, 5, bytes(32), bytes(64)),
    ]
    sender = d.Sender(m.MAIN_NETWORK, NodeId(b"s" * 20), leaf=False)
    made = [
        d.encode_request(sender, bytes(8), token, body, size)
        for body in bodies
        for token in (b"", b"12345678")
        for size in (0, 300, 1212)
    ]
    endpoint = Endpoint("10.0.0.1", 4000)
    made += [
        d.encode_reply(sender, bytes(8), b"12345678", endpoint, body)
        for body in (m.Pong(), m.Nodes((bytes(26),)), m.Failure(1, "no"))
    ]
    return made


def mutated(rng, samples):
    """A valid datagram with a few bytes changed, cut or added; sometimes just noise."""
    if rng.random() < 0.1:
        return bytes([rng.choice((0xC0, 0xC1))]) + rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(samples))
    # Another transaction, so that duplicates are not all that is seen.
    data[9:17] = rng.randbytes(8)
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.2:
        del data[rng.randrange(1, len(data)) :]
    if rng.random() < 0.1:
        data += rng.randbytes(rng.randrange(50))
    return bytes(data)


async def bombard(count, seed):
    """Feed mutated datagrams from many spoofed sources; check after each."""
    hub, rpc, store, chunk = serving_node()
    samples = valid_requests(chunk)
    rng = random.Random(seed)
    grown = 0
    for number in range(count):
        data = mutated(rng, samples)
        source = Endpoint(f"10.{rng.randrange(256)}.{rng.randrange(256)}.7", 9)
        hub.rpc_handler(data, source)
        out = sum(size for size, _ in hub.sent)
        assert out <= len(data), (number, data.hex())
        assert all(destination == source for _, destination in hub.sent)
        hub.sent.clear()
        if number % 100 == 0:
            # Time passes: requests of our own are given up.
            await trio.sleep(0.5)
            rpc._asker.handle_deadline(trio.current_time())
            hub.sent.clear()
        if number == count // 2:
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    statistics = rpc.statistics()
    assert statistics.served > count / 10
    assert statistics.malformed > count / 100
    store.close()
    return grown


# Bounded tables: 1024 deferred requests, 512 answers of at most 1.2 kB, three caches of
# 4096 addresses. They are filled within the first half or are small.
MEMORY_LIMIT = 6_000_000


async def test_ten_thousand_mutated_datagrams_do_no_harm(autojump_clock):
    assert await bombard(10_000, 1) < MEMORY_LIMIT


@pytest.mark.slow
async def test_a_hundred_thousand_mutated_datagrams_do_no_harm(autojump_clock):
    assert await bombard(100_000, 2) < MEMORY_LIMIT
