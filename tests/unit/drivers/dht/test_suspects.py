"""`suspects`: who failed lately is remembered for a while, in bounded memory."""

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.dht.suspects import Suspects


def endpoint(number):
    return Endpoint("10.0.0.1", number)


async def test_a_failure_is_forgotten_after_its_time(autojump_clock):
    suspects = Suspects(most=8, remembered_s=60.0)
    suspects.add(endpoint(1))
    assert endpoint(1) in suspects
    assert endpoint(2) not in suspects
    await trio.sleep(59)
    assert endpoint(1) in suspects
    await trio.sleep(1)
    assert endpoint(1) not in suspects


async def test_an_answer_clears_it_at_once(autojump_clock):
    suspects = Suspects(most=8, remembered_s=60.0)
    suspects.clear(endpoint(1))
    suspects.add(endpoint(1))
    suspects.clear(endpoint(1))
    assert endpoint(1) not in suspects
    assert len(suspects) == 0


async def test_the_one_whose_failure_is_oldest_makes_room(autojump_clock):
    suspects = Suspects(most=3, remembered_s=60.0)
    for number in (1, 2, 3, 1, 4):
        suspects.add(endpoint(number))
    assert len(suspects) == 3
    assert [n for n in (1, 2, 3, 4) if endpoint(n) in suspects] == [1, 3, 4]
