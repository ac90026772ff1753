import math
import random

import pytest
import trio
import trio.testing
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.drivers.network.network import DatagramSocket
from opnode.testing.clock import run_deterministic
from opnode.testing.virtual_network import Link, VirtualHost, VirtualNetwork
from tests.network_contract import NetworkContract, receive_datagrams, receive_one


@pytest.fixture
def clock(autojump_clock: Clock):
    return autojump_clock


class TestTheFakeIsANetwork(NetworkContract):
    @pytest.fixture
    def network(self) -> VirtualHost:
        return VirtualNetwork(random.Random(1)).host("10.0.0.1")

    @pytest.fixture
    def address(self) -> str:
        return "10.0.0.1"


class TestTheFakeIsANetworkWithLatency(TestTheFakeIsANetwork):
    @pytest.fixture
    def network(self) -> VirtualHost:
        link = Link(latency_s=(0.01, 0.2))
        return VirtualNetwork(random.Random(1), link).host("10.0.0.1")


async def two_sockets(link: Link, seed: int = 1):
    network = VirtualNetwork(random.Random(seed), link)
    one = await network.host("10.0.0.1").bind_virtual(Endpoint("10.0.0.1", 1000))
    other = await network.host("10.0.0.2").bind_virtual(Endpoint("10.0.0.2", 1000))
    return network, one, other


async def collect(sock: DatagramSocket) -> list[bytes]:
    """Everything that arrives until the network is silent for a minute."""
    datagrams: list[bytes] = []
    with trio.move_on_after(60) as scope:
        while True:
            await sock.wait_readable()
            while (received := sock.receive()) is not None:
                size = received.segment_size
                datagrams += [
                    bytes(received.buffer[start : start + size])
                    for start in range(0, len(received.buffer), size)
                ]
            scope.deadline = trio.current_time() + 60
    return datagrams


def numbered(count: int) -> list[bytes]:
    return [number.to_bytes(4) for number in range(count)]


async def test_a_grain_puts_arrivals_off_to_its_next_multiple(clock: Clock):
    _, one, other = await two_sockets(Link(latency_s=(0.21, 0.21), grain_s=0.25))
    await trio.sleep(0.1)
    one.send(b"x", other.local)
    await other.wait_readable()
    assert trio.current_time() == pytest.approx(0.5)


async def test_a_datagram_takes_the_link_latency(clock: Clock):
    _, one, other = await two_sockets(Link(latency_s=(0.25, 0.25)))
    started_at = trio.current_time()
    one.send(b"x", other.local)
    await receive_one(other)
    assert trio.current_time() - started_at == pytest.approx(0.25)


async def test_jitter_stays_within_its_bounds_and_keeps_the_order(clock: Clock):
    _, one, other = await two_sockets(Link(latency_s=(0.1, 0.3)))
    started_at = trio.current_time()
    for data in numbered(100):
        one.send(data, other.local)
    assert await receive_datagrams(other, 100) == numbered(100)
    assert 0.25 < trio.current_time() - started_at <= 0.3 + 1e-9


async def test_an_earlier_arrival_wakes_a_socket_that_waits_for_a_later_one(
    clock: Clock,
):
    network, one, other = await two_sockets(Link(latency_s=(5, 5)))
    third = await network.host("10.0.0.3").bind(Endpoint("10.0.0.3", 1000))
    one.send(b"slow", other.local)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.wait_readable)
        await trio.testing.wait_all_tasks_blocked()
        network.link = Link(latency_s=(1, 1))
        third.send(b"fast", other.local)
    assert trio.current_time() == pytest.approx(1)
    assert bytes(other.receive().buffer) == b"fast"


async def test_loss_takes_about_its_share(clock: Clock):
    network, one, other = await two_sockets(Link(loss=0.3))
    for data in numbered(2000):
        one.send(data, other.local)
    arrived = await collect(other)
    assert 1300 < len(arrived) < 1500
    assert network.statistics().lost == 2000 - len(arrived)


