# The recording sinks below take arguments that only the protocol needs.
# ruff: noqa: ARG002

import logging
import random
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.drivers.network.network import Buffer, Received, segments_of
from opnode.drivers.socket_hub import SocketHub
from opnode.testing.virtual_network import VirtualNetwork
from opnode.testing.virtual_socket import Arrival, VirtualSocket

HUB = Endpoint("10.0.0.1", 1000)
PEER = Endpoint("10.0.0.2", 1000)
STUN = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
RPC = b"\xc3" + bytes(20)


def rudp(connection: int, payload: bytes = b"payload") -> bytes:
    return b"\xe0" + connection.to_bytes(8) + payload


class RecordingSink:
    def __init__(self) -> None:
        self.runs: list[tuple[bytes, int, Endpoint]] = []
        self.marks: list[int] = []
        self.flushes = 0

    def receive_run(
        self, buffer: memoryview, segment_size: int, source: Endpoint, ecn: int
    ) -> None:
        self.runs.append((bytes(buffer), segment_size, source))
        self.marks.append(ecn)

    def flush(self) -> None:
        self.flushes += 1

    @property
    def packets(self) -> list[bytes]:
        return [
            bytes(part)
            for data, size, _ in self.runs
            for part in segments_of(data, size)
        ]


class BrokenSink(RecordingSink):
    def receive_run(
        self, buffer: memoryview, segment_size: int, source: Endpoint, ecn: int
    ) -> None:
        raise RuntimeError("sink")

    def flush(self) -> None:
        raise RuntimeError("flush")


