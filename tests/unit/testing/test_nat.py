"""`nat`: who reaches whom through boxes, what is lost when, and moving."""

import dataclasses
import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, NetworkError
from opnode.drivers.network.network import Network, segments_of
from opnode.testing.clock import run_deterministic
from opnode.testing.nat import VirtualNat
from opnode.testing.nat_behaviour import FIREWALL, PRESETS, PortAssignment
from opnode.testing.virtual_network import Link, VirtualNetwork
from tests.network_contract import NetworkContract

EVERYWHERE = Endpoint("0.0.0.0", 4000)
SEED = Endpoint("8.8.8.8", 4000)
PAIRS_THAT_MEET = {
    frozenset(pair)
    for pair in (
        *(("open", kind) for kind in ("open", "full", "addr", "port", "sym", "seq")),
        *(("full", kind) for kind in ("full", "addr", "port", "sym", "seq")),
        *(("addr", kind) for kind in ("addr", "port", "sym", "seq")),
        ("port", "port"),
    )
}


@pytest.fixture
def net():
    return VirtualNetwork(random.Random(1), Link(latency_s=(0.05, 0.05)))


@pytest.fixture
def clock(autojump_clock):
    return autojump_clock


class TestTheHostIsANetwork(NetworkContract):
    @pytest.fixture
    def network(self) -> Network:
        outside = VirtualNetwork(random.Random(1))
        rng = random.Random(1)
        return VirtualNat(outside, "11.0.0.1", PRESETS["port"], rng).host()

    @pytest.fixture
    def address(self) -> str:
        return "192.168.1.2"


def box(net, kind, number=1, *, inside="192.168.1.", **changes):
    """A box that keeps ports where it may, so that a test can name them."""
    behaviour = PRESETS[kind]
    if kind in ("full", "addr", "port"):
        changes = {"ports": PortAssignment.PRESERVING} | changes
    behaviour = dataclasses.replace(behaviour, **changes)
    address = f"{10 + number}.0.0.1"
    return VirtualNat(net, address, behaviour, random.Random(number), inside)


async def home(net, kind, number=1, **changes):
    """A socket on a host behind a box of its own, and the box."""
    nat = box(net, kind, number, **changes)
    return await nat.host().bind(EVERYWHERE), nat


async def seed(net):
    return await net.host(SEED.host).bind(SEED)


def received(sock):
    """Everything that has arrived."""
    found = []
    while (one := sock.receive()) is not None:
        for datagram in segments_of(one.buffer, one.segment_size):
            found += [(bytes(datagram), one.source)]
    return found


async def seen_at(sock, server):
    """Where a server sees the socket."""
    sock.send(b"where am I", server.local)
    await trio.sleep(0.2)
    return received(server)[-1][1]


async def punch(one, other, server):
    """Both learn where the other is seen, send there twice; who heard the other."""
    at = [await seen_at(one, server), await seen_at(other, server)]
    for _ in range(2):
        one.send(b"check", at[1])
        other.send(b"check", at[0])
        await trio.sleep(0.2)
    heard = []
    for me in (one, other):
        sources = [source for data, source in received(me) if data == b"check"]
        for source in sources:
            me.send(b"answer", source)
        heard.append(bool(sources))
    await trio.sleep(0.2)
    answered = [any(d == b"answer" for d, _ in received(me)) for me in (one, other)]
    return any(heard) and any(answered)


@pytest.mark.parametrize("one", list(PRESETS))
@pytest.mark.parametrize("other", list(PRESETS))
async def test_two_types_meet_by_punching_or_not(autojump_clock, net, one, other):
    server = await seed(net)
    mine, _ = await home(net, one, 1, ports=PRESETS[one].ports)
    yours, _ = await home(net, other, 2, ports=PRESETS[other].ports)
    if "block" in (one, other):
        mine.send(b"check", Endpoint("12.0.0.1", 4000))
        yours.send(b"check", Endpoint("11.0.0.1", 4000))
        await trio.sleep(1)
        assert not received(mine) + received(yours)
        return
    met = await punch(mine, yours, server)
    assert met == (frozenset((one, other)) in PAIRS_THAT_MEET)


async def test_a_box_that_blocks_udp_lets_neighbours_talk(autojump_clock, net):
    nat = box(net, "block")
    one, other = await nat.host().bind(EVERYWHERE), await nat.host().bind(EVERYWHERE)
    one.send(b"hello", Endpoint("192.168.1.3", 4000))
    assert received(other) == [(b"hello", Endpoint("192.168.1.2", 4000))]
    one.send(b"out", SEED)
    assert nat.statistics().blocked == 1


