"""`batch`: several are asked at once, and every request is waited for."""

from opnode.drivers.dht.batch import Batch
from opnode.protocols.rpc.messages import Ping, Pong
from opnode.testing.dht_nodes import DhtNetwork


async def test_a_batch_waits_for_every_request_and_tells_answers_from_errors(
    autojump_clock, nursery
):
    network = DhtNetwork(nursery, 1)
    one, two, dead = [await network.add() for _ in range(3)]
    network.kill(dead)
    batch = Batch(one.rpc)
    await batch.run([(two.contact, Ping()), (dead.contact, Ping())])
    assert batch.answers == [(two.contact, Ping(), Pong())]
    assert [contact for contact, _ in batch.errors] == [dead.contact]
    empty = Batch(one.rpc)
    await empty.run([])
    assert empty.answers == []
    network.close()


async def test_with_few_to_ask_each_is_asked_four_times(autojump_clock, nursery):
    network = DhtNetwork(nursery, 1)
    one, dead = [await network.add() for _ in range(2)]
    network.kill(dead)
    batch = Batch(one.rpc)
    await batch.run([(dead.contact, Ping())])
    assert one.rpc.statistics().retransmitted == 3
    network.close()


async def test_with_many_to_ask_a_silent_one_is_asked_twice(autojump_clock, nursery):
    network = DhtNetwork(nursery, 1)
    one, *others = [await network.add() for _ in range(5)]
    for other in others:
        network.kill(other)
    batch = Batch(one.rpc)
    await batch.run([(other.contact, Ping()) for other in others])
    assert one.rpc.statistics().retransmitted == len(others)
    network.close()
