"""Our end of a relay session: joining, frames both ways, and how it ends."""

import random

import pytest
import trio

from opnode.core.addresses import Endpoint, is_carried
from opnode.core.errors import NetworkError, RelayLimitReached, RequestRefused
from opnode.core.ids import Contact, NodeId
from opnode.drivers.relay.path import RelayPathConfig, RelayState
from opnode.drivers.relay.service import RelayService
from opnode.protocols.relay import RelayConfig
from opnode.protocols.rpc.messages import RelayEnded
from opnode.testing.nat import VirtualNat
from opnode.testing.nat_behaviour import SYMMETRIC
from opnode.testing.relay_ends import PacketLog, RelayBench
from opnode.testing.virtual_network import Link, VirtualNetwork

RELAY = Endpoint("192.0.2.1", 4000)
NAME = b"session1"
CONNECTION = b"connect1"
RTT_S = 0.02


def packet(size: int = 100) -> bytes:
    return (b"\xe0" + CONNECTION).ljust(size, b"x")


@pytest.fixture
async def bench(nursery: trio.Nursery) -> RelayBench:
    link = Link(latency_s=(RTT_S / 2, RTT_S / 2))
    return RelayBench(nursery, VirtualNetwork(random.Random(1), link))


class End:
    """A member with a sink for one connection."""

    def __init__(self, node, relay=RELAY, name=NAME) -> None:
        self.node = node
        self.log = PacketLog()
        self.changes: list[RelayState] = []
        node.hub.add_connection(CONNECTION, self.log)
        self.session = node.paths.join(
            relay, name, lambda session: self.changes.append(session.state)
        )

    def send(self, data: bytes, segment_size: int = 0) -> None:
        assert self.node.hub.send(data, self.session.endpoint, segment_size)


async def pair(bench: RelayBench, config: RelayConfig | None = None):
    relay = await bench.relay(RELAY.host, config)
    alice = End(await bench.user("192.0.2.2"))
    bob = End(await bench.user("192.0.2.3"))
    return relay, alice, bob


async def test_two_members_hear_each_other_under_names_of_their_own(
    bench: RelayBench, autojump_clock
):
    _, alice, bob = await pair(bench)
    await trio.sleep(1)
    assert alice.changes == bob.changes == [RelayState.OPEN]
    assert is_carried(alice.session.endpoint.host)
    alice.send(packet())
    bob.send(packet(50))
    await trio.sleep(1)
    assert bob.log.packets == [(packet(), bob.session.endpoint)]
    assert alice.log.packets == [(packet(50), alice.session.endpoint)]


async def test_who_joined_first_hears_of_the_other_within_two_round_trips(
    bench: RelayBench, autojump_clock
):
    await bench.relay(RELAY.host)
    alice = End(await bench.user("192.0.2.2"))
    await trio.sleep(20)
    assert alice.session.state is RelayState.WAITING
    End(await bench.user("192.0.2.3"))
    await trio.sleep(2 * RTT_S + 0.001)
    assert alice.session.is_open


async def test_a_lost_word_of_the_other_end_is_made_good(
    bench: RelayBench, autojump_clock
):
    relay = await bench.relay(RELAY.host)
    alice = End(await bench.user("192.0.2.2"))
    await trio.sleep(0.2)
    send = relay.hub.send

    def lose_empty_frames(data, *rest):
        return True if data[:1] == b"\xd0" else send(data, *rest)

    relay.hub.send = lose_empty_frames
    End(await bench.user("192.0.2.3"))
    await trio.sleep(1.0)
    assert alice.session.is_open


async def test_runs_stay_runs_and_every_packet_has_a_frame(
    bench: RelayBench, autojump_clock
):
    relay, alice, bob = await pair(bench)
    await trio.sleep(1)
    run = packet(1200) * 30 + packet(300)
    alice.send(run, 1200)
    await trio.sleep(1)
    assert [data for data, _ in bob.log.packets] == [packet(1200)] * 30 + [packet(300)]
    sent = 31 * 9 + len(run)
    assert relay.service.statistics().bytes_relayed == sent
    assert alice.session.statistics().bytes_sent == sent
    # Who was there first also heard an empty frame.
    assert bob.session.statistics().bytes_received in (sent, sent + 9)


async def test_before_the_other_end_is_there_nothing_leaves(
    bench: RelayBench, autojump_clock
):
    relay = await bench.relay(RELAY.host)
    alice = End(await bench.user("192.0.2.2"))
    await trio.sleep(0.3)
    alice.send(packet())
    await trio.sleep(0.1)
    assert relay.hub.statistics().relayed == 0