async def test_a_hole_counts_from_when_it_is_punched_not_from_the_sending(
    autojump_clock, net
):
    # On its way already when the hole is made, and there after it: it gets in.
    mine, _ = await home(net, "port")
    server = await seed(net)
    server.send(b"early", Endpoint("11.0.0.1", 4000))
    await trio.sleep(0.04)
    mine.send(b"hole", server.local)
    await trio.sleep(1)
    assert [data for data, _ in received(mine)] == [b"early"]


async def test_what_comes_before_the_hole_is_lost(autojump_clock, net):
    mine, nat = await home(net, "port")
    server = await seed(net)
    server.send(b"early", Endpoint("11.0.0.1", 4000))
    await trio.sleep(0.06)
    mine.send(b"hole", server.local)
    await trio.sleep(1)
    assert received(mine) == []
    assert nat.statistics().table.unmapped == 1


async def test_a_socket_that_waits_wakes_up_when_something_got_in(
    autojump_clock, net, nursery
):
    mine, _ = await home(net, "port")
    server = await seed(net)
    mine.send(b"hole", server.local)
    server.send(b"answer", Endpoint("11.0.0.1", 4000))
    sent_at = trio.current_time()
    await mine.wait_readable()
    assert trio.current_time() == pytest.approx(sent_at + 0.05)


async def test_hosts_see_each_other_by_their_mappings_where_the_box_hairpins(
    autojump_clock, net
):
    for number, hairpins in ((1, True), (2, False)):
        nat = box(net, "full", number, hairpins=hairpins)
        one = await nat.host().bind(EVERYWHERE)
        other = await nat.host().bind(EVERYWHERE)
        server = net.host(f"8.8.8.{number}")
        server = await server.bind(Endpoint(f"8.8.8.{number}", 4000))
        seen = await seen_at(other, server)
        one.send(b"across", seen)
        await trio.sleep(1)
        if not hairpins:
            assert received(other) == []
            assert nat.statistics().not_hairpinned == 1
            continue
        # The external source (RFC 4787, REQ-9a): whoever answers is heard.
        [(data, source)] = received(other)
        assert (data, source.host) == (b"across", nat.address)
        other.send(b"back", source)
        assert received(one) == [(b"back", seen)]


async def test_two_layers_of_translation_let_answers_through(autojump_clock, net):
    provider = box(net, "port", 1, inside="100.64.0.")
    inner = VirtualNat(
        provider, provider.next_address(), PRESETS["full"], random.Random(2)
    )
    mine = await inner.host().bind(EVERYWHERE)
    server = await seed(net)
    seen = await seen_at(mine, server)
    assert seen.host == provider.address
    server.send(b"answer", seen)
    stranger = await net.host("9.9.9.9").bind(Endpoint("9.9.9.9", 1))
    stranger.send(b"let me in", seen)
    await mine.wait_readable()
    await trio.sleep(1)
    assert received(mine) == [(b"answer", SEED)]
    assert provider.statistics().table.filtered == 1


async def test_customers_of_one_provider_reach_each_other_inside_of_it(
    autojump_clock, net
):
    provider = box(net, "port", 1, inside="100.64.0.")
    cone = dataclasses.replace(PRESETS["full"], ports=PortAssignment.PRESERVING)
    inner = [
        VirtualNat(provider, provider.next_address(), cone, random.Random(n))
        for n in (1, 2)
    ]
    one, other = [await nat.host().bind(EVERYWHERE) for nat in inner]
    other.send(b"hole", SEED)
    one.send(b"hello", Endpoint(inner[1].address, 4000))
    assert received(other) == [(b"hello", Endpoint(inner[0].address, 4000))]


async def test_a_reboot_forgets_whom_the_host_talked_to(autojump_clock, net):
    mine, nat = await home(net, "full")
    server = await seed(net)
    seen = await seen_at(mine, server)
    nat.reboot()
    server.send(b"answer", seen)
    await trio.sleep(1)
    assert received(mine) == []
    assert await seen_at(mine, server) == seen


async def test_what_is_on_its_way_to_a_box_that_reboots_is_lost(autojump_clock, net):
    mine, nat = await home(net, "full")
    server = await seed(net)
    seen = await seen_at(mine, server)
    server.send(b"answer", seen)
    nat.reboot()
    mine.send(b"again", server.local)
    await trio.sleep(1)
    assert received(mine) == []


@pytest.mark.parametrize("kind", ["open", "full", "port", "sym"])
async def test_a_new_address_outside_is_seen_by_others_and_the_old_one_is_dead(
    autojump_clock, net, kind
):
    mine, nat = await home(net, kind)
    server = await seed(net)
    before = await seen_at(mine, server)
    nat.change_address("77.0.0.1")
    server.send(b"to the old address", before)
    after = await seen_at(mine, server)
    assert (before.host, after.host) == ("11.0.0.1", "77.0.0.1")
    server.send(b"to the new one", after)
    await trio.sleep(1)
    assert [data for data, _ in received(mine)] == [b"to the new one"]


