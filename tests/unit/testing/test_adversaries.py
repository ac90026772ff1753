"""`opnode.testing.adversaries`: each liar does what its name says, over the wire."""

import random

import pytest
import trio

from opnode.core.addresses import is_public
from opnode.core.errors import RecordError, RequestTimeout
from opnode.core.ids import distance, fits_address, peer_key
from opnode.core.peerfile import Identity, build_peer_file, verify_record_untrusted
from opnode.protocols.rpc.messages import (
    FindNode,
    FindValue,
    Ping,
    Pong,
    Store,
    Stored,
    unpack_contact_untrusted,
)
from opnode.testing.adversaries import DELAY_S, Gang, Lie, choose_liars, plant
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.keys import seeded_signing_key

OWNER = Identity(seeded_signing_key("owner"))
KEY = peer_key(OWNER.peer_id)


@pytest.fixture
async def network(nursery):
    made = DhtNetwork(nursery, 1)
    await made.grow(12)
    yield made
    made.close()


@pytest.fixture
def gang(network, nursery):
    return Gang(network, nursery, random.Random(1))


def peer_file(network, seq):
    return build_peer_file(OWNER, wall_now=network.wall_clock(), seq=seq)


async def ask(network, body):
    """The first node asks the last one."""
    asker, liar = network.nodes[0], network.nodes[-1]
    return (await asker.rpc.request(liar.hub.local, body)).body


@pytest.mark.parametrize("lie", Lie)
async def test_a_liar_answers_ping_so_it_stays_in_tables(
    autojump_clock, network, gang, lie
):
    gang.turn(network.nodes[-1], lie)
    assert await ask(network, Ping()) == Pong()


async def test_a_colluder_names_its_gang_alone_and_never_gives_what_it_took(
    autojump_clock, network, gang
):
    for node in network.nodes[-3:]:
        gang.turn(node, Lie.COLLUDE)
    record = peer_file(network, 1)
    assert isinstance(await ask(network, Store(record.wire)), Stored)
    values = await ask(network, FindValue(KEY))
    named = {unpack_contact_untrusted(data) for data in values.contacts}
    assert values.records == ()
    assert named == {node.contact for node in network.nodes[-3:]}


async def test_a_dropper_answers_no_question(autojump_clock, network, gang):
    gang.turn(network.nodes[-1], Lie.DROP)
    with pytest.raises(RequestTimeout):
        await ask(network, FindNode(KEY))


async def test_a_delayer_answers_the_truth_late(autojump_clock, network, gang):
    gang.turn(network.nodes[-1], Lie.DELAY)
    arrived = trio.Event()
    network.nodes[0].rpc.on_observed = lambda *_: arrived.set()
    sent_at = trio.current_time()
    try:
        await ask(network, FindNode(KEY))
    except RequestTimeout:
        return
    assert trio.current_time() - sent_at >= DELAY_S[0]


async def test_a_replayer_gives_the_oldest_version_that_the_gang_saw(
    autojump_clock, network, gang
):
    gang.turn(network.nodes[-1], Lie.REPLAY)
    old, new = peer_file(network, 1), peer_file(network, 2)
    for record in (old, new):
        assert isinstance(await ask(network, Store(record.wire)), Stored)
    values = await ask(network, FindValue(KEY))
    assert values.records == (old.wire,)


async def test_what_a_forger_gives_does_not_verify(autojump_clock, network, gang):
    gang.turn(network.nodes[-1], Lie.FORGE)
    await ask(network, Store(peer_file(network, 1).wire))
    values = await ask(network, FindValue(KEY))
    assert len(values.records) == 1
    with pytest.raises(RecordError):
        verify_record_untrusted(values.records[0], network.wall_clock())


@pytest.mark.parametrize("public", [False, True])
async def test_planted_nodes_are_nearer_to_the_key_than_anybody_honest(
    autojump_clock, nursery, public
):
    network = DhtNetwork(nursery, 1, public=public)
    await network.grow(20)
    honest = min(distance(node.rpc.node_id, KEY) for node in network.nodes)
    planted = await plant(network, KEY, 4, random.Random(1))
    for node in planted:
        host = node.hub.local.host
        assert is_public(host) is public
        assert fits_address(node.rpc.node_id, host)
        assert distance(node.rpc.node_id, KEY) < honest
    subnets = {node.hub.local.host.rpartition(".")[0] for node in planted}
    assert len(subnets) == (4 if public else 1)
    network.close()


async def test_the_chosen_share_of_nodes_lies(autojump_clock, network, gang):
    honest = choose_liars(network, 0.25, list(Lie), gang)
    assert len(gang.members) == 3
    assert len(honest) == 9
