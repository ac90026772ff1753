"""`offering`: an offer goes every way that there is, and the first answer counts."""

import random

import pytest
import trio

from opnode.core.addresses import Endpoint, IceHalf
from opnode.core.errors import IntroductionRefused, PeerUnreachable, RefusalCode
from opnode.core.ids import NodeId
from opnode.core.peerfile import IntroducerEntry
from opnode.node.keys import make_keys
from opnode.node.ways.offering import (
    AFTER_FORESEEN_S,
    MAX_WAYS,
    NEXT_INTRODUCERS_S,
    Calling,
    Offering,
)
from opnode.protocols.introductions.desk import IntroductionDesk
from opnode.protocols.introductions.handshake import Handshakes
from opnode.protocols.introductions.parts import parse_untrusted, split
from opnode.protocols.noise import NoiseInitiator, NoiseResponder
from opnode.testing.clock import VirtualWallClock

HANDSHAKES = Handshakes(initiator=NoiseInitiator, responder=NoiseResponder)


def entry(number):
    return IntroducerEntry(
        node_id=NodeId(bytes([number]) * 20),
        endpoint=Endpoint(f"10.0.0.{number}", 4000),
        handle=bytes(16),
    )


HOME = Endpoint("10.1.0.1", 4000)
HALF = IceHalf("ufrag", "p" * 24, ())


def refusal(code):
    return IntroductionRefused(code)


SILENCE = PeerUnreachable("silence")


class Ways:
    """What becomes of the offer on each way: an answer, a failure, or nothing."""

    def __init__(self):
        wall_clock = VirtualWallClock()
        self.desks = [
            IntroductionDesk(
                make_keys(has_identity=True, name="", wall_now=wall_clock()).location,
                handshakes=HANDSHAKES,
            )
            for _ in range(2)
        ]
        self.outcomes = {}
        self.asked = []
        certificate = self.desks[1]._location.certificate
        self.outgoing = self.desks[0].offer(certificate, HALF, 0.0)
        self.offering = Offering(self, self.outgoing, wall_clock, random.Random(1))

    def is_stranger(self, _):
        return False

    async def introduce(self, entry, sealed):
        return await self._go(entry.endpoint, sealed)

    async def offer_directly(self, endpoint, _, sealed):
        return await self._go(endpoint, sealed)

    async def _go(self, endpoint, sealed):
        self.asked.append((trio.current_time(), endpoint))
        await trio.sleep(0.1)
        outcome = self.outcomes.get(endpoint, SILENCE)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "never":
            await trio.sleep_forever()
        if outcome == "nonsense":
            return b"nonsense" * 9
        incoming = self.desks[1].receive_offer_untrusted(
            parse_untrusted(sealed).chunk, 0.0, wall_now=VirtualWallClock()()
        )
        answer, _ = incoming.answer(HALF)
        return split(answer)[0]


@pytest.fixture
async def ways():
    await trio.lowlevel.checkpoint()
    return Ways()


async def test_an_address_that_worked_before_is_tried_at_once_beside_introducers(
    autojump_clock, ways
):
    ways.outcomes = {HOME: "answer", entry(1).endpoint: "never"}
    established = await ways.offering.run([entry(1), entry(2), entry(3)], [HOME])
    assert established.initiator
    asked = {endpoint for at, endpoint in ways.asked if at == 0}
    assert HOME in asked
    assert len(asked) == 3
    assert trio.current_time() < NEXT_INTRODUCERS_S


async def test_the_third_introducer_has_to_wait(autojump_clock, ways):
    with pytest.raises(PeerUnreachable):
        await ways.offering.run([entry(n) for n in (1, 2, 3)], [])
    times = sorted(at for at, _ in ways.asked)
    assert times == pytest.approx([0, 0, NEXT_INTRODUCERS_S])


async def test_introducers_found_meanwhile_join_in_once(autojump_clock, ways):
    ways.outcomes = {HOME: "never", entry(2).endpoint: "answer"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ways.offering.run, [entry(1)], [HOME])
        await trio.sleep(3)
        ways.offering.add([entry(1), entry(2)])
    asked = [endpoint for _, endpoint in ways.asked]
    assert asked.count(entry(1).endpoint) == 1
    assert asked.count(entry(2).endpoint) == 1
    ways.offering.add([entry(3)])
    assert trio.current_time() < 3.2


