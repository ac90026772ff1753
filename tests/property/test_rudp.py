"""Whatever the link does, the bytes that come out are the bytes that went in."""

import random
from dataclasses import replace

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp import frames
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import CongestionAlgorithm
from opnode.protocols.rudp.events import ChannelOpened, ChannelReset, Closed
from opnode.protocols.rudp.frames import (
    AckFrame,
    DataFrame,
    encode_ack,
    encode_data,
    parse_frames,
)
from opnode.protocols.rudp.receive_buffer import IslandLimit, ReceiveBuffer
from opnode.protocols.rudp.send_buffer import SendBuffer
from opnode.testing.pair import LinkConfig, Pair
from tests.fuzz.hostile_rudp import STRANGER, NetworkAttacker, Tally

CONFIG = RudpConfig(
    channel_window=256 * 1024, connection_window=1 << 20, send_buffer=64 * 1024
)


def examples(short: int) -> int:
    """As many as the profile ``long`` wants, few enough for the gate otherwise."""
    wanted = settings().max_examples
    return wanted if wanted > 100 else short


links = st.builds(
    LinkConfig,
    latency_s=st.sampled_from([0.0, 0.001, 0.02]),
    jitter_s=st.sampled_from([0.0, 0.0005, 0.03]),
    loss=st.sampled_from([0.0, 0.02, 0.3]),
    duplication=st.sampled_from([0.0, 0.3]),
    rate_Bps=st.sampled_from([0.0, 1e6]),
    queue_bytes=st.sampled_from([5000, 100_000]),
)


def exchange(pair: Pair, texts: dict[str, bytes]) -> dict[str, bytes]:
    """Send one text each way over one channel; returns what arrived at each end."""
    ends = {"a": pair.a, "b": pair.b}
    channel = pair.a.connection.open_channel(pair.now)
    sent = dict.fromkeys(ends, 0)
    got: dict[str, list[bytes]] = {name: [] for name in ends}
    over: set[str] = set()

    def work() -> bool:
        for name, end in ends.items():
            connection = end.connection
            if name == "b" and not end.events_of(ChannelOpened):
                continue
            text = texts[name]
            if sent[name] < len(text):
                rest = memoryview(text)[sent[name] :]
                sent[name] += connection.send(channel, rest, pair.now)
            if sent[name] == len(text):
                connection.finish(channel, pair.now)
            while name not in over:
                piece = connection.read(channel, 3000, pair.now)
                if piece is None:
                    break
                got[name].append(piece)
                if not piece:
                    over.add(name)
        return over == {"a", "b"}

    pair.drive(work, within_s=600)
    return {"b": b"".join(got["a"]), "a": b"".join(got["b"])}


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    link=links,
    seed=st.integers(0, 1000),
    sizes=st.tuples(st.integers(0, 150_000), st.integers(0, 20_000)),
    max_segments=st.sampled_from([1, 3, 54]),
)
@example(
    link=LinkConfig(loss=0.5, jitter_s=0.05), seed=1, sizes=(40_000, 1), max_segments=54
)
def test_bytes_out_equal_bytes_in_for_any_link(link, seed, sizes, max_segments):
    pair = Pair(link=link, seed=seed, max_segments=max_segments, config=CONFIG)
    dice = random.Random(seed)
    texts = {name: dice.randbytes(size) for name, size in zip("ab", sizes, strict=True)}
    assert exchange(pair, texts) == texts
    pair.link = LinkConfig()
    pair.run_for(10.0)
    for end in (pair.a, pair.b):
        assert not end.events_of(Closed)
        figures = end.connection.statistics()
        assert figures.channels_open == 0
        assert figures.bytes_in_flight == 0