class Setup:
    def __init__(
        self, hub: SocketHub, sock: VirtualSocket, peer: VirtualSocket
    ) -> None:
        self.hub = hub
        self.sock = sock
        self.peer = peer
        self.stun: list[tuple[bytes, Endpoint]] = []
        self.rpc: list[tuple[bytes, Endpoint]] = []
        hub.stun_handler = lambda data, source: self.stun.append((data, source))
        hub.rpc_handler = lambda data, source: self.rpc.append((data, source))

    async def send(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.peer.send(data, HUB)
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def setup(autojump_clock: Clock, nursery: trio.Nursery) -> AsyncIterator[Setup]:
    network = VirtualNetwork(random.Random(1))
    sock = await network.host(HUB.host).bind_virtual(HUB)
    peer = await network.host(PEER.host).bind_virtual(PEER)
    hub = SocketHub(sock)
    await nursery.start(hub.run)
    yield Setup(hub, sock, peer)
    hub.close()


async def test_each_kind_of_datagram_reaches_its_handler(setup: Setup):
    sink = RecordingSink()
    setup.hub.add_connection((7).to_bytes(8), sink)
    await setup.send(STUN, RPC, rudp(7))
    assert setup.stun == [(STUN, PEER)]
    assert setup.rpc == [(RPC, PEER)]
    assert sink.runs == [(rudp(7), 16, PEER)]
    assert sink.flushes == 1


@pytest.mark.parametrize(
    ("data", "counter"),
    [
        (b"", "unknown"),
        (b"\xe0\x00", "unknown"),
        (b"\x01" + bytes(30), "unknown"),
        (STUN[:19], "unknown"),
        (b"\x80" * 30, "unknown"),
        (b"\xff" * 30, "unknown"),
        (b"\x40" * 30, "turn"),
        (rudp(99), "unknown_connection"),
    ],
)
async def test_what_belongs_to_nobody_is_counted_and_not_answered(
    setup: Setup, data: bytes, counter: str
):
    await setup.send(data)
    assert getattr(setup.hub.statistics(), counter) == 1
    assert setup.stun == setup.rpc == []
    assert setup.sock.statistics().datagrams_out == 0


async def test_without_handlers_datagrams_are_dropped(setup: Setup):
    setup.hub.stun_handler = setup.hub.rpc_handler = None
    await setup.send(STUN, RPC)
    assert setup.hub.statistics().handler_errors == 0


async def test_a_run_for_one_connection_is_handed_over_whole(setup: Setup):
    sink = RecordingSink()
    setup.hub.add_connection((7).to_bytes(8), sink)
    run = rudp(7, bytes(91)) * 49 + rudp(7, b"end")
    setup.peer.send(run, HUB, 100)
    await trio.testing.wait_all_tasks_blocked()
    assert sink.runs == [(run, 100, PEER)]
    assert sink.flushes == 1
    assert setup.hub.statistics().rudp == 50


async def test_a_mixed_run_is_split_and_each_sink_is_flushed_once(setup: Setup):
    sinks = [RecordingSink(), RecordingSink()]
    for number, sink in enumerate(sinks):
        setup.hub.add_connection(number.to_bytes(8), sink)
    pieces = [rudp(0, b"a" * 30), rudp(1, b"b" * 30), RPC + bytes(18), rudp(0, b"c")]
    setup.peer.send(b"".join(pieces), HUB, 39)
    await trio.testing.wait_all_tasks_blocked()
    assert sinks[0].packets == [pieces[0], pieces[3]]
    assert sinks[1].packets == [pieces[1]]
    assert setup.rpc == [(pieces[2], PEER)]
    assert [sink.flushes for sink in sinks] == [1, 1]


async def test_two_connections_that_take_turns_keep_their_runs(setup: Setup):
    sinks = [RecordingSink(), RecordingSink()]
    for number, sink in enumerate(sinks):
        setup.hub.add_connection(number.to_bytes(8), sink)
    runs = [rudp(0) * 3, rudp(1) * 2, rudp(0) * 2]
    setup.peer.send(b"".join(runs), HUB, 16)
    await trio.testing.wait_all_tasks_blocked()
    assert sinks[0].runs == [(runs[0], 16, PEER), (runs[2], 16, PEER)]
    assert sinks[1].runs == [(runs[1], 16, PEER)]


async def test_the_codepoint_reaches_the_connection_and_the_wire(setup: Setup):
    sink = RecordingSink()
    setup.hub.add_connection((7).to_bytes(8), sink)
    setup.peer.send(rudp(7), HUB, ecn=3)
    setup.hub.send(b"back", PEER, ecn=1)
    await trio.testing.wait_all_tasks_blocked()
    assert sink.marks == [3]
    received = setup.peer.receive()
    assert received is not None
    assert received.ecn == 1


async def test_many_datagrams_in_one_wake_up_flush_a_sink_once(setup: Setup):
    sink = RecordingSink()
    setup.hub.add_connection((7).to_bytes(8), sink)
    await setup.send(*(rudp(7, bytes(size)) for size in range(12)))
    assert len(sink.packets) == 12
    assert sink.flushes == 1


async def test_a_removed_connection_gets_nothing_more(setup: Setup):
    sink = RecordingSink()
    setup.hub.add_connection((7).to_bytes(8), sink)
    setup.hub.remove_connection((7).to_bytes(8))
    setup.hub.remove_connection((7).to_bytes(8))
    await setup.send(rudp(7))
    assert sink.runs == []
    assert setup.hub.statistics().connections == 0


async def test_a_sink_that_goes_away_during_the_drain_is_not_flushed(setup: Setup):
    class Leaving(RecordingSink):
        def receive_run(
            self, buffer: memoryview, segment_size: int, source: Endpoint, ecn: int
        ) -> None:
            setup.hub.remove_connection((7).to_bytes(8))

    sink = Leaving()
    setup.hub.add_connection((7).to_bytes(8), sink)
    await setup.send(rudp(7))
    assert sink.flushes == 0


async def test_a_handler_that_fails_is_reported_once_and_the_reader_goes_on(
    setup: Setup, caplog: pytest.LogCaptureFixture
):
    def broken(_data: bytes, _source: Endpoint) -> None:
        raise KeyError("bug")

    setup.hub.rpc_handler = broken
    setup.hub.add_connection((7).to_bytes(8), BrokenSink())
    with caplog.at_level(logging.ERROR):
        await setup.send(RPC, RPC, RPC, rudp(7), STUN)
    assert setup.hub.statistics().handler_errors == 5
    assert len(caplog.records) == 3
    assert all(record.exc_info for record in caplog.records)
    assert setup.stun == [(STUN, PEER)]


async def test_writable_callbacks_run_once_each_when_the_socket_drains(setup: Setup):
    calls: list[str] = []

    def one() -> None:
        calls.append("one")

    def broken() -> None:
        raise RuntimeError("bug")

    def other() -> None:
        calls.append("other")

    setup.sock.stall()
    assert not setup.hub.send(b"x", PEER)
    for callback in (one, one, broken, other):
        setup.hub.when_writable(callback)
    await trio.testing.wait_all_tasks_blocked()
    assert calls == []
    setup.sock.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert calls == ["one", "other"]
    assert setup.hub.statistics().handler_errors == 1
    assert setup.hub.send(b"x", PEER)


async def test_a_callback_may_ask_to_be_called_again(setup: Setup):
    calls: list[int] = []

    def again() -> None:
        calls.append(len(calls))
        if len(calls) < 3:
            setup.hub.when_writable(again)

    setup.hub.when_writable(again)
    await trio.testing.wait_all_tasks_blocked()
    assert calls == [0, 1, 2]


async def test_closing_ends_the_run_even_while_someone_waits_to_write(setup: Setup):
    setup.sock.stall()
    setup.hub.when_writable(lambda: None)
    await trio.testing.wait_all_tasks_blocked()
    setup.hub.close()


async def test_the_hub_shows_its_socket(setup: Setup):
    assert setup.hub.local == HUB
    assert setup.hub.max_segments == 64


@given(
    segments=st.lists(
        st.one_of(
            st.integers(0, 2).map(lambda number: rudp(number, bytes(11))),
            st.binary(min_size=20, max_size=20),
        ),
        min_size=1,
        max_size=20,
    ),
    tail=st.binary(max_size=20),
)
def test_any_run_is_delivered_as_its_datagrams_would_be_one_by_one(
    segments: list[bytes], tail: bytes
):
    async def deliver(*, joined: bool) -> list[list[bytes]]:
        hub = SocketHub(VirtualSocket(VirtualNetwork(random.Random(1)), HUB))
        sinks = [RecordingSink() for _ in range(3)]
        for number, sink in enumerate(sinks):
            hub.add_connection(number.to_bytes(8), sink)
        pieces = [*segments, tail] if tail else segments
        runs = [b"".join(pieces)] if joined else pieces
        for run in runs:
            hub._dispatch_untrusted(Received(memoryview(run), min(len(run), 20), PEER))
        return [sink.packets for sink in sinks]

    assert trio.run(lambda: deliver(joined=True)) == trio.run(
        lambda: deliver(joined=False)
    )


@given(data=st.binary(max_size=200), segment_size=st.integers(1, 200))
def test_no_bytes_make_the_dispatcher_raise(data: bytes, segment_size: int):
    hub = SocketHub(VirtualSocket(VirtualNetwork(random.Random(1)), HUB))
    hub._dispatch_untrusted(Received(memoryview(data), segment_size, PEER))
    assert hub.statistics().handler_errors == 0


class Pigeon:
    """A carrier that takes everything."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, Endpoint]] = []

    def send(self, data: Buffer, destination: Endpoint, segment_size: int) -> bool:
        self.taken.append((bytes(data), destination))
        return True


async def test_what_is_sent_to_a_carriers_address_leaves_by_it(setup: Setup):
    pigeon = Pigeon()
    name = setup.hub.add_carrier(pigeon)
    other = setup.hub.add_carrier(Pigeon())
    setup.hub.divert(PEER, pigeon)
    assert setup.hub.send(b"one", name)
    assert setup.hub.send(b"two", PEER)
    assert name != other
    assert setup.hub.carrier_of(PEER) is pigeon
    assert pigeon.taken == [(b"one", name), (b"two", PEER)]
    assert setup.sock.statistics().datagrams_out == 0


async def test_a_carriers_address_shows_where_its_other_end_is(setup: Setup):
    name = setup.hub.add_carrier(Pigeon(), Endpoint("203.0.113.9", 41000))
    assert setup.hub.shown(name) == Endpoint("203.0.113.9", 41000)
    assert setup.hub.shown(PEER) == PEER
    setup.hub.remove_carrier(name)
    assert setup.hub.shown(name) == name


async def test_an_address_of_a_carrier_that_is_gone_never_reaches_the_socket(
    setup: Setup,
):
    pigeon = Pigeon()
    name = setup.hub.add_carrier(pigeon)
    setup.hub.divert(PEER, pigeon)
    setup.hub.remove_carrier(name)
    setup.hub.remove_carrier(PEER)
    assert setup.hub.send(b"lost", name)
    assert setup.hub.send(b"sent", PEER)
    assert pigeon.taken == []
    assert setup.sock.statistics().datagrams_out == 1


async def test_a_datagram_of_the_socket_never_comes_from_a_carrier(setup: Setup):
    name = setup.hub.add_carrier(Pigeon())
    setup.sock.arrive(Arrival(trio.current_time(), 1, RPC, name, HUB, 0))
    await trio.testing.wait_all_tasks_blocked()
    assert setup.rpc == []
    assert setup.hub.statistics().unknown == 1


async def test_what_a_carrier_received_goes_where_the_sockets_goes(setup: Setup):
    sink = RecordingSink()
    setup.hub.add_connection((7).to_bytes(8), sink)
    name = setup.hub.add_carrier(Pigeon())
    for data in (STUN, RPC, rudp(7), b"", b"\xff" * 30):
        setup.hub.deliver_untrusted(data, name)
    assert (setup.stun, setup.rpc) == ([(STUN, name)], [(RPC, name)])
    assert sink.runs == [(rudp(7), 16, name)]
    assert sink.flushes == 1
    assert setup.hub.statistics().unknown == 2


async def test_relayed_and_turn_datagrams_reach_their_handlers(setup: Setup):
    heard: list[bytes] = []
    stun_heard = len(setup.stun)
    setup.hub.add_turn_server(PEER, lambda data, _: heard.append(data))
    setup.hub.relay_handler = lambda run: heard.append(bytes(run.buffer))
    turn, relayed = b"\x40" * 12, b"\xd0" + bytes(12)
    await setup.send(turn, relayed, STUN)
    assert heard == [turn, relayed, STUN]
    assert len(setup.stun) == stun_heard
    assert (setup.hub.statistics().turn, setup.hub.statistics().relayed) == (1, 1)
