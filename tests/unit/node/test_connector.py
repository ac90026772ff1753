import contextlib

import pytest
import trio

from opnode.core.addresses import Candidate, Endpoint, IceHalf
from opnode.core.errors import (
    IntroductionRefused,
    LocalProtocolError,
    PeerUnreachable,
    RefusalCode,
)
from opnode.core.peerfile import IntroducerEntry, Presence
from opnode.node.connector import ConnectorConfig
from opnode.node.keys import make_keys
from opnode.node.ways.opening import Opening
from opnode.protocols.introductions.desk import IntroductionDesk
from opnode.protocols.introductions.handshake import Handshakes
from opnode.protocols.introductions.replay import ReplayMemory
from opnode.protocols.noise import NoiseInitiator, NoiseResponder
from opnode.testing.clock import VirtualWallClock
from opnode.testing.overlay import open_overlay
from opnode.testing.virtual_network import Link


async def presence_of(finder, peer):
    return (await finder.lookup(peer.peer_id)).presences[0]


def through(presence, *introducers):
    return Presence(
        certificate=presence.certificate, introducers=introducers, capabilities=0
    )


def dead_introducer(number=250):
    return IntroducerEntry(
        node_id=bytes([number]) * 20,
        endpoint=Endpoint(f"10.9.9.{number}", 1),
        handle=bytes(16),
    )