class TwoEnds(RuleBasedStateMachine):
    """Operations on several channels while the link changes under them.

    The link also changes, cuts, splices and repeats packets, and the initiator's NAT
    gives it other addresses. There are other ways between the two, which fail and come
    back like the first. Keys are replaced about once a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.make_pair(CongestionAlgorithm.CUBIC, 54, 16)
        self.sent: dict[tuple[str, int], bytearray] = {}
        self.got: dict[tuple[str, int], bytearray] = {}
        self.finished: set[tuple[str, int]] = set()
        self.spoilt: set[int] = set()
        self.ended: set[tuple[str, int]] = set()

    @initialize(
        congestion=st.sampled_from(CongestionAlgorithm),
        max_segments=st.sampled_from([1, 54]),
        packets_per_key=st.sampled_from([16, 1 << 22]),
    )
    def make_pair(self, congestion, max_segments, packets_per_key):
        config = replace(
            CONFIG, congestion=congestion, key_update_packets=packets_per_key
        )
        self.pair = Pair(config=config, seed=5, max_segments=max_segments)
        self.attacker = NetworkAttacker(random.Random(6), Tally())
        self.attacker.rate = 0
        self.pair.on_transmission = self.attacker
        self.rebindings = 0
        self.ways: list[tuple[Endpoint, Endpoint]] = []

    def connection(self, name: str):
        return (self.pair.a if name == "a" else self.pair.b).connection

    def known(self, name: str) -> list[int]:
        end = self.pair.a if name == "a" else self.pair.b
        opened = [event.channel_id for event in end.events_of(ChannelOpened)]
        return opened + [channel for who, channel in self.sent if who == name]

    @precondition(lambda self: len(self.sent) < 12)
    @rule(name=st.sampled_from("ab"))
    def open_channel(self, name):
        channel = self.connection(name).open_channel(self.pair.now)
        self.sent[name, channel] = bytearray()

    @rule(name=st.sampled_from("ab"), data=st.data(), size=st.integers(1, 30_000))
    def write(self, name, data, size):
        channels = self.known(name)
        if not channels:
            return
        channel = data.draw(st.sampled_from(channels))
        if (name, channel) in self.finished or channel in self.spoilt:
            return
        text = random.Random(size).randbytes(size)
        taken = self.connection(name).send(channel, text, self.pair.now)
        self.sent.setdefault((name, channel), bytearray()).extend(text[:taken])

    @rule(name=st.sampled_from("ab"), data=st.data())
    def finish(self, name, data):
        channels = self.known(name)
        if channels:
            channel = data.draw(st.sampled_from(channels))
            self.connection(name).finish(channel, self.pair.now)
            self.finished.add((name, channel))

    @rule(name=st.sampled_from("ab"), data=st.data(), urgency=st.integers(0, 7))
    def set_urgency(self, name, data, urgency):
        channels = [c for c in self.known(name) if c not in self.spoilt]
        if channels:
            channel = data.draw(st.sampled_from(channels))
            self.connection(name).set_urgency(channel, urgency, self.pair.now)

    @rule(name=st.sampled_from("ab"), data=st.data(), by_reader=st.booleans())
    def spoil(self, name, data, by_reader):
        channels = self.known(name)
        if len(channels) < 3:
            return
        channel = data.draw(st.sampled_from(channels))
        self.spoilt.add(channel)
        if by_reader:
            self.connection(name).stop_reading(channel, 4, self.pair.now)
        else:
            self.connection(name).reset(channel, 4, self.pair.now)

    @rule(link=links)
    def change_link(self, link):
        self.pair.link = link

    @rule(rate=st.integers(0, 2))
    def tamper(self, rate):
        self.attacker.rate = rate

    @rule()
    def repeat_a_packet_from_elsewhere(self):
        seen = self.attacker.seen
        if seen:
            self.pair.put_on_link(STRANGER, self.pair.b.endpoint, seen[len(seen) // 2])

    @rule()
    def rebind(self):
        self.rebindings += 1
        port = 10_000 + self.rebindings
        host = f"192.0.2.{10 + self.rebindings % 3}"
        self.pair.rebind(self.pair.a, Endpoint(host, port))

    @precondition(lambda self: len(self.ways) < 3)
    @rule(link=links, known_to=st.sampled_from(["a", "b", "ab"]))
    def add_way(self, link, known_to):
        way = self.pair.add_way(link)
        self.ways.append(way)
        ours, theirs = way
        if "a" in known_to:
            self.pair.a.connection.add_path(theirs, self.pair.now)
        if "b" in known_to:
            self.pair.b.connection.add_path(ours, self.pair.now)

    @rule(data=st.data())
    def cut_or_mend_a_way(self, data):
        places = [self.pair.b.endpoint, *(theirs for _, theirs in self.ways)]
        place = data.draw(st.sampled_from(places))
        self.pair.dead ^= {place}

    @rule(duration_s=st.sampled_from([0.001, 0.03, 1.0]))
    def wait(self, duration_s):
        self.pair.run_for(duration_s)

    @rule(name=st.sampled_from("ab"), max_bytes=st.sampled_from([7, 2000, 100_000]))
    def read(self, name, max_bytes):
        other = "b" if name == "a" else "a"
        for channel in dict.fromkeys(self.known(name)):
            piece = self.connection(name).read(channel, max_bytes, self.pair.now)
            if piece:
                self.got.setdefault((other, channel), bytearray()).extend(piece)
            elif piece == b"":
                self.ended.add((other, channel))

    @rule(name=st.sampled_from("ab"))
    def disturb(self, name):
        connection = self.connection(name)
        connection.send_datagram(b"noise", self.pair.now)
        if connection.may_ping:
            connection.ping(self.pair.now)

    @invariant()
    def what_was_read_is_the_start_of_what_was_written(self):
        for key, text in self.got.items():
            assert self.sent[key].startswith(text)

    @invariant()
    def nobody_closed(self):
        for end in (self.pair.a, self.pair.b):
            assert not end.events_of(Closed)

    def teardown(self):
        self.pair.link = LinkConfig()
        self.pair.links.clear()
        self.pair.dead.clear()
        self.attacker.rate = 0
        for _ in range(40):
            self.pair.run_for(1.0)
            self.read("a", 1 << 20)
            self.read("b", 1 << 20)
            self.what_was_read_is_the_start_of_what_was_written()
        for (name, channel), text in self.sent.items():
            if channel not in self.spoilt:
                assert self.got.get((name, channel), bytearray()) == text
                assert ((name, channel) in self.finished) == (
                    (name, channel) in self.ended
                )
        resets = self.pair.a.events_of(ChannelReset) + self.pair.b.events_of(
            ChannelReset
        )
        assert {event.channel_id for event in resets} <= self.spoilt


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(
    max_examples=examples(60),
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=40))
def test_pieces_in_any_order_and_overlap_give_the_text(pieces):
    text = random.Random(7).randbytes(100)
    buffer = ReceiveBuffer(IslandLimit(100))
    there = bytearray(100)
    got = b""
    for offset, size in pieces:
        buffer.insert(offset, text[offset : offset + size])
        there[offset : offset + size] = b"\1" * size
        got += buffer.read(11)
        assert text.startswith(got)
    while piece := buffer.read(13):
        got += piece
    reached = there.index(0) if 0 in there else 100
    assert got == text[:reached]
    assert buffer.has_gaps == (1 in there[reached:])
    for offset in range(100):
        if not there[offset]:
            buffer.insert(offset, text[offset : offset + 1])
    assert got + buffer.read(100) == text


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 40, 1152, 40_000]))
def test_long_pieces_in_any_order_and_overlap_give_the_text(seed, longest):
    dice = random.Random(seed)
    text = dice.randbytes(min(200 * longest, 300_000))
    limit = IslandLimit(10_000)
    buffer = ReceiveBuffer(limit)
    for _ in range(300):
        offset = dice.randrange(len(text))
        buffer.insert(offset, text[offset : offset + dice.randint(1, longest)])
        places = list(zip(buffer._island_starts, buffer._islands, strict=True))
        ends = [start + len(island) for start, island in places]
        for (start, island), end in zip(places, ends, strict=True):
            assert text[start:end] == island
        for (start, _), end in zip(places, [buffer.end, *ends], strict=False):
            assert end <= start
        assert limit.count == len(places)
    buffer.insert(0, text)
    assert limit.count == 0
    assert buffer.read(len(text)) + buffer.read(len(text)) == text


@given(st.integers(0, 2**32))
def test_a_send_buffer_sends_every_byte_until_it_is_acknowledged(seed):
    dice = random.Random(seed)
    text = random.Random(8).randbytes(6000)
    buffer = SendBuffer(0, capacity=10_000, limit=10_000)
    position = 0
    while position < len(text):
        size = dice.randint(1, 2500)
        position += buffer.write(memoryview(text)[position : position + size])
    arrived = bytearray(len(text))
    in_flight: list[tuple[int, int]] = []
    for _ in range(200):
        start, stop = buffer.next_range(dice.randint(1, 3000))
        stop = min(stop, start + dice.randint(1, 900))
        if start < stop:
            arrived_bytes = bytes(buffer.view(start, stop))
            assert arrived_bytes == text[start:stop]
            buffer.take(start, stop)
            in_flight.append((start, stop))
        elif not in_flight:
            break
        if in_flight and (start == stop or dice.randint(0, 1)):
            index = dice.randrange(len(in_flight))
            begin, end = in_flight.pop(index)
            if dice.randint(0, 3):
                buffer.on_acked(begin, end)
                arrived[begin:end] = text[begin:end]
            else:
                buffer.on_lost(begin, end)
    for begin, end in in_flight:
        buffer.on_acked(begin, end)
        arrived[begin:end] = text[begin:end]
    while True:
        start, stop = buffer.next_range(10_000)
        if start == stop:
            break
        arrived[start:stop] = buffer.view(start, stop)
        buffer.take(start, stop)
        buffer.on_acked(start, stop)
    assert bytes(arrived) == text
    assert buffer.base == len(text)
    assert buffer.room == 10_000


@given(
    st.integers(0, 4_000_000_000),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=64),
)
def test_acknowledgements_survive_the_wire(delay_us, steps):
    ranges = []
    top = 5000
    for gap, length in steps:
        ranges.append((top - length, top, top % 256))
        top -= length + gap
    (frame,) = parse_frames(encode_ack(delay_us / 1e6, ranges))
    assert isinstance(frame, AckFrame)
    assert frame.ranges == tuple(found[:2] for found in ranges)
    assert frame.proofs == bytes(found[2] for found in ranges)
    assert abs(frame.delay_s - delay_us / 1e6) <= 1e-6


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**61),
    st.binary(max_size=frames.BASE_CHUNK_SIZE),
    st.booleans(),
)
def test_data_frames_survive_the_wire(channel_id, offset, text, fin):
    encoded = encode_data(channel_id, offset, text, fin=fin)
    assert parse_frames(encoded) == [DataFrame(channel_id, offset, text, fin)]