async def test_only_rudp_comes_in_by_a_relay(bench: RelayBench, autojump_clock):
    _, alice, bob = await pair(bench)
    await trio.sleep(1)
    heard = bob.node.hub.statistics()
    stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    nested = b"\xd0" + NAME + packet()
    for data in (b"\xc0" + bytes(60), stun, nested, b"\x40" * 20):
        alice.send(data)
    await trio.sleep(1)
    after = bob.node.hub.statistics()
    assert (after.rpc, after.stun, after.turn) == (heard.rpc, heard.stun, heard.turn)
    assert bob.session.dropped == 4


async def test_frames_from_elsewhere_than_the_relay_are_dropped(
    bench: RelayBench, autojump_clock
):
    _, _, bob = await pair(bench)
    await trio.sleep(1)
    carol = await bench.user("192.0.2.4")
    carol.hub.send(b"\xd0" + NAME + packet(), bob.node.endpoint)
    await trio.sleep(1)
    assert bob.log.packets == []
    assert bob.session.dropped == 1


async def test_an_idle_session_lives_behind_nats_for_hours(
    bench: RelayBench, autojump_clock
):
    """Both ends are behind symmetric NATs, whose bindings end after two minutes."""
    await bench.relay(RELAY.host, RelayConfig(lifetime_s=86_400))
    ends = []
    for host in ("192.0.2.2", "192.0.2.3"):
        nat = VirtualNat(bench.network, host, SYMMETRIC, random.Random(host))
        ends.append(End(await bench.user(host, network=nat.host())))
    await trio.sleep(3 * 3600)
    assert all(end.session.is_open for end in ends)
    ends[0].send(packet())
    await trio.sleep(1)
    assert len(ends[1].log.packets) == 1


async def test_an_idle_session_costs_less_than_ten_bytes_a_second_at_each_end(
    bench: RelayBench, autojump_clock
):
    _, alice, _ = await pair(bench)
    await trio.sleep(1)
    before = alice.node.hub.statistics().socket
    await trio.sleep(1000)
    after = alice.node.hub.statistics().socket
    spent = after.bytes_out + after.bytes_in - before.bytes_out - before.bytes_in
    assert spent / 1000 < 10


async def test_a_limit_that_is_hit_has_a_name(bench: RelayBench, autojump_clock):
    _, alice, bob = await pair(bench, RelayConfig(session_bytes=2000))
    await trio.sleep(1)
    alice.send(packet(1200) * 2, 1200)
    await trio.sleep(1)
    for end in (alice, bob):
        assert end.changes == [RelayState.OPEN, RelayState.ENDED]
        assert isinstance(end.session.error, RelayLimitReached)
        assert "bytes" in str(end.session.error)
        assert len(end.node.paths) == 0


async def test_a_relay_that_falls_silent_ends_the_session(
    bench: RelayBench, autojump_clock
):
    _, alice, _ = await pair(bench)
    await trio.sleep(1)
    bench.network.kill(RELAY.host)
    await trio.sleep(60)
    assert alice.session.state is RelayState.ENDED
    assert isinstance(alice.session.error, NetworkError)


async def test_a_relay_that_was_never_there_ends_it_too(
    bench: RelayBench, autojump_clock
):
    alice = End(await bench.user("192.0.2.2"))
    await trio.sleep(30)
    assert alice.changes == [RelayState.ENDED]


async def test_an_address_that_is_no_relay_hears_of_us_twice_and_no_more(
    bench: RelayBench, autojump_clock
):
    victim = await bench.network.host("203.0.113.50").bind(
        Endpoint("203.0.113.50", 4000)
    )
    alice = End(await bench.user("192.0.2.2"), relay=victim.local)
    await trio.sleep(60)
    heard = []
    while (received := victim.receive()) is not None:
        heard.append(len(received.buffer))
    assert len(heard) <= 2
    assert sum(heard) < 200
    assert alice.session.state is RelayState.ENDED


def hear_all(socket) -> list[int]:
    heard = []
    while (received := socket.receive()) is not None:
        run, step = received.buffer, received.segment_size
        heard += [len(run[start : start + step]) for start in range(0, len(run), step)]
    return heard


async def test_a_relay_that_nobody_vouches_for_hears_of_us_once_until_somebody_does(
    bench: RelayBench, autojump_clock
):
    at = Endpoint("203.0.113.50", 4000)
    victim = await bench.network.host(at.host).bind(at)
    node = await bench.user("192.0.2.2")
    session = node.paths.join(at, NAME, lambda _: None, may_insist=False)
    await trio.sleep(4)
    assert session.state is RelayState.JOINING
    assert len(hear_all(victim)) == 1
    session.insist()
    session.insist()
    await trio.sleep(60)
    assert len(hear_all(victim)) == 2
    assert session.state is RelayState.ENDED


