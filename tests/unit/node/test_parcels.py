import pytest
import trio

from opnode.core.errors import IntroductionRefused, PeerUnreachable, RefusalCode
from opnode.node.parcels import OTHER_PART_S, Parcels, exchange
from opnode.protocols.introductions.parts import split

LONG, SHORT = bytes(range(250)) * 8, b"short"


class Target:
    """Answers whole offers through parcels; counts datagrams."""

    def __init__(self, answer):
        self.parcels = Parcels()
        self.offers = []
        self.datagrams = 0
        self._answer = answer

    async def answer(self, offer):
        await trio.sleep(0.01)
        self.offers.append(offer)
        return self._answer

    async def carry(self, part):
        self.datagrams += 1
        answer = await self.parcels.answer(part, self.answer)
        assert len(answer) <= 1100
        return answer


@pytest.mark.parametrize("offer", [SHORT, LONG])
@pytest.mark.parametrize("answer", [SHORT, LONG])
async def test_offers_and_answers_of_any_length_are_exchanged(
    autojump_clock, offer, answer
):
    target = Target(answer)
    assert await exchange(offer, target.carry) == answer
    assert set(target.offers) == {offer}
    assert target.datagrams == (1 if offer == answer == SHORT else 2)
    assert not target.parcels._wholes
    assert not len(target.parcels._parts)


async def test_the_two_halves_of_an_offer_are_answered_one_after_the_other(
    autojump_clock,
):
    target = Target(SHORT)
    running = []

    async def answer(offer):
        assert not running
        running.append(offer)
        await trio.sleep(0.1)
        running.clear()
        return SHORT

    target.answer = answer
    await exchange(LONG, target.carry)


@pytest.mark.parametrize("offer", [SHORT, LONG])
async def test_copies_that_come_at_once_are_all_answered_one_after_the_other(
    autojump_clock, offer
):
    target = Target(SHORT)
    running, answers = [], []

    async def answer(offer):
        assert not running
        running.append(offer)
        await trio.sleep(0.1)
        running.clear()
        return SHORT

    async def bring():
        answers.append(await exchange(offer, target.carry))

    target.answer = answer
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(bring)
    assert answers == [SHORT, SHORT]
    assert not target.parcels._wholes


async def test_half_an_offer_is_refused_after_a_while(autojump_clock):
    started_at = trio.current_time()
    with pytest.raises(IntroductionRefused) as caught:
        await Target(SHORT).carry(split(LONG)[0])
    assert caught.value.code is RefusalCode.EXPIRED
    assert trio.current_time() - started_at == pytest.approx(OTHER_PART_S)


async def test_what_is_no_part_is_refused(autojump_clock):
    with pytest.raises(IntroductionRefused) as caught:
        await Target(SHORT).carry(b"\xff\xff\xff")
    assert caught.value.code is RefusalCode.MALFORMED


async def test_one_part_that_finds_no_way_ends_the_exchange(autojump_clock):
    target = Target(SHORT)

    async def carry(part):
        if part[0] == 0x12:
            raise IntroductionRefused(RefusalCode.BUSY)
        return await target.carry(part)

    with pytest.raises(IntroductionRefused) as caught:
        await exchange(LONG, carry)
    assert caught.value.code is RefusalCode.BUSY


@pytest.mark.parametrize("answers", [[b"nonsense"], [split(LONG)[1]] * 2])
async def test_made_up_answers_are_an_error_with_a_name(autojump_clock, answers):
    left = list(answers)

    async def carry(_):
        await trio.lowlevel.checkpoint()
        return left.pop()

    with pytest.raises(PeerUnreachable, match="bad answer"):
        await exchange(SHORT, carry)
