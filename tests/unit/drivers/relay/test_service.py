"""A relay on the wire: joining, frames, the end, and never more out than in."""

import contextlib
import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from opnode.core.addresses import Endpoint
from opnode.core.errors import RequestRefused, RequestTimeout
from opnode.core.ids import Contact, NodeId
from opnode.drivers.network.network import Received
from opnode.drivers.relay.service import RelayService
from opnode.drivers.rpc.exchange import Indifferent
from opnode.protocols.relay import Place, RelayConfig
from opnode.protocols.rpc.messages import (
    FailureCode,
    JoinRelay,
    RelayEnded,
    RelayJoined,
    Service,
    pack_contact,
)
from opnode.testing.relay_ends import RelayBench
from opnode.testing.virtual_network import Link, VirtualNetwork

RELAY = Endpoint("192.0.2.1", 4000)
ALICE_AT = Endpoint("192.0.2.2", 4000)
NAME = b"session1"
ALICE, BOB = b"a" * 16, b"b" * 16


class Host:
    """A bare socket that speaks the relay's words by hand."""

    def __init__(self, node) -> None:
        self.node = node
        self.frames: list[bytes] = []
        node.hub.relay_handler = lambda run: self.frames.extend(
            bytes(run.buffer[i : i + run.segment_size])
            for i in range(0, len(run.buffer), run.segment_size)
        )

    async def join(self, secret: bytes, name: bytes = NAME) -> RelayJoined:
        answer = await self.node.rpc.request(RELAY, JoinRelay(name, secret))
        assert isinstance(answer.body, RelayJoined)
        return answer.body

    def send(self, *payloads: bytes, name: bytes = NAME) -> None:
        for payload in payloads:
            self.node.hub.send(b"\xd0" + name + payload, RELAY)


@pytest.fixture
async def bench(nursery: trio.Nursery) -> RelayBench:
    link = Link(latency_s=(0.01, 0.01))
    return RelayBench(nursery, VirtualNetwork(random.Random(1), link))


async def three(bench: RelayBench, config: RelayConfig | None = None):
    relay = await bench.relay(RELAY.host, config)
    ends = [Host(await bench.user(host)) for host in ("192.0.2.2", "192.0.2.3")]
    return relay, *ends


async def test_what_one_member_sends_reaches_the_other_as_it_was(
    bench: RelayBench, autojump_clock
):
    relay, alice, bob = await three(bench)
    assert not (await alice.join(ALICE)).is_complete
    assert (await bob.join(BOB)).is_complete
    alice.send(b"one", b"two!", b"three")
    bob.send(b"back")
    await trio.sleep(1)
    frames = [b"\xd0" + NAME + text for text in (b"one", b"two!", b"three")]
    assert bob.frames == frames
    assert alice.frames == [b"\xd0" + NAME, b"\xd0" + NAME + b"back"]
    assert relay.service.statistics().bytes_relayed == sum(map(len, frames)) + 13


async def test_a_run_leaves_as_a_run(bench: RelayBench, autojump_clock):
    _, alice, bob = await three(bench)
    await alice.join(ALICE)
    await bob.join(BOB)
    run = (b"\xd0" + NAME + bytes(1200)) * 20
    alice.node.hub.send(run, RELAY, 1209)
    await trio.sleep(1)
    assert bob.frames == [b"\xd0" + NAME + bytes(1200)] * 20


async def test_the_limits_are_told_in_advance(bench: RelayBench, autojump_clock):
    config = RelayConfig(session_bytes=5000, lifetime_s=77.0, session_bytes_per_s=4e4)
    _, alice, _ = await three(bench, config)
    joined = await alice.join(ALICE)
    assert joined == RelayJoined(False, 77, 40_000, 5000)


async def test_nobody_joins_without_a_valid_token(bench: RelayBench, autojump_clock):
    relay, alice, _ = await three(bench)
    body = JoinRelay(NAME, ALICE)
    alice.node.hub.send(alice.node.rpc.unanswered(body, RELAY), RELAY)
    await trio.sleep(1)
    assert relay.service.statistics().sessions == 0
    assert relay.service.statistics().opened == 0


async def test_a_third_is_refused_by_name(bench: RelayBench, autojump_clock):
    _, alice, bob = await three(bench)
    await alice.join(ALICE)
    await bob.join(BOB)
    carol = Host(await bench.user("192.0.2.4"))
    with pytest.raises(RequestRefused, match="two are in this session"):
        await carol.join(b"c" * 16)


async def test_a_full_relay_names_others(bench: RelayBench, autojump_clock):
    relay, alice, _ = await three(bench, RelayConfig(max_sessions=1))
    other = Contact(NodeId(bytes(20)), Endpoint("198.51.100.1", 4000))
    relay.service.alternates = lambda _: (other,)
    await alice.join(ALICE)
    with pytest.raises(RequestRefused, match="as many sessions") as refused:
        await alice.join(ALICE, b"session2")
    assert refused.value.alternates == (pack_contact(other),)


