import pytest
import trio

from opnode.drivers.connection_paths import PathKind
from opnode.node.ways.direct import Cause
from opnode.testing.overlay import open_overlay
from opnode.testing.virtual_network import Link
from tests.unit.node.moves import Flow, two_behind
from tests.unit.node.wires import wired

BOXES = ["full", "addr", "port"]
WHO = ["alice", "bob", "both"]


@pytest.mark.slow
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("who", WHO)
async def test_a_flow_goes_on_within_three_seconds_of_a_move(
    autojump_clock, nursery, box, who
):
    async with two_behind(box, box) as (overlay, alice, bob):
        mine = await alice.connect(bob.peer_id)
        theirs = await bob.accept_connection()
        flow = Flow(mine, theirs)
        nursery.start_soon(flow.send)
        nursery.start_soon(flow.receive)
        await trio.sleep(5)
        moved_at = trio.current_time()
        for node, name in ((alice, "alice"), (bob, "bob")):
            if who in (name, "both"):
                overlay.host_of(node).move_to(overlay.nat(box))
        await trio.sleep(15)
        assert mine.close_reason is None
        assert flow.gap_s(moved_at) <= 3.0
        assert flow.sent.startswith(flow.received)
        assert len(flow.received) > 4 * 15 / 0.02 * 0.8
        nursery.cancel_scope.cancel()


async def test_checks_that_took_long_do_not_delay_what_is_lost_first(autojump_clock):
    """A path that took three seconds to find has no round trip of three seconds."""
    async with open_overlay(link=Link(latency_s=(0.02, 0.02))) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        between = [[user.endpoint.host] for user in (alice, bob)]
        overlay.network.partition(*between)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heal_later, overlay)
            connection = await alice.connect(bob.peer_id)
        assert trio.current_time() > 3
        overlay.network.partition(*between)
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(heal_later, overlay, 0.1)
                await connection.ping()


async def heal_later(overlay, after_s=3.0):
    await trio.sleep(after_s)
    overlay.network.heal()


def forget_observed(node):
    """Take from a node what it knows of its NAT; tells how to give it back."""
    offered = node.connector.ice.candidates
    known = offered.observed
    for endpoint in known:
        offered.forget_observed(endpoint)

    def give_back():
        for endpoint in known:
            offered.add_observed(endpoint)

    assert known
    return give_back


async def test_an_address_known_three_seconds_late_still_gives_a_direct_path(
    autojump_clock, nursery
):
    async with two_behind("port", "port") as (_, alice, bob):
        later = [forget_observed(node) for node in (alice, bob)]

        async def learn_late():
            await trio.sleep(3)
            for give_back in later:
                give_back()

        nursery.start_soon(learn_late)
        started_at = trio.current_time()
        connection = await alice.connect(bob.peer_id)
        assert connection.path.kind is PathKind.DIRECT
        assert trio.current_time() - started_at < 4
        nursery.cancel_scope.cancel()


async def test_a_late_address_takes_over_from_a_relay_that_carries_already(
    autojump_clock, nursery
):
    async with two_behind("port", "port") as (_, alice, bob):
        wired(nursery, alice, bob)
        later = [forget_observed(node) for node in (alice, bob)]
        connection = await alice.connect(bob.peer_id)
        theirs = await bob.accept_connection()
        assert connection.path.kind is PathKind.RELAY
        await trio.sleep(3)
        for give_back in later:
            give_back()
        await trio.sleep(2)
        assert connection.path.kind is theirs.path.kind is PathKind.DIRECT
        nursery.cancel_scope.cancel()


async def test_a_relay_is_left_when_a_network_with_a_direct_way_is_found(
    autojump_clock, nursery
):
    async with two_behind("sym", "sym") as (overlay, alice, bob):
        wired(nursery, alice, bob)
        connection = await alice.connect(bob.peer_id)
        await bob.accept_connection()
        await trio.sleep(60)
        assert connection.path.kind is PathKind.RELAY
        overlay.host_of(alice).move_to(overlay.nat("full"))
        await trio.sleep(5)
        assert connection.path.kind is PathKind.DIRECT
        nursery.cancel_scope.cancel()


