import dataclasses
import random
import struct
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from aioice import stun
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.abc import Clock

from opnode.core.addresses import Candidate, Endpoint, IceHalf
from opnode.core.errors import IceFailed
from opnode.drivers.asyncio_island import Island, open_island
from opnode.drivers.ice.connection import CheckOutcome
from opnode.drivers.ice.ice import IceAgent, IceConfig, IceSession
from opnode.drivers.network.network import DatagramSocket, segments_of
from opnode.drivers.socket_hub import SocketHub
from opnode.testing.clock import run_deterministic
from opnode.testing.virtual_network import Link, VirtualNetwork

CALLER = Endpoint("10.0.0.1", 1000)
CALLEE = Endpoint("10.0.0.2", 1000)
STRANGER = Endpoint("10.0.0.3", 1000)
RTO_S = 0.2


class World:
    """Two agents and a stranger's bare socket on a virtual network."""

    def __init__(self, network: VirtualNetwork, island: Island) -> None:
        self.network = network
        self.island = island
        self.stranger: DatagramSocket
        self.caller: IceAgent
        self.callee: IceAgent

    async def open(self, nursery: trio.Nursery, seed: int = 1) -> None:
        self.caller = await self.agent(nursery, CALLER, seed)
        self.callee = await self.agent(nursery, CALLEE, seed + 1)
        self.stranger = await self.network.host(STRANGER.host).bind(STRANGER)

    async def agent(
        self,
        nursery: trio.Nursery,
        endpoint: Endpoint,
        seed: int,
        config: IceConfig | None = None,
    ) -> IceAgent:
        host = self.network.host(endpoint.host)
        hub = SocketHub(await host.bind(endpoint))
        await nursery.start(hub.run)
        random_bytes = random.Random(seed).randbytes
        return IceAgent(
            hub, self.island, host, config=config, random_bytes=random_bytes
        )

    def sessions(self) -> tuple[IceSession, IceSession]:
        return (
            self.caller.new_session(controlling=True),
            self.callee.new_session(controlling=False),
        )


@pytest.fixture
async def world(
    autojump_clock: Clock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[World]:
    link = Link(latency_s=(0.05, 0.05))
    async with open_island() as island:
        world = World(VirtualNetwork(random.Random(1), link), island)
        await world.open(nursery)
        yield world
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def connect_both(
    one: IceSession, other: IceSession, rto_s: float = RTO_S
) -> tuple[Endpoint, Endpoint]:
    found: dict[IceSession, Endpoint] = {}

    async def connect(session: IceSession, remote: IceHalf) -> None:
        found[session] = await session.connect(remote, rto_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect, one, other.local)
        nursery.start_soon(connect, other, one.local)
    return found[one], found[other]


def half_of(*endpoints: Endpoint) -> IceHalf:
    candidates = tuple(
        Candidate(kind="host", endpoint=endpoint, priority=1 + n, foundation=str(n))
        for n, endpoint in enumerate(endpoints)
    )
    return IceHalf("abcd", "p" * 24, candidates)


def check_request(local: IceHalf, **extra: object) -> stun.Message:
    """A check as the peer with fragment `abcd` would send it."""
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{local.ufrag}:abcd"
    request.attributes["PRIORITY"] = 1000
    request.attributes["ICE-CONTROLLED"] = 1
    for name, value in extra.items():
        request.attributes[name.replace("_", "-")] = value
    return request


async def everything_received(sock: DatagramSocket) -> list[bytes]:
    await trio.sleep(1)
    datagrams: list[bytes] = []
    while (received := sock.receive()) is not None:
        datagrams += map(bytes, segments_of(received.buffer, received.segment_size))
    return datagrams


async def test_addresses_whose_check_had_not_failed_are_told_as_alternatives(world):
    one, other = world.sessions()
    silent = dataclasses.replace(
        other.local.candidates[0], endpoint=STRANGER, foundation="s9"
    )
    remote = dataclasses.replace(
        other.local, candidates=(silent, *other.local.candidates)
    )
    assert one.alternatives == ()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.connect, one.local, RTO_S)
        assert await one.connect(remote, RTO_S) == CALLEE
    assert one.alternatives == (STRANGER,)
    assert other.alternatives == ()
    await one.close()
    await other.close()