async def test_one_dead_introducer_of_two_costs_nothing(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        presence = await presence_of(alice, bob)
        both = through(presence, dead_introducer(), presence.introducers[0])
        started_at = trio.current_time()
        await alice.connector.connect([both], lookup_s=0.0)
        assert trio.current_time() - started_at < 0.5


async def test_an_offer_that_two_introducers_bring_at_once_is_answered_to_both(
    autojump_clock,
):
    async with open_overlay(seeds=3, link=Link(latency_s=(0.02, 0.02))) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        await alice.connect(bob.peer_id)
        introductions = bob.statistics().introductions
        assert (introductions.answered, introductions.refused) == (2, 0)


async def test_an_introducer_that_makes_up_an_answer_only_wastes_its_own_turn(
    autojump_clock,
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        mallory = await overlay.user()

        async def make_up(sealed):
            await trio.lowlevel.checkpoint()
            return b"nonsense" * 20

        mallory.connector._introductions.on_offer = make_up
        presence = await presence_of(alice, bob)
        of_mallory = (await presence_of(alice, mallory)).introducers[0]
        forged = IntroducerEntry(
            node_id=of_mallory.node_id,
            endpoint=of_mallory.endpoint,
            handle=of_mallory.handle,
        )
        with pytest.raises(PeerUnreachable, match="bad answer"):
            await alice.connector.connect([through(presence, forged)], lookup_s=0.0)
        both = through(presence, forged, presence.introducers[0])
        await alice.connector.connect([both], lookup_s=0.0)


async def test_a_second_location_is_tried_when_the_first_is_gone(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        carol = await overlay.user()
        gone = through(await presence_of(alice, carol), dead_introducer())
        reached = await alice.connector.connect(
            [gone, await presence_of(alice, bob)], lookup_s=0.0
        )
        assert reached.peer_id == bob.peer_id


async def test_introducers_that_come_when_all_others_have_failed_are_asked_then(
    autojump_clock,
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        presence = await presence_of(alice, bob)
        gone = through(presence, dead_introducer())
        close, reached = Opening.aclose, []

        async def close_slowly(opening):
            nursery.start_soon(call_again)
            await trio.sleep(0.1)
            await close(opening)

        async def call_again():
            reached.append(await alice.connector.connect([presence], lookup_s=0.0))

        async with trio.open_nursery() as nursery:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Opening, "aclose", close_slowly)
                with pytest.raises(PeerUnreachable):
                    await alice.connector.connect([gone], lookup_s=0.0)
                patch.undo()
        assert reached[0].peer_id == bob.peer_id


async def test_all_causes_are_told_when_no_location_answers(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        presence = await presence_of(alice, bob)
        with pytest.raises(PeerUnreachable, match="names no introducer"):
            await alice.connector.connect([through(presence)], lookup_s=0.0)
        with pytest.raises(PeerUnreachable, match="offline"):
            await alice.connector.connect([], lookup_s=0.0)
        dead = through(presence, dead_introducer())
        with pytest.raises(PeerUnreachable, match=r"introducer.*; .*introducer"):
            await alice.connector.connect([through(presence), dead], lookup_s=0.0)


async def test_a_peer_that_answers_but_has_no_path_fails_by_name(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
        with trio.fail_after(15), pytest.raises(PeerUnreachable):
            await alice.connect(bob.peer_id)
        overlay.network.heal()
        await trio.sleep(10)
        assert alice.connector.connections() == []
        await alice.connect(bob.peer_id)


async def test_a_cancelled_connect_leaves_nothing_behind(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        view = await alice.lookup(bob.peer_id)
        for step in range(1, 12):
            with trio.move_on_after(step * 0.01):
                await alice.connector.connect(view.presences, lookup_s=0.0)
            for connection in alice.connector.connections():
                await connection.aclose()
            await trio.sleep(40)
            assert alice.connector.ice.statistics().sessions == 0
            assert bob.connector.ice.statistics().sessions == 0
        await alice.connect(bob.peer_id)


async def test_the_refusal_of_the_peer_outweighs_a_silent_introducer(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        bob.connector.may_connect = lambda _: False
        presence = await presence_of(alice, bob)
        both = through(presence, dead_introducer(), presence.introducers[0])
        with pytest.raises(IntroductionRefused) as caught:
            await alice.connector.connect([both], lookup_s=0.0)
        assert caught.value.code is RefusalCode.DECLINED


async def test_timings_cover_the_steps(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        timings = (await alice.connect(bob.peer_id)).timings
        for step in (timings.lookup_s, timings.introduce_s, timings.ice_s):
            assert 0.01 <= step < 1


def offers_of_strangers(certificate, count):
    """Sealed offers of ``count`` people who will never be heard of again."""
    handshakes = Handshakes(initiator=NoiseInitiator, responder=NoiseResponder)
    for number in range(count):
        keys = make_keys(has_identity=True, name="", wall_now=VirtualWallClock()())
        desk = IntroductionDesk(keys.location, handshakes=handshakes)
        target = Candidate(
            kind="host",
            endpoint=Endpoint("10.8.0.1", number + 1),
            priority=1,
            foundation="f",
            related=None,
        )
        half = IceHalf("ufrag", "p" * 24, (target,))
        yield desk.offer(certificate, half, 0.0).message


async def test_i12_offers_whose_callers_vanish_keep_nobody_else_from_calling(
    autojump_clock,
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        certificate = (await presence_of(alice, bob)).certificate
        for sealed in offers_of_strangers(certificate, 100):
            await bob.connector.answer_offer(sealed)
        with trio.fail_after(5):
            await alice.connect(bob.peer_id)
        await trio.sleep(30)
        assert bob.connector.ice.statistics().sessions == 1
        assert bob.statistics().traffic.connections == 1


async def test_a_resent_offer_makes_no_second_meeting_beside_a_live_one(
    autojump_clock,
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        heard = []
        answer_offer = bob.connector.answer_part

        async def listen(sealed):
            heard.append(sealed)
            return await answer_offer(sealed)

        bob.connector._introductions.on_offer = listen
        connection = await alice.connect(bob.peer_id)
        await trio.sleep(60)
        bob.connector._desk._replays = ReplayMemory(max_callers=9, per_caller=9)
        with pytest.raises(IntroductionRefused) as caught:
            await answer_offer(heard[0])
        assert caught.value.code is RefusalCode.EXPIRED
        assert await connection.ping() > 0


async def test_early_data_arrives_before_any_path_and_is_answered(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        heard = []

        def answer(certificate, said):
            heard.append((trio.current_time(), certificate.peer_id, said))
            return b"ringing"

        bob.connector.on_early_data = answer
        await presence_of(alice, bob)
        overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
        started_at = trio.current_time()
        with pytest.raises(PeerUnreachable):
            await alice.connect(bob.peer_id, early_data=b"are you there?")
        (at, who, said), *more = heard
        assert (who, said, more) == (alice.peer_id, b"are you there?", [])
        # A lookup and a way through an introducer; no path was ever found.
        assert at - started_at < 0.3


async def test_both_ends_hold_the_early_data_of_the_other(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        bob.connector.on_early_data = lambda _, said: said[::-1]
        mine = await alice.connect(bob.peer_id, early_data=b"abc")
        theirs = await bob.accept_connection()
        assert mine.early_data.received == b"cba"
        assert theirs.early_data.received == b"abc"
        assert mine.early_data.is_sent
        assert theirs.early_data.is_sent
        assert "abc" not in repr(theirs.early_data)


@pytest.mark.parametrize("offered", [1, 1024])
@pytest.mark.parametrize("answered", [0, 1024])
async def test_a_kilobyte_of_early_data_goes_each_way_with_all_candidates(
    autojump_clock, offered, answered
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        for node in (alice, bob):
            for number in range(1, 8):
                observed = Endpoint(f"203.0.113.{number}", 40_000)
                node.connector.ice.candidates._observed[observed] = None
        bob.connector.on_early_data = lambda *_: bytes(answered)
        sizes = largest_datagrams(overlay.network)
        mine = await alice.connect(bob.peer_id, early_data=bytes(offered))
        theirs = await bob.accept_connection()
        assert theirs.early_data.received == bytes(offered)
        assert mine.early_data.received == bytes(answered)
        assert mine.early_data.is_sent
        assert max(sizes) <= 1212


def largest_datagrams(network):
    """Sizes of the RPC datagrams that are carried from now on."""
    sizes, carry = [0], network.carry

    def record(data, source, destination, ecn=0):
        if 0xC0 <= data[0] <= 0xCF:
            sizes.append(len(data))
        carry(data, source, destination, ecn)

    network.carry = record
    return sizes


async def test_early_data_of_one_offer_is_taken_once_however_often_it_comes(
    autojump_clock,
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        heard, offers = [], []
        bob.connector.on_early_data = lambda _, said: heard.append(said) or b""
        take = bob._parts.introductions.on_offer

        async def record(part):
            offers.append(part)
            return await take(part)

        bob._parts.introductions.on_offer = record
        connection = await alice.connect(bob.peer_id, early_data=b"once")
        for delay_s in (1, 60, 600):
            await trio.sleep(delay_s)
            for part in offers:
                with contextlib.suppress(IntroductionRefused):
                    await take(part)
            await connection.aclose()
        assert heard == [b"once"]


async def test_more_than_a_kilobyte_of_early_data_is_a_bug_of_ours(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        with pytest.raises(LocalProtocolError):
            await alice.connect(bob.peer_id, early_data=bytes(1025))
        await trio.sleep(1)
        assert alice.connector.ice.statistics().sessions == 0


@pytest.mark.parametrize("fault", [bytes(1025), ValueError()])
async def test_a_wrong_answer_of_the_owner_costs_its_early_data_only(
    autojump_clock, caplog, fault
):
    def answer(*_):
        if isinstance(fault, Exception):
            raise fault
        return fault

    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        bob.connector.on_early_data = answer
        connection = await alice.connect(bob.peer_id, early_data=b"hello")
        assert connection.early_data.received == b""
        assert "early data" in caplog.text


async def test_a_live_connection_tells_that_early_data_was_not_sent(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        first = await alice.connect(bob.peer_id)
        again = await alice.connect(bob.peer_id, early_data=b"hello")
        assert again is first
        assert not again.early_data.is_sent


async def test_introducers_found_before_the_offer_has_left_are_asked_too(
    autojump_clock,
):
    """Where our NAT will show us may take as long as the lookup to find out."""

    async def foresee():
        await trio.sleep(0.2)
        return ()

    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        presence = await presence_of(alice, bob)
        alice.connector.foresee = foresee
        made = []

        async def connect(presence):
            made.append(await alice.connector.connect([presence], lookup_s=0.0))

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                # As remembered from before, and as it was looked up meanwhile.
                nursery.start_soon(connect, through(presence))
                await trio.sleep(0.1)
                nursery.start_soon(connect, presence)
        assert made[0] is made[1]


async def test_a_call_that_lost_to_one_that_ended_at_once_is_made_again(autojump_clock):
    async with open_overlay() as overlay:
        users = [await overlay.user(behind="port") for _ in range(2)]
        took = []

        async def call_and_hang_up(caller, callee, delay_s):
            await trio.sleep(delay_s)
            began_at = trio.current_time()
            connection = await caller.connect(callee.peer_id)
            took.append(trio.current_time() - began_at)
            await connection.aclose()

        for number in range(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call_and_hang_up, *users, 0.0)
                nursery.start_soon(call_and_hang_up, *users[::-1], 0.02 * number)
        assert len(took) == 24
        assert max(took) < 5


async def test_who_answered_waits_longer_than_its_caller_tries(autojump_clock):
    """A path may come at the last moment, and the first packets on it may be lost."""
    async with open_overlay(link=Link(latency_s=(0.05, 0.05))) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        patience = {"attempt_s": 0.1, "confirm_s": 3.0}
        bob.connector._config = ConnectorConfig(**patience)
        connection = await alice.connect(bob.peer_id)
        overlay.network.link = Link(latency_s=(0.05, 0.05), loss=1.0)
        await trio.sleep(1.0)
        overlay.network.link = Link(latency_s=(0.05, 0.05))
        assert await connection.ping() > 0
        assert connection.close_reason is None