async def test_duplicates_arrive_twice_and_nothing_is_missing(clock: Clock):
    network, one, other = await two_sockets(Link(duplicate=0.2))
    for data in numbered(1000):
        one.send(data, other.local)
    arrived = await collect(other)
    assert set(arrived) == set(numbered(1000))
    assert len(arrived) == 1000 + network.statistics().duplicated
    assert 140 < network.statistics().duplicated < 260


async def test_reordering_changes_the_order_and_loses_nothing(clock: Clock):
    _, one, other = await two_sockets(Link(latency_s=(0.01, 0.01), reorder=0.1))
    for data in numbered(500):
        one.send(data, other.local)
        await trio.sleep(0.0001)
    arrived = await collect(other)
    assert arrived != numbered(500)
    assert sorted(arrived) == numbered(500)


async def test_a_bottleneck_spreads_datagrams_and_drops_what_its_queue_cannot_hold(
    clock: Clock,
):
    link = Link(bytes_per_s=100_000, queue_s=0.1)
    network, one, other = await two_sockets(link)
    for _ in range(20):
        one.send(bytes(1000), other.local)
    started_at = trio.current_time()
    await receive_datagrams(other, 11)
    assert trio.current_time() - started_at == pytest.approx(0.11)
    assert network.statistics().lost == 9


async def test_a_partition_cuts_both_ways_until_it_heals(clock: Clock):
    network, one, other = await two_sockets(Link())
    network.partition(["10.0.0.1"], ["10.0.0.2", "10.0.0.9"])
    one.send(b"x", other.local)
    other.send(b"y", one.local)
    assert await collect(other) == []
    assert await collect(one) == []
    assert network.statistics().cut == 2
    network.heal()
    one.send(b"z", other.local)
    assert await collect(other) == [b"z"]


async def test_a_killed_host_hears_and_says_nothing_until_revived(clock: Clock):
    network, one, other = await two_sockets(Link(latency_s=(1, 1)))
    one.send(b"on its way", other.local)
    network.kill("10.0.0.2")
    one.send(b"too late", other.local)
    other.send(b"from the dead", one.local)
    assert await collect(other) == []
    assert await collect(one) == []
    network.revive("10.0.0.2")
    one.send(b"again", other.local)
    assert await collect(other) == [b"again"]


async def test_datagrams_to_a_closed_or_unknown_socket_vanish(clock: Clock):
    network, one, other = await two_sockets(Link())
    other.close()
    one.send(b"x", other.local)
    one.send(b"x", Endpoint("10.9.9.9", 1))
    assert network.statistics().nobody_there == 2


async def test_a_full_receive_buffer_drops_and_counts(clock: Clock):
    network, one, other = await two_sockets(Link())
    for _ in range(200):
        one.send(bytes(60_000), other.local)
    assert network.statistics().lost == 200 - (8 << 20) // 60_000
    assert len(await collect(other)) == (8 << 20) // 60_000


async def test_a_stalled_socket_sends_again_after_resuming(clock: Clock):
    _, one, other = await two_sockets(Link())
    one.stall()
    assert not one.send(b"x", other.local)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.wait_writable)
        await trio.testing.wait_all_tasks_blocked()
        one.resume()
    assert one.send(b"x", other.local)


async def test_known_names_resolve_to_their_addresses(clock: Clock):
    network = VirtualNetwork(random.Random(1))
    network.add_name("seed.example", "10.0.0.1", "10.0.0.2")
    found = await network.host("10.0.0.7").resolve("seed.example", 5)
    assert found == (Endpoint("10.0.0.1", 5), Endpoint("10.0.0.2", 5))


async def test_one_address_is_one_host(clock: Clock):
    network = VirtualNetwork(random.Random(1))
    assert network.host("10.0.0.1") is network.host("10.0.0.1")
    assert network.host("10.0.0.1").address == "10.0.0.1"