async def test_consent_that_ends_is_nothing_to_a_connection_with_another_path(
    autojump_clock, nursery
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        wired(nursery, alice, bob)
        connection = await alice.connect(bob.peer_id)
        await trio.sleep(5)
        assert connection.path.kind is PathKind.DIRECT
        overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
        await trio.sleep(120)
        assert connection.close_reason is None
        assert connection.path.kind is PathKind.RELAY
        overlay.network.heal()
        await trio.sleep(600)
        assert connection.path.kind is PathKind.DIRECT
        nursery.cancel_scope.cancel()


async def test_what_the_rounds_of_checks_tried_is_told(autojump_clock):
    async with two_behind("port", "port") as (overlay, alice, bob):
        await alice.connect(bob.peer_id)
        overlay.host_of(alice).move_to(overlay.nat("port"))
        await trio.sleep(10)
        first, *_, last = alice.connector.attempt_log.attempts()
        assert first.cause is Cause.INTRODUCTION
        assert last.cause is Cause.NETWORK
        assert last.generation > first.generation == 0
        for attempt in (first, last):
            assert attempt.is_over
            assert attempt.nominated.endpoint in [c.remote for c in attempt.checks]
            assert attempt.local
        assert bob.connector.attempt_log.attempts()[-1].cause is Cause.PEER


async def test_no_more_than_sixteen_rounds_are_remembered(autojump_clock, nursery):
    async with two_behind("sym", "sym", seeds=2) as (_, alice, bob):
        wired(nursery, alice, bob)
        await alice.connect(bob.peer_id)
        for _ in range(20):
            for meeting in alice.connector._meetings.values():
                meeting.network_changed(Cause.NETWORK)
            await trio.sleep(3)
        assert len(alice.connector.attempt_log.attempts()) == 16
        nursery.cancel_scope.cancel()


async def test_a_path_that_fell_silent_is_looked_for_elsewhere(autojump_clock, nursery):
    async with two_behind("port", "port") as (overlay, alice, bob):
        mine = await alice.connect(bob.peer_id)
        flow = Flow(mine, await bob.accept_connection())
        nursery.start_soon(flow.send)
        nursery.start_soon(flow.receive)
        await trio.sleep(5)
        # Both boxes forget what they translated, and nobody tells the nodes.
        rebooted_at = trio.current_time()
        for node in (alice, bob):
            overlay.nat_of(node).reboot()
        await trio.sleep(30)
        assert mine.close_reason is None
        assert flow.gap_s(rebooted_at) <= 3.0
        assert flow.sent.startswith(flow.received)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("box", ["full", "addr", "port"])
async def test_two_behind_nats_meet_in_three_round_trips(autojump_clock, box):
    async with two_behind(box, box) as (_, alice, bob):
        presences = (await alice.lookup(bob.peer_id)).presences
        started_at = trio.current_time()
        connection = await alice.connector.connect(presences, lookup_s=0.0)
        await connection.ping()
        timings = connection.timings
        # Through the introducer and back is two round trips of 50 ms, a check is one.
        assert timings.introduce_s + timings.ice_s <= 3 * 0.05 + 0.06
        assert trio.current_time() - started_at <= 4 * 0.05 + 0.06


async def test_a_capture_at_the_introducers_shows_no_word_of_a_signal(autojump_clock):
    async with two_behind("port", "port") as (overlay, alice, bob):
        servers = {entry.host for entry in overlay.entries}
        captured, carry = bytearray(), overlay.network.carry

        def record(data, source, destination, ecn=0):
            if servers & {source.host, destination.host}:
                captured.extend(data)
            carry(data, source, destination, ecn)

        overlay.network.carry = record
        connection = await alice.connect(bob.peer_id)
        halves = []
        for _ in range(2):
            overlay.host_of(alice).move_to(overlay.nat("port"))
            await trio.sleep(10)
            for node in (alice, bob):
                meeting = next(iter(node.connector._meetings.values()))
                halves.append(meeting._direct.half)
        assert await connection.ping() > 0
        assert alice.connector.switchboard.statistics().copies > 4
        for half in halves:
            for word in (half.ufrag, half.password):
                assert word.encode() not in captured