async def test_members_are_told_of_the_end_and_why(bench: RelayBench, autojump_clock):
    _, alice, bob = await three(bench, RelayConfig(session_bytes=100))
    await alice.join(ALICE)
    await bob.join(BOB)
    told: list[tuple[str, int]] = []
    for name, host in (("alice", alice), ("bob", bob)):
        host.node.rpc.serve(
            RelayEnded, lambda request, name=name: told.append((name, request.body))
        )
    alice.send(bytes(100))
    await trio.sleep(0.1)
    assert sorted(told) == [
        ("alice", RelayEnded(NAME, 2)),
        ("bob", RelayEnded(NAME, 2)),
    ]


async def test_only_a_member_ends_a_session(bench: RelayBench, autojump_clock):
    relay, alice, bob = await three(bench)
    await alice.join(ALICE)
    await bob.join(BOB)
    carol = Host(await bench.user("192.0.2.4"))
    await carol.node.rpc.request(RELAY, RelayEnded(NAME, 1))
    assert relay.service.statistics().sessions == 1
    await alice.node.rpc.request(RELAY, RelayEnded(NAME, 1))
    assert relay.service.statistics().sessions == 0


async def test_who_is_silent_for_long_is_no_member_any_more(
    bench: RelayBench, autojump_clock
):
    config = RelayConfig()
    relay, alice, bob = await three(bench, config)
    await alice.join(ALICE)
    await bob.join(BOB)
    await trio.sleep(config.member_s - 1)
    assert relay.service.statistics().sessions == 1
    await trio.sleep(2)
    assert relay.service.statistics().sessions == 0


async def test_a_relay_that_stops_says_so(bench: RelayBench, autojump_clock):
    relay, alice, _ = await three(bench)
    await alice.join(ALICE)
    told = []
    alice.node.rpc.serve(RelayEnded, lambda request: told.append(request.body))
    relay.service.stop()
    await trio.sleep(0.1)
    assert told == [RelayEnded(NAME, 5)]


async def test_only_a_relay_says_that_it_is_one(bench: RelayBench, autojump_clock):
    relay, alice, _ = await three(bench)
    assert relay.rpc.services == Service.RELAY
    assert not alice.node.rpc.services
    with pytest.raises(RequestRefused) as refused:
        await relay.rpc.request(alice.node.endpoint, JoinRelay(NAME, ALICE))
    assert refused.value.code == FailureCode.NOT_SERVED


async def test_a_relay_sends_no_more_bytes_than_it_gets(
    bench: RelayBench, autojump_clock
):
    """Whole datagrams with their headers, joining, frames, and strangers' frames."""
    relay, alice, bob = await three(bench, RelayConfig(session_bytes=50_000))
    await alice.join(ALICE)
    await bob.join(BOB)
    for size in range(0, 1200, 7):
        alice.send(bytes(size))
        bob.send(bytes(size), name=b"unknown1")
    await trio.sleep(200)
    figures = relay.hub.statistics().socket
    sent = figures.bytes_out + 28 * figures.datagrams_out
    heard = figures.bytes_in + 28 * figures.datagrams_in
    assert relay.service.statistics().bytes_relayed > 40_000
    assert sent <= heard


async def test_a_flood_of_joins_takes_few_places_and_little_time(
    bench: RelayBench, autojump_clock
):
    relay, alice, bob = await three(bench, RelayConfig(sessions_per_host=4))
    await alice.join(ALICE)
    await bob.join(BOB)
    flooder = Host(await bench.user("192.0.2.66"))
    await flooder.join(b"f" * 16, b"flooding")
    for number in range(3000):
        body = JoinRelay(number.to_bytes(8), b"f" * 16)
        with contextlib.suppress(RequestTimeout):
            flooder.node.rpc.start(RELAY, body, Indifferent())
        if number % 100 == 0:
            await trio.sleep(0.05)
    await trio.sleep(1)
    assert relay.service.statistics().sessions <= 1 + 4
    assert relay.rpc.statistics().limited > 1000
    alice.send(b"still here")
    await trio.sleep(0.1)
    assert bob.frames[-1] == b"\xd0" + NAME + b"still here"


@given(data=st.binary(max_size=1500), step=st.integers(9, 1500))
def test_no_frame_raises_and_nothing_goes_to_who_is_no_member(data, step):
    sent = []

    class Hub:
        relay_handler = None

        def send(self, data, destination, segment_size):
            sent.append((bytes(data), destination, segment_size))
            return True

    class Rpc:
        services = Service(0)

        def serve(self, kind, handler):
            """Nobody asks."""

    hub = Hub()
    service = RelayService(Rpc(), hub, RelayConfig())
    service._sessions.join(NAME, ALICE, Place(ALICE_AT, ALICE_AT.host), 0.0)
    service._sessions.join(NAME, BOB, Place(RELAY, RELAY.host), 0.0)

    async def feed():
        for frame in (data, b"\xd0" + NAME + data):
            for source in (ALICE_AT, Endpoint("203.0.113.9", 9)):
                run = memoryview(frame)
                hub.relay_handler(Received(run, max(min(step, len(run)), 1), source, 0))

    trio.run(feed, clock=MockClock())
    own = b"\xd0" + NAME + data
    assert {destination for _, destination, _ in sent} == {RELAY}
    assert all(frame in (own, data) for frame, _, _ in sent)