async def test_a_host_without_free_ports_says_so(clock: Clock):
    host = VirtualNetwork(random.Random(1)).host("10.0.0.1")
    for port in range(49_152, 65_536):
        await host.bind(Endpoint("10.0.0.1", port))
    with pytest.raises(ConfigError, match="all ports in use"):
        await host.bind(Endpoint("10.0.0.1", 0))


async def test_the_table_of_flows_forgets_those_of_the_past(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("opnode.testing.virtual_network._MAX_FLOWS", 3)
    network, one, _ = await two_sockets(Link())
    for port in range(2000, 2050):
        await network.host("10.0.0.2").bind(Endpoint("10.0.0.2", port))
        one.send(b"x", Endpoint("10.0.0.2", port))
        await trio.sleep(1)
    assert len(network._flows) <= 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_s": (2, 1)},
        {"latency_s": (-1, 1)},
        {"loss": 1.5},
        {"duplicate": -0.1},
        {"reorder": math.inf},
    ],
)
def test_an_impossible_link_names_its_field(
    wrong: dict[str, float | tuple[float, float]],
):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Link(**wrong)


async def gossip(seed: int) -> tuple[str, int]:
    """Ten hosts answer each other over a bad network."""
    link = Link(latency_s=(0.01, 0.1), loss=0.05, duplicate=0.05, reorder=0.1)
    network = VirtualNetwork(random.Random(seed), link)
    rng = random.Random(seed + 1)
    sockets = [
        await network.host(f"10.0.0.{n}").bind(Endpoint(f"10.0.0.{n}", 99))
        for n in range(1, 11)
    ]

    async def talk(sock: DatagramSocket) -> None:
        while True:
            await sock.wait_readable()
            while (received := sock.receive()) is not None:
                data = bytes(received.buffer[: received.segment_size])
                sock.send(data + b"!", rng.choice(sockets).local)

    with trio.move_on_after(5):
        async with trio.open_nursery() as nursery:
            for sock in sockets:
                nursery.start_soon(talk, sock)
                sock.send(b"go", rng.choice(sockets).local)
                sock.send(b"go", rng.choice(sockets).local)
    return network.trace_digest(), network.statistics().sent


def test_the_same_seed_gives_the_same_trace_and_another_seed_another_one():
    first, sent = run_deterministic(gossip, 7, 7)
    second, _ = run_deterministic(gossip, 7, 7)
    other, _ = run_deterministic(gossip, 8, 8)
    assert sent > 300
    assert first == second
    assert first != other


async def marks_received(sock) -> list[int]:
    marks = []
    while (received := sock.receive()) is not None:
        marks += [received.ecn] * (len(received.buffer) // received.segment_size)
    return marks


async def test_a_datagram_above_the_size_of_the_link_vanishes_uncounted_by_its_sender(
    autojump_clock: Clock,
):
    network, one, other = await two_sockets(Link(max_datagram=1300))
    one.send(bytes(1300), other.local)
    one.send(bytes(1301), other.local)
    assert await marks_received(other) == [0]
    assert network.statistics().too_large == 1
    assert one.statistics().send_errors == 0


async def test_a_long_queue_marks_what_has_a_codepoint(autojump_clock: Clock):
    link = Link(bytes_per_s=100_000, mark_queue_s=0.015)
    network, one, other = await two_sockets(link)
    for _ in range(3):
        one.send(bytes(1000), other.local, ecn=2)
    one.send(bytes(1000), other.local)
    await trio.sleep(1)
    assert await marks_received(other) == [2, 2, 3, 0]
    assert network.statistics().marked == 1


async def test_a_bleaching_link_clears_the_codepoint(autojump_clock: Clock):
    _, one, other = await two_sockets(Link(bleach=1.0))
    one.send(b"x", other.local, ecn=2)
    assert await marks_received(other) == [0]