async def test_one_packet_is_enough_to_join_a_relay_that_nobody_vouches_for(
    bench: RelayBench, autojump_clock
):
    relay = await bench.relay(RELAY.host)
    node = await bench.user("192.0.2.2")
    session = node.paths.join(RELAY, NAME, lambda _: None, may_insist=False)
    await trio.sleep(1)
    assert session.state is RelayState.WAITING
    session.insist()
    await trio.sleep(60)
    assert relay.service.statistics().opened == 1


async def test_a_relay_that_forgot_us_is_joined_again(
    bench: RelayBench, autojump_clock
):
    relay, alice, bob = await pair(bench)
    await trio.sleep(1)
    again = RelayService(relay.rpc, relay.hub, RelayConfig())
    await trio.sleep(2 * RelayPathConfig().keep_alive_s)
    assert again.statistics().complete == 1
    alice.send(packet())
    await trio.sleep(1)
    assert len(bob.log.packets) == 1


async def test_who_leaves_ends_it_for_both_without_an_error_of_its_own(
    bench: RelayBench, autojump_clock
):
    relay, alice, bob = await pair(bench)
    await trio.sleep(1)
    alice.session.leave()
    alice.session.leave()
    await trio.sleep(1)
    assert relay.service.statistics().sessions == 0
    assert alice.session.error is None
    assert bob.session.state is RelayState.ENDED
    assert "left" in str(bob.session.error)
    assert alice.node.hub.carrier_of(alice.session.endpoint) is None


async def test_a_refusal_brings_the_names_of_others(bench: RelayBench, autojump_clock):
    relay = await bench.relay(RELAY.host, RelayConfig(max_sessions=0))
    other = Contact(NodeId(bytes(20)), Endpoint("198.51.100.1", 4000))
    relay.service.alternates = lambda _: (other,)
    alice = End(await bench.user("192.0.2.2"))
    await trio.sleep(1)
    assert isinstance(alice.session.error, RequestRefused)
    assert alice.session.alternates == (other,)


async def test_sessions_are_bounded_and_joined_once(bench: RelayBench, autojump_clock):
    node = await bench.user("192.0.2.2", config=RelayPathConfig(max_sessions=1))
    End(node)
    with pytest.raises(NetworkError, match="the limit"):
        node.paths.join(RELAY, b"session2", lambda _: None)
    roomy = await bench.user("192.0.2.3")
    roomy.paths.join(RELAY, NAME, lambda _: None)
    with pytest.raises(NetworkError, match="already"):
        roomy.paths.join(RELAY, NAME, lambda _: None)


async def test_a_stopping_node_leaves_everything(bench: RelayBench, autojump_clock):
    relay, alice, _ = await pair(bench)
    await trio.sleep(1)
    alice.node.paths.leave_all()
    await trio.sleep(1)
    assert relay.service.statistics().sessions == 0
    assert len(alice.node.paths) == 0


async def test_an_end_from_a_stranger_is_not_believed(
    bench: RelayBench, autojump_clock
):
    _, alice, _ = await pair(bench)
    await trio.sleep(1)
    carol = await bench.user("192.0.2.4")
    carol.paths.tell(alice.node.endpoint, RelayEnded(NAME, 2))
    await trio.sleep(1)
    assert alice.session.is_open


async def test_no_frame_of_the_other_end_raises_or_reaches_more_than_a_connection(
    bench: RelayBench, autojump_clock
):
    _, alice, bob = await pair(bench, RelayConfig(session_bytes_per_s=1e9))
    await trio.sleep(1)
    before = bob.node.hub.statistics()
    rng = random.Random(5)
    firsts = [b"", b"\xe0", b"\xe0" + CONNECTION, b"\xd0" + NAME, b"\xc1", b"\x00\x01"]
    for number in range(2000):
        data = rng.choice(firsts) + rng.randbytes(rng.randrange(60))
        alice.node.hub.send(b"\xd0" + NAME + data, RELAY)
        if number % 50 == 0:
            await trio.sleep(0.05)
    await trio.sleep(1)
    after = bob.node.hub.statistics()
    assert after.handler_errors == before.handler_errors == 0
    assert (after.rpc, after.stun, after.turn) == (before.rpc, before.stun, before.turn)
    assert all(data[:1] == b"\xe0" for data, _ in bob.log.packets)
    assert bob.session.dropped > 500
    assert len(bob.log.packets) > 100