async def test_a_box_may_become_stricter(autojump_clock, net):
    mine, nat = await home(net, "full")
    server = await seed(net)
    stranger = await net.host("9.9.9.9").bind(Endpoint("9.9.9.9", 1))
    for kind in ("full", "port"):
        nat.become(PRESETS[kind])
        seen = await seen_at(mine, server)
        stranger.send(kind.encode(), seen)
        await trio.sleep(1)
    assert [data for data, _ in received(mine)] == [b"full"]


async def test_a_host_that_moves_to_another_box_is_seen_there(autojump_clock, net):
    first, second = box(net, "port", 1), box(net, "open", 2)
    host = first.host()
    mine = await host.bind(EVERYWHERE)
    server = await seed(net)
    assert (await seen_at(mine, server)).host == first.address
    host.move_to(second)
    assert (await seen_at(mine, server)).host == second.address
    assert [i.host for i in host.interface_addresses()] == [second.address]
    server.send(b"hello", Endpoint(second.address, 4000))
    await mine.wait_readable()
    assert received(mine) == [(b"hello", SEED)]


async def test_a_host_without_coverage_sends_and_hears_nothing(autojump_clock, net):
    nat = box(net, "full")
    server = await seed(net)
    host = nat.host()
    theirs = await host.bind(EVERYWHERE)
    host.move_to(None)
    assert host.interface_addresses() == ()
    assert not host.has_route(SEED)
    with pytest.raises(NetworkError):
        await host.resolve("name", 1)
    theirs.send(b"anybody?", SEED)
    await trio.sleep(1)
    assert received(server) == received(theirs) == []


async def test_a_socket_bound_to_one_address_does_not_move(autojump_clock, net):
    first, second = box(net, "full", 1), box(net, "full", 2, inside="10.1.1.")
    host = first.host()
    mine = await host.bind(Endpoint(host.address, 4000))
    server = await seed(net)
    host.move_to(second)
    mine.send(b"from nowhere", server.local)
    await trio.sleep(1)
    assert received(server) == []


async def test_a_filter_translates_nothing_but_lets_only_answers_in(
    autojump_clock, net
):
    nat = VirtualNat(net, "11.0.0.1", FIREWALL, random.Random(1))
    mine = await nat.host().bind(EVERYWHERE)
    server = await seed(net)
    server.send(b"stranger", Endpoint("11.0.0.1", 4000))
    await trio.sleep(0.1)
    assert await seen_at(mine, server) == Endpoint("11.0.0.1", 4000)
    server.send(b"answer", Endpoint("11.0.0.1", 4000))
    await trio.sleep(0.1)
    assert [data for data, _ in received(mine)] == [b"answer"]


async def test_an_unplugged_box_carries_nothing_until_it_is_plugged_in_again(
    autojump_clock, net
):
    mine, nat = await home(net, "full")
    server = await seed(net)
    seen = await seen_at(mine, server)
    server.send(b"on its way", seen)
    net.kill(nat.address)
    server.send(b"later", seen)
    await trio.sleep(1)
    assert received(mine) == []
    net.revive(nat.address)
    assert await seen_at(mine, server) == seen


async def test_an_address_is_had_by_one_only(net):
    box(net, "port", 1)
    with pytest.raises(ConfigError):
        box(net, "port", 1)
    opened = box(net, "open", 2)
    opened.host()
    with pytest.raises(ConfigError):
        opened.host()


async def test_names_are_known_behind_a_box(net):
    net.add_name("seed.example", SEED.host)
    host = box(net, "port").host()
    assert await host.resolve("seed.example", 4000) == (SEED,)


async def test_more_than_a_box_can_hold_is_lost(autojump_clock, net):
    mine, _ = await home(net, "full")
    server = await seed(net)
    seen = await seen_at(mine, server)
    for _ in range(200):
        server.send(bytes(60_000), seen)
    assert net.statistics().lost > 0


def test_the_same_seed_gives_the_same_trace():
    async def run(seed_number):
        rng = random.Random(seed_number)
        network = VirtualNetwork(rng, Link(latency_s=(0.01, 0.1), loss=0.1))
        server = await network.host(SEED.host).bind(SEED)
        for number, kind in enumerate(PRESETS):
            mine, _ = await home(network, kind, number)
            for _ in range(10):
                mine.send(rng.randbytes(20), SEED)
        await trio.sleep(1)
        for _, source in received(server):
            server.send(b"answer", source)
        await trio.sleep(1)
        return network.trace_digest()

    digests = [run_deterministic(run, 1, 1) for _ in range(2)]
    assert digests[0] == digests[1]
    assert run_deterministic(run, 1, 2) != digests[0]