async def test_both_sides_find_each_other_in_one_round_trip(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    started_at = trio.current_time()
    assert await connect_both(one, other) == (CALLEE, CALLER)
    assert trio.current_time() - started_at == pytest.approx(0.1, abs=0.001)
    assert world.caller.statistics().connected == 1
    await one.close()
    await other.close()


async def test_the_round_trip_of_the_pair_is_told_unless_its_check_was_repeated(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    assert one.round_trip_s is None
    await connect_both(one, other, rto_s=0.2)
    assert one.round_trip_s == pytest.approx(0.1)
    assert other.round_trip_s == pytest.approx(0.1)
    world.network.partition([CALLER.host], [CALLEE.host])
    late, peer = world.sessions()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect_both, late, peer, 0.2)
        await trio.sleep(3)
        world.network.heal()
    assert late.round_trip_s is None
    for session in (one, other, late, peer):
        await session.close()


async def test_checks_that_come_before_the_peers_half_is_known_are_kept(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    finished_at: list[float] = []

    async def callee() -> None:
        assert await other.connect(one.local, RTO_S) == CALLER
        finished_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(callee)
        await trio.sleep(0.12)
        assert await one.connect(other.local, RTO_S) == CALLEE
        finished_at.append(trio.current_time())
    assert max(finished_at) == pytest.approx(0.22, abs=0.001)
    await one.close()
    await other.close()


async def test_fifty_sessions_share_the_one_socket(autojump_clock: Clock, world: World):
    pairs = [world.sessions() for _ in range(50)]
    async with trio.open_nursery() as nursery:
        for one, other in pairs:
            nursery.start_soon(connect_both, one, other)
    assert world.caller.statistics().connected == 50
    for one, other in pairs:
        await one.close()
        await other.close()
    assert world.caller.statistics().sessions == 0
    assert world.caller.statistics().transactions == 0


async def test_checks_are_repeated_at_the_callers_pace(
    autojump_clock: Clock, world: World
):
    world.network.partition([CALLER.host], [CALLEE.host])
    one, other = world.sessions()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect_both, one, other, 0.2)
        await trio.sleep(0.55)
        # Sent at 0, 0.2 and 0.6; the one at 0.6 gets through, and the callee, whose one
        # check was lost, answers it with another.
        world.network.heal()
    assert trio.current_time() == pytest.approx(0.75, abs=0.001)
    await one.close()
    await other.close()


async def test_heavy_loss_only_delays_a_connection(autojump_clock: Clock, world: World):
    world.network.link = Link(latency_s=(0.01, 0.1), loss=0.3, duplicate=0.2)
    for _ in range(10):
        one, other = world.sessions()
        assert await connect_both(one, other) == (CALLEE, CALLER)
        await one.close()
        await other.close()


@pytest.mark.parametrize(("asked_s", "tried_s"), [(0.0, 6.75), (99.0, 8.0)])
async def test_the_pace_of_checks_stays_within_its_limits(
    autojump_clock: Clock, world: World, asked_s: float, tried_s: float
):
    session = world.caller.new_session(controlling=True)
    with pytest.raises(IceFailed, match=r"10\.0\.0\.3:1000"):
        await session.connect(half_of(STRANGER), asked_s)
    assert trio.current_time() == pytest.approx(tried_s, rel=0.01)
    assert len(await everything_received(world.stranger)) == 16
    assert world.caller.statistics().failed == 1
    await session.close()


async def test_a_half_without_usable_candidates_fails_at_once(
    autojump_clock: Clock, world: World
):
    session = world.caller.new_session(controlling=True)
    with pytest.raises(IceFailed, match="no check came back"):
        await session.connect(half_of(Endpoint("2001:db8::1", 5)), RTO_S)
    assert trio.current_time() == 0
    await session.close()


@pytest.mark.parametrize(
    "half",
    [
        IceHalf("abc", "p" * 24, ()),
        IceHalf("a:cd", "p" * 24, ()),
        IceHalf("abcd" * 9, "p" * 24, ()),
        IceHalf("abcd", "p" * 21, ()),
        IceHalf("abcd", "p" * 24 + "\n", ()),
    ],
)
async def test_unusable_credentials_are_a_named_error_that_hides_them(
    autojump_clock: Clock, world: World, half: IceHalf
):
    session = world.caller.new_session(controlling=True)
    with pytest.raises(IceFailed, match="the peer's ICE") as caught:
        await session.connect(half, RTO_S)
    assert half.password not in str(caught.value)
    await session.close()


async def test_nobody_everybody_and_names_are_never_dialled(
    autojump_clock: Clock, world: World
):
    good = half_of(STRANGER)
    bad = [
        Endpoint("224.0.0.1", 5),
        Endpoint("0.0.0.0", 5),
        Endpoint("255.255.255.255", 5),
        Endpoint("ff02::1", 5),
        Endpoint("localhost", 5),
        Endpoint("10.0.0.9", 0),
        Endpoint("10.0.0.9", 70_000),
    ]
    strange = [
        dataclasses.replace(good.candidates[0], kind="mystery"),
        dataclasses.replace(good.candidates[0], priority=0),
        dataclasses.replace(good.candidates[0], priority=2**31),
    ]
    for candidate in (*half_of(*bad).candidates, *strange):
        session = world.caller.new_session(controlling=True)
        with pytest.raises(IceFailed):
            await session.connect(IceHalf("abcd", "p" * 24, (candidate,)), RTO_S)
        await session.close()
    assert world.network.statistics().sent == 0


async def test_no_more_than_eight_offered_candidates_are_dialled(
    autojump_clock: Clock, world: World
):
    session = world.caller.new_session(controlling=True)
    endpoints = [Endpoint("10.0.9.9", port) for port in range(1, 51)]
    with trio.move_on_after(0.15):
        await session.connect(half_of(*endpoints), RTO_S)
    assert world.network.statistics().sent == 8
    await session.close()


async def test_the_checks_of_several_candidates_start_five_milliseconds_apart(
    autojump_clock: Clock, world: World
):
    session = world.caller.new_session(controlling=True)
    endpoints = [Endpoint("10.0.9.9", port) for port in range(1, 6)]
    sent: list[int] = []
    with trio.move_on_after(0.018):
        await session.connect(half_of(*endpoints), RTO_S)
    sent.append(world.network.statistics().sent)
    assert sent == [4]
    await session.close()


async def test_a_dead_candidate_does_not_hold_up_a_good_one(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    dead = dataclasses.replace(
        other.local.candidates[0],
        endpoint=Endpoint("10.0.9.9", 9),
        priority=2**31 - 1,
    )
    half = dataclasses.replace(other.local, candidates=(dead, *other.local.candidates))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.connect, one.local, RTO_S)
        assert await one.connect(half, RTO_S) == CALLEE
    assert trio.current_time() < 0.12
    await one.close()
    await other.close()


async def test_a_peer_behind_an_unknown_address_is_learned_from_its_checks(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    wrong = dataclasses.replace(
        one.local.candidates[0], endpoint=Endpoint("10.0.9.9", 9)
    )
    half = dataclasses.replace(one.local, candidates=(wrong,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.connect, other.local, RTO_S)
        assert await other.connect(half, RTO_S) == CALLER
    await one.close()
    await other.close()


async def test_two_controlling_sides_settle_their_roles(
    autojump_clock: Clock, world: World
):
    for controlling in (True, False):
        one = world.caller.new_session(controlling=controlling)
        other = world.callee.new_session(controlling=controlling)
        with trio.fail_after(5):
            assert await connect_both(one, other) == (CALLEE, CALLER)
        await one.close()
        await other.close()


async def test_consent_goes_on_while_the_peer_answers(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    await connect_both(one, other)
    await trio.sleep(600)
    assert not one.lost.is_set()
    assert not other.lost.is_set()
    assert world.caller.statistics().transactions == 0
    await one.close()
    await other.close()
    assert not one.lost.is_set()


async def test_consent_is_lost_when_the_peer_falls_silent(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    await connect_both(one, other)
    await trio.sleep(20)
    world.network.kill(CALLEE.host)
    started_at = trio.current_time()
    await one.lost.wait()
    # The last answered check was up to 6 s before; then RFC 7675 grants 30 s.
    assert 24 <= trio.current_time() - started_at <= 30.2
    assert world.caller.statistics().lost == 1
    assert world.caller.statistics().sessions == 0
    await one.close()
    await other.close()


async def test_short_silences_do_not_add_up_to_a_lost_consent(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    await connect_both(one, other)
    for _ in range(5):
        world.network.partition([CALLER.host], [CALLEE.host])
        await trio.sleep(15)
        world.network.heal()
        await trio.sleep(10)
    assert not one.lost.is_set()
    assert not other.lost.is_set()
    await one.close()
    await other.close()


async def test_two_lost_checks_of_consent_are_told_long_before_it_ends(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    await connect_both(one, other)
    await trio.sleep(20)
    assert not one.doubtful.is_set()
    world.network.kill(CALLEE.host)
    started_at = trio.current_time()
    await one.doubtful.wait()
    assert trio.current_time() - started_at < 13
    assert not one.lost.is_set()
    await one.close()
    await other.close()


async def test_consent_is_asked_for_every_five_seconds_whether_answered_or_not(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    await connect_both(one, other)
    for is_dead in (False, True):
        if is_dead:
            world.network.kill(CALLEE.host)
        before = world.caller.context.hub.statistics().socket.datagrams_out
        await trio.sleep(24)
        asked = world.caller.context.hub.statistics().socket.datagrams_out - before
        # The peer asks as often, and gets answers while it lives.
        assert 4 <= asked / (1 if is_dead else 2) <= 6.5
    await one.close()
    await other.close()


async def test_an_address_told_three_seconds_late_still_connects(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    silent = half_of(STRANGER).candidates
    results = []

    async def connect(session: IceSession, remote: IceHalf) -> None:
        bare = dataclasses.replace(remote, candidates=silent)
        results.append(await session.connect(bare, RTO_S, trickle_s=6.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect, one, other.local)
        nursery.start_soon(connect, other, one.local)
        await trio.sleep(3)
        started_at = trio.current_time()
        one.add_remote(other.local.candidates)
        other.add_remote(one.local.candidates)
    assert set(results) == {CALLER, CALLEE}
    assert trio.current_time() - started_at < 0.2
    await one.close()
    await other.close()


async def test_no_address_at_first_is_no_failure_while_more_may_come(
    autojump_clock: Clock, world: World
):
    one, _ = world.sessions()
    started_at = trio.current_time()
    with pytest.raises(IceFailed):
        await one.connect(IceHalf("abcd", "p" * 24, ()), RTO_S, trickle_s=6.0)
    assert 6 <= trio.current_time() - started_at < 6.1
    one.add_remote(half_of(STRANGER).candidates)
    await one.close()


async def test_late_addresses_have_the_same_limits_as_early_ones(
    autojump_clock: Clock, world: World
):
    one, _ = world.sessions()
    half = half_of(*(Endpoint("10.0.0.9", 100 + n) for n in range(8)))
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.connect, half, RTO_S)
            for batch in range(5):
                await trio.sleep(0.1)
                ports = range(200 + 8 * batch, 208 + 8 * batch)
                more = half_of(*(Endpoint("10.0.0.9", port) for port in ports))
                one.add_remote(more.candidates)
                one.add_remote(half_of(Endpoint("224.0.0.1", 9)).candidates)
            assert len(one.checks) <= 16
            nursery.cancel_scope.cancel()
    await one.close()


async def test_each_checked_address_is_told_with_what_became_of_it(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    silent = half_of(STRANGER).candidates
    remote = dataclasses.replace(
        other.local, candidates=(*silent, *other.local.candidates)
    )
    assert one.checks == ()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.connect, one.local, RTO_S)
        await one.connect(remote, RTO_S)
    found = {check.remote: check.outcome for check in one.checks}
    assert found[CALLEE] is CheckOutcome.ANSWERED
    assert found[STRANGER] in (CheckOutcome.UNDER_WAY, CheckOutcome.NOT_TRIED)
    await one.close()
    await other.close()


async def test_a_closed_session_no_longer_answers_and_the_peer_notices(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    await connect_both(one, other)
    await other.close()
    await other.close()
    await one.lost.wait()
    assert world.callee.statistics().unknown >= 6
    assert not other.lost.is_set()
    await one.close()


async def test_closing_ends_a_connect_that_waits(autojump_clock: Clock, world: World):
    session = world.caller.new_session(controlling=True)

    async def connect() -> None:
        with pytest.raises(IceFailed):
            await session.connect(half_of(STRANGER), RTO_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        await trio.sleep(0.3)
        await session.close()
    assert trio.current_time() == pytest.approx(0.3)
    assert world.caller.statistics().transactions == 0


async def test_connecting_a_closed_session_fails(autojump_clock: Clock, world: World):
    session = world.caller.new_session(controlling=True)
    await session.close()
    with pytest.raises(IceFailed):
        await session.connect(half_of(STRANGER), RTO_S)


async def test_a_cancelled_connect_leaves_nothing_behind_once_closed(
    autojump_clock: Clock, world: World
):
    session = world.caller.new_session(controlling=True)
    with trio.move_on_after(0.3) as scope:
        await session.connect(half_of(STRANGER), RTO_S)
    assert scope.cancelled_caught
    await session.close()
    assert world.caller.statistics().transactions == 0
    assert world.caller.statistics().sessions == 0


async def test_there_is_a_limit_on_sessions(
    autojump_clock: Clock, world: World, nursery: trio.Nursery
):
    config = IceConfig(max_sessions=2)
    agent = await world.agent(nursery, Endpoint("10.0.0.7", 7), 5, config)
    sessions = [agent.new_session(controlling=True) for _ in range(2)]
    with pytest.raises(IceFailed, match="2 ICE sessions"):
        agent.new_session(controlling=True)
    for session in sessions:
        await session.close()
    await agent.new_session(controlling=True).close()


async def test_requests_for_nobody_get_no_answer(autojump_clock: Clock, world: World):
    session = world.callee.new_session(controlling=True)
    nobody = dataclasses.replace(session.local, ufrag="nobody")
    plain = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    indication = stun.Message(stun.Method.BINDING, stun.Class.INDICATION)
    response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
    for message in (check_request(nobody), plain, indication, response):
        world.stranger.send(bytes(message), CALLEE)
    assert await everything_received(world.stranger) == []
    assert world.callee.statistics().unknown == 4
    await session.close()


async def test_requests_without_the_right_signature_get_no_answer(
    autojump_clock: Clock, world: World
):
    session = world.callee.new_session(controlling=True)
    unsigned = check_request(session.local)
    forged = check_request(session.local)
    forged.add_message_integrity(b"wrong password, wrong password")
    for message in (unsigned, forged):
        world.stranger.send(bytes(message), CALLEE)
    assert await everything_received(world.stranger) == []
    assert world.callee.statistics().unauthenticated == 2
    await session.close()


async def test_a_signed_check_is_answered_and_the_answer_is_not_longer(
    autojump_clock: Clock, world: World
):
    session = world.callee.new_session(controlling=True)
    request = check_request(session.local)
    request.add_message_integrity(session.local.password.encode())
    world.stranger.send(bytes(request), CALLEE)
    answers = await everything_received(world.stranger)
    assert len(answers) == 1
    assert len(answers[0]) <= len(bytes(request))
    answer = stun.parse_message(answers[0])
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == STRANGER
    await session.close()


async def test_incomplete_and_misdirected_signed_requests_get_no_answer(
    autojump_clock: Clock, world: World
):
    session = world.callee.new_session(controlling=True)
    session_2 = world.callee.new_session(controlling=True)
    key = session.local.password.encode()
    no_priority = check_request(session.local)
    del no_priority.attributes["PRIORITY"]
    with_wrong_colon = check_request(session.local, USERNAME=session.local.ufrag)
    for request in (no_priority, with_wrong_colon):
        request.add_message_integrity(key)
        world.stranger.send(bytes(request), CALLEE)
    assert await everything_received(world.stranger) == []
    assert world.callee.statistics().unauthenticated == 2
    await session.close()
    await session_2.close()


async def test_a_peer_cannot_make_us_dial_any_number_of_addresses(
    autojump_clock: Clock, world: World
):
    session = world.callee.new_session(controlling=True)
    key = session.local.password.encode()
    host = world.network.host(STRANGER.host)
    async with trio.open_nursery() as nursery:

        async def connect() -> None:
            with trio.move_on_after(0.5):
                await session.connect(half_of(STRANGER), RTO_S)

        nursery.start_soon(connect)
        for port in range(2000, 2040):
            sock = await host.bind(Endpoint(STRANGER.host, port))
            request = check_request(session.local)
            request.add_message_integrity(key)
            sock.send(bytes(request), CALLEE)
    assert len(session._connection._remote_candidates) == 16
    assert world.callee.statistics().unauthenticated == 40 - 15
    await session.close()


async def test_forged_answers_do_not_end_a_check(autojump_clock: Clock, world: World):
    session = world.caller.new_session(controlling=True)

    async def forge() -> None:
        await world.stranger.wait_readable()
        received = world.stranger.receive()
        assert received is not None
        request = stun.parse_message(bytes(received.buffer))
        answer = stun.Message(
            stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id
        )
        answer.attributes["XOR-MAPPED-ADDRESS"] = CALLER
        world.stranger.send(bytes(answer), CALLER)
        answer.add_message_integrity(b"wrong")
        world.stranger.send(bytes(answer), CALLER)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(forge)
        with pytest.raises(IceFailed):
            await session.connect(half_of(STRANGER), RTO_S)
    assert world.caller.statistics().unauthenticated == 2
    await session.close()


async def test_a_peer_that_never_settles_on_a_role_fails_the_session(
    autojump_clock: Clock, world: World
):
    session = world.caller.new_session(controlling=True)
    half = half_of(STRANGER)

    async def conflict() -> None:
        while True:
            await world.stranger.wait_readable()
            while (received := world.stranger.receive()) is not None:
                request = stun.parse_message(bytes(received.buffer))
                answer = stun.Message(
                    stun.Method.BINDING, stun.Class.ERROR, request.transaction_id
                )
                answer.attributes["ERROR-CODE"] = (487, "Role Conflict")
                answer.add_message_integrity(half.password.encode())
                world.stranger.send(bytes(answer), CALLER)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(conflict)
        with trio.fail_after(2), pytest.raises(IceFailed):
            await session.connect(half, RTO_S)
        nursery.cancel_scope.cancel()
    await session.close()


async def test_an_error_of_the_peer_fails_its_pair(autojump_clock: Clock, world: World):
    session = world.caller.new_session(controlling=True)
    half = half_of(STRANGER)

    async def refuse() -> None:
        await world.stranger.wait_readable()
        received = world.stranger.receive()
        assert received is not None
        request = stun.parse_message(bytes(received.buffer))
        answer = stun.Message(
            stun.Method.BINDING, stun.Class.ERROR, request.transaction_id
        )
        answer.add_message_integrity(half.password.encode())
        world.stranger.send(bytes(answer), CALLER)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(IceFailed):
            await session.connect(half, RTO_S)
    assert trio.current_time() < 0.2
    await session.close()


def remote(*endpoints: Endpoint) -> IceHalf:
    """A peer's half whose first candidate has the highest priority."""
    half = half_of(*reversed(endpoints))
    return dataclasses.replace(half, candidates=tuple(reversed(half.candidates)))


async def checked(world: World, half: IceHalf, **how: object) -> list[Endpoint]:
    """Where the caller sends its first checks to, in their order."""
    session = world.caller.new_session(controlling=True, **how)
    sent: list[Endpoint] = []
    hub = world.caller.context.hub
    original = hub.send

    def send(data: bytes, destination: Endpoint) -> bool:
        if destination not in sent:
            sent.append(destination)
        return original(data, destination)

    hub.send = send
    with trio.move_on_after(1):
        await session.connect(half, RTO_S)
    hub.send = original
    await session.close()
    return sent


async def test_an_address_in_our_own_network_is_checked_first(
    autojump_clock: Clock, world: World
):
    world.caller = await unused_agent(world, "192.168.7.5")
    far, near = Endpoint("203.0.113.9", 5), Endpoint("192.168.7.9", 5)
    assert await checked(world, remote(far, near)) == [near, far]


async def test_our_own_address_as_the_peers_is_not_checked(
    autojump_clock: Clock, world: World
):
    """Two machines with Docker have one address, each its own."""
    other = Endpoint(CALLER.host, 5)
    assert await checked(world, remote(CALLER, STRANGER, other)) == [STRANGER, other]


async def test_behind_a_nat_with_a_port_for_each_address_public_ones_are_checked_first(
    autojump_clock: Clock, world: World
):
    host, seen = Endpoint("10.5.5.5", 5), Endpoint("8.8.8.8", 5)
    assert await checked(world, remote(host, seen)) == [host, seen]
    predicted = [Endpoint("9.9.9.9", 7001)]
    found = await checked(world, remote(host, seen), predicted=predicted)
    assert found == [seen, host]


@pytest.mark.parametrize(
    ("remote_host", "kind", "waits"),
    [
        ("203.0.113.9", "srflx", True),
        ("8.8.8.8", "srflx", True),
        ("8.8.8.8", "host", False),
        ("192.168.7.9", "host", False),
    ],
)
async def test_the_one_check_of_a_callee_waits_as_it_is_told(
    autojump_clock: Clock, world: World, remote_host: str, kind: str, waits: bool
):
    """Not for a caller with a public address of its own, nor for one on our link."""
    world.callee = await unused_agent(world, "192.168.7.5")
    world.callee.hold_s = lambda: 0.2
    session = world.callee.new_session(controlling=False)
    sent_at: list[float] = []
    original = world.callee.context.hub.send

    def send(data: bytes, destination: Endpoint) -> bool:
        sent_at.append(trio.current_time())
        return original(data, destination)

    world.callee.context.hub.send = send
    candidate = Candidate(
        kind=kind, endpoint=Endpoint(remote_host, 5), priority=9, foundation="1"
    )
    began_at = trio.current_time()
    with trio.move_on_after(1):
        await session.connect(IceHalf("abcd", "p" * 24, (candidate,)), RTO_S)
    assert sent_at[0] - began_at == pytest.approx(0.2 if waits else 0.0)
    await session.close()


async def unused_agent(world: World, host: str) -> IceAgent:
    sock = await world.network.host(host).bind(Endpoint(host, 1))
    return IceAgent(SocketHub(sock), world.island, world.network.host(host))


async def test_credentials_differ_between_sessions_and_the_password_is_not_shown(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    assert one.local.ufrag != other.local.ufrag
    assert len(one.local.password) == 24
    assert one.local.password not in repr(one.local)
    await one.close()
    await other.close()


async def whole_run(seed: int) -> str:
    link = Link(latency_s=(0.01, 0.05), loss=0.1, reorder=0.1)
    network = VirtualNetwork(random.Random(seed), link)
    async with open_island() as island, trio.open_nursery() as nursery:
        world = World(network, island)
        await world.open(nursery, seed)
        pairs = [world.sessions() for _ in range(5)]
        for one, other in pairs:
            await connect_both(one, other)
        await trio.sleep(60)
        for one, other in pairs:
            await one.close()
            await other.close()
        nursery.cancel_scope.cancel()
    return network.trace_digest()


def test_the_same_seed_gives_the_same_datagrams():
    assert run_deterministic(whole_run, 3, 3) == run_deterministic(whole_run, 3, 3)
    assert run_deterministic(whole_run, 3, 3) != run_deterministic(whole_run, 4, 4)


def valid_messages(local: IceHalf) -> list[bytes]:
    messages = [check_request(local), check_request(local, USE_CANDIDATE=None)]
    messages += [
        stun.Message(stun.Method.BINDING, kind, b"t" * 12)
        for kind in (stun.Class.RESPONSE, stun.Class.ERROR, stun.Class.INDICATION)
    ]
    messages[2].attributes["XOR-MAPPED-ADDRESS"] = CALLER
    messages[3].attributes["ERROR-CODE"] = (487, "Role Conflict")
    for message in messages[1:]:
        message.add_message_integrity(local.password.encode())
    return [bytes(message) for message in messages]


Mutation = tuple[str, int, bytes]


def mutated(message: bytes, mutations: list[Mutation], *, fix_length: bool) -> bytes:
    """Change anything behind the header, which the hub has looked at already."""
    changed = bytearray(message)
    for action, where, value in mutations:
        at = 20 + where % max(len(changed) - 20, 1)
        if action == "replace":
            changed[at : at + len(value)] = value
        elif action == "insert":
            changed[at:at] = value
        elif action == "cut":
            del changed[at:]
    if fix_length:
        struct.pack_into("!H", changed, 2, len(changed) - 20)
    return bytes(changed)


@settings(deadline=None, max_examples=150)
@given(
    mutations=st.lists(
        st.tuples(
            st.sampled_from(["replace", "insert", "cut"]),
            st.integers(0, 100),
            st.binary(min_size=1, max_size=8),
        ),
        max_size=4,
    ),
    fix_length=st.booleans(),
)
def test_mutated_stun_never_raises_out_of_the_hub(
    mutations: list[Mutation], fix_length: bool
):
    async def main() -> None:
        network = VirtualNetwork(random.Random(1))
        async with open_island() as island, trio.open_nursery() as nursery:
            world = World(network, island)
            await world.open(nursery)
            session = world.callee.new_session(controlling=True)
            nursery.start_soon(session.connect, half_of(STRANGER), RTO_S)
            await trio.testing.wait_all_tasks_blocked()
            # The answers below meet a transaction that waits for them.
            transactions = world.callee.context.transactions
            transactions[b"t" * 12] = next(iter(transactions.values()))
            for message in valid_messages(session.local):
                bad = mutated(message, mutations, fix_length=fix_length)
                world.stranger.send(bad, CALLEE)
            await trio.testing.wait_all_tasks_blocked()
            hub = world.callee.context.hub.statistics()
            assert hub.handler_errors == 0
            assert hub.stun == 5
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def aimed_at(half: IceHalf, endpoint: Endpoint) -> IceHalf:
    target = dataclasses.replace(half.candidates[0], endpoint=endpoint)
    return dataclasses.replace(half, candidates=(target,))


def checks_at(sock: DatagramSocket) -> int:
    checks = 0
    while (received := sock.receive()) is not None:
        checks += len(list(segments_of(received.buffer, received.segment_size)))
    return checks


async def test_an_offer_alone_draws_one_check_for_each_address(
    autojump_clock: Clock, world: World
):
    caller, callee = world.sessions()
    named = aimed_at(caller.local, STRANGER)
    # Named again and again, it is the same address.
    again = dataclasses.replace(named.candidates[0], foundation="other")
    named = dataclasses.replace(named, candidates=(*named.candidates, again))
    with trio.move_on_after(60):
        await callee.connect(named, RTO_S)
    assert checks_at(world.stranger) == 1


async def test_a_caller_that_is_there_draws_no_more_checks_for_others_addresses(
    autojump_clock: Clock, world: World
):
    # The caller is real, and names an address that is another's besides its own.
    caller, callee = world.sessions()
    victim = aimed_at(caller.local, STRANGER).candidates
    named = dataclasses.replace(
        caller.local, candidates=(*victim, *caller.local.candidates)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.connect, callee.local, RTO_S)
        assert await callee.connect(named, RTO_S) == CALLER
    await trio.sleep(60)
    assert checks_at(world.stranger) == 1


async def test_a_caller_cannot_make_the_callee_trust_it_by_swapping_roles(
    autojump_clock: Clock, world: World
):
    _, callee = world.sessions()
    half = half_of(STRANGER)
    checks = 0

    async def conflict() -> None:
        nonlocal checks
        while True:
            await world.stranger.wait_readable()
            while (received := world.stranger.receive()) is not None:
                checks += 1
                request = stun.parse_message(bytes(received.buffer))
                answer = stun.Message(
                    stun.Method.BINDING, stun.Class.ERROR, request.transaction_id
                )
                answer.attributes["ERROR-CODE"] = (487, "Role Conflict")
                answer.add_message_integrity(half.password.encode())
                world.stranger.send(bytes(answer), CALLEE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(conflict)
        with trio.move_on_after(60):
            await callee.connect(half, RTO_S)
        nursery.cancel_scope.cancel()
    assert checks == 1


async def test_a_caller_that_hears_the_answer_late_is_still_let_in(
    autojump_clock: Clock, world: World
):
    one, other = world.sessions()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.connect, one.local, RTO_S)
        world.network.partition([CALLER.host], [CALLEE.host])
        # Long after the callee's one check, which nobody heard.
        await trio.sleep(8)
        world.network.heal()
        assert await one.connect(other.local, RTO_S) == CALLEE
    await one.close()
    await other.close()


async def test_a_loopback_candidate_of_another_machine_is_not_dialled(world: World):
    caller, callee = world.sessions()
    ours = Endpoint("127.0.0.1", 22)
    with trio.fail_after(60), pytest.raises(IceFailed, match="any address"):
        await caller.connect(aimed_at(callee.local, ours), RTO_S)