async def test_where_a_call_would_take_a_foretold_port_introducers_come_first(
    autojump_clock, ways
):
    ways.outcomes = {entry(1).endpoint: "answer"}
    await ways.offering.run([entry(1)], [], [HOME])
    assert [endpoint for _, endpoint in ways.asked] == [entry(1).endpoint]


async def test_without_an_answer_such_an_address_is_called_a_little_later(
    autojump_clock, ways
):
    ways.outcomes = {HOME: "answer"}
    assert await ways.offering.run([entry(1)], [], [HOME])
    assert (AFTER_FORESEEN_S, HOME) in ways.asked


async def test_introducers_found_when_all_is_over_are_not_taken(autojump_clock, ways):
    taken = []

    async def fail():
        with pytest.raises(PeerUnreachable):
            await ways.offering.run([], [HOME])
        taken.append(ways.offering.add([entry(1)]))

    ways.outcomes = {HOME: SILENCE}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await trio.sleep(0.05)
        # At the very end: the nursery may be closing while its owner still waits.
        while not taken:
            await trio.lowlevel.checkpoint()
            if trio.current_time() >= 0.1:
                ways.offering.add([])
            await trio.sleep(0.001)
    assert taken == [False]


async def test_glare_told_by_an_introducer_ends_the_offer(autojump_clock, ways):
    ways.outcomes = {
        entry(1).endpoint: refusal(RefusalCode.GLARE),
        entry(2).endpoint: "never",
    }
    with pytest.raises(IntroductionRefused) as caught:
        await ways.offering.run([entry(1), entry(2)], [])
    assert caught.value.code is RefusalCode.GLARE


async def test_what_is_said_at_an_old_address_ends_nothing(autojump_clock, ways):
    ways.outcomes = {
        HOME: refusal(RefusalCode.GLARE),
        entry(3).endpoint: "answer",
    }
    assert await ways.offering.run([entry(n) for n in (1, 2, 3)], [HOME])


async def test_if_nothing_else_leads_there_a_refusal_is_told(autojump_clock, ways):
    ways.outcomes = {HOME: refusal(RefusalCode.GLARE)}
    with pytest.raises(IntroductionRefused) as caught:
        await ways.offering.run([entry(1)], [HOME])
    assert caught.value.code is RefusalCode.GLARE


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([SILENCE, refusal(RefusalCode.DECLINED)], RefusalCode.DECLINED),
        (
            [refusal(RefusalCode.UNKNOWN_TARGET), refusal(RefusalCode.BUSY)],
            RefusalCode.BUSY,
        ),
        ([SILENCE, refusal(RefusalCode.UNKNOWN_TARGET)], RefusalCode.UNKNOWN_TARGET),
    ],
)
async def test_the_targets_own_word_outweighs_silence(
    autojump_clock, ways, outcomes, code
):
    for number, outcome in enumerate(outcomes, 1):
        ways.outcomes[entry(number).endpoint] = outcome
    with pytest.raises(IntroductionRefused) as caught:
        await ways.offering.run([entry(1), entry(2)], [])
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("outcome", "text"), [("nonsense", "bad answer"), (SILENCE, "silence")]
)
async def test_the_last_failure_is_told_when_nobody_said_no(
    autojump_clock, ways, outcome, text
):
    ways.outcomes[entry(1).endpoint] = outcome
    with pytest.raises(PeerUnreachable, match=text):
        await ways.offering.run([entry(1)], [])


async def test_without_any_way_it_says_so(autojump_clock, ways):
    with pytest.raises(PeerUnreachable, match="names no introducer"):
        await ways.offering.run([], [])


async def test_ways_are_bounded(autojump_clock, ways):
    with pytest.raises(PeerUnreachable):
        await ways.offering.run([entry(number) for number in range(1, 40)], [HOME])
    assert len(ways.asked) == MAX_WAYS


class Over:
    """An offer that all ways have failed."""

    def add(self, _):
        return False


def test_introducers_are_kept_for_an_offer_that_has_yet_to_leave():
    call = Calling(b"")
    assert call.take([entry(1)])
    assert call.introducers == [entry(1)]


def test_introducers_that_come_too_late_are_not_said_to_be_asked():
    call = Calling(b"", has_offered=True)
    assert not call.take([entry(1)])
    call.offering = Over()
    assert not call.take([entry(1)])
