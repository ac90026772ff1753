"""`rpc`: both halves together: proofs, other networks, contacts, observed addresses."""

import random
from collections import Counter
from functools import partial

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RefusalCode, RequestRefused, RequestTimeout
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.budget import BudgetConfig
from opnode.protocols.rpc.datagrams import (
    decode_request_untrusted,
    encode_reply,
    encode_request,
)
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    Dialled,
    FailureCode,
    FindNode,
    Nodes,
    Offer,
    Ping,
    Pong,
    Store,
    Stored,
    network_id_of,
)
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.rpc.wires import (
    CONTACTS,
    LATENCY_S,
    SENDER,
    STRANGER,
    Deaf,
    receive,
)


async def test_a_ping_is_answered_with_who_where_and_when(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    answer = await one.request(two.local, Ping())
    assert answer.body == Pong()
    assert answer.contact == (two.node_id, two.local)
    assert answer.observed == one.local
    assert answer.rtt_s == pytest.approx(2 * LATENCY_S, rel=0.1)
    assert not answer.leaf


async def test_prove_returns_the_key_that_signed(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    assert await one.prove(two.local) == seeded_signing_key("rpc 2").public


@pytest.mark.parametrize("change", ["other nonce", "no key", "not a pong"])
async def test_a_proof_that_does_not_verify_is_refused(autojump_clock, net, change):
    one, socket = await net.rpc(1), await net.raw()
    key = seeded_signing_key("liar")

    async def lie():
        data, source = await socket.next()
        asked = decode_request_untrusted(data, MAIN_NETWORK)
        body = {
            "other nonce": Pong(key.public, key.sign(b"something else")),
            "no key": Pong(),
            "not a pong": Stored(),
        }[change]
        socket.send(
            encode_reply(SENDER, asked.transaction_id, b"", source, body), source
        )

    net.nursery.start_soon(lie)
    with pytest.raises(RequestRefused):
        await one.prove(socket.local)


async def relay(net, front, back, seed, *, node_id):
    """Pass on what comes to ``front`` to the seed, its answer under another id."""
    while True:
        question, asker = await front.next()
        back.send(question, seed)
        answer, _ = await back.next()
        front.send(answer[:17] + node_id + answer[37:], asker)


@pytest.mark.parametrize("own_id", [True, False], ids=["seed's id", "liar's id"])
async def test_a_proof_cannot_be_fetched_from_the_seed_by_who_sits_at_its_address(
    autojump_clock, net, own_id
):
    asker, seed = await net.rpc(1), await net.rpc(2)
    front, back = await net.raw(98), await net.raw(99)
    node_id = seed.node_id if own_id else STRANGER
    net.nursery.start_soon(
        partial(relay, net, front, back, seed.local, node_id=node_id)
    )
    with pytest.raises(RequestRefused, match="not my address") as refusal:
        await asker.prove(front.local)
    assert refusal.value.code == FailureCode.OTHER_ADDRESS


async def test_a_seed_that_cannot_know_its_address_still_signs_only_for_its_own_id(
    autojump_clock, net
):
    asker, seed = await net.rpc(1), await net.rpc(2)
    seed.prover.may_be_ours = lambda _: True
    front, back = await net.raw(98), await net.raw(99)
    net.nursery.start_soon(
        partial(relay, net, front, back, seed.local, node_id=STRANGER)
    )
    with pytest.raises(RequestRefused, match="does not prove"):
        await asker.prove(front.local)


async def test_whoever_is_asked_for_a_proof_is_no_contact_by_that(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    met, told = [], []
    one.on_answered = lambda answer: met.append(answer.contact)
    one.on_observed = lambda reporter, _: told.append(reporter)
    await one.prove(two.local)
    assert (met, told) == ([], [])
    await one.request(two.local, Ping())
    assert met == [(two.node_id, two.local)]
    assert told == [two.local]


async def test_proofs_are_rationed(autojump_clock, net):
    one = await net.rpc(1, proofs_per_s=5)
    two = await net.rpc(2)
    verdicts = Counter()

    async def ask():
        try:
            await two.prove(one.local)
            verdicts["proven"] += 1
        except RequestRefused as refusal:
            verdicts[RefusalCode(refusal.code)] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert verdicts["proven"] == 6
    assert verdicts[RefusalCode.BUSY] == 14


async def test_another_network_is_named_to_a_ping_and_ignored_otherwise(
    autojump_clock, net
):
    one = await net.rpc(1)
    other = await net.rpc(2, network=network_id_of("other"))
    met = []
    one.on_answered = lambda answer: met.append(answer.contact)
    with pytest.raises(RequestRefused) as refusal:
        await one.prove(other.local)
    assert refusal.value.code == FailureCode.OTHER_NETWORK
    with pytest.raises(RequestTimeout):
        await one.request(other.local, FindNode(bytes(20)))
    assert other.statistics().other_network >= 2
    assert met == [], "a node of another network is no contact"


async def test_askers_are_reported_verified_or_not_and_leaves_as_leaves(
    autojump_clock, net
):
    one, two, leaf = await net.rpc(1), await net.rpc(2), await net.rpc(3, leaf=True)
    one.serve(FindNode, lambda _: Nodes(()))
    met = []
    one.on_asked = lambda asked: met.append((asked.contact, asked.verified, asked.leaf))
    for rpc in (two, two, leaf):
        await rpc.request(one.local, FindNode(bytes(20)))
    contact = (two.node_id, two.local)
    own = (leaf.node_id, leaf.local)
    assert met == [(contact, False, False), (contact, True, False), (own, False, True)]
    answered = []
    one.on_answered = lambda answer: answered.append((answer.contact, answer.leaf))
    await one.request(two.local, Ping())
    await one.request(leaf.local, Ping())
    assert answered == [(contact, False), (own, True)]


async def test_observed_by_asks_only_when_it_does_not_know(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    told = []
    one.on_observed = lambda reporter, ours: told.append((reporter, ours))
    assert await one.observed_by(two.local) == one.local
    assert await one.observed_by(two.local) == one.local
    assert told == [(two.local, one.local)]
    assert one.token_for(two.local)


async def test_node_id_and_role_can_change_while_running(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    two.node_id = STRANGER
    two.leaf = True
    answer = await one.request(two.local, Ping())
    assert answer.contact.node_id == STRANGER
    assert answer.leaf
    assert two.leaf
    assert two.network_id == MAIN_NETWORK


async def test_without_a_key_no_proof_is_given(autojump_clock, net):
    host = net.network.host("10.0.0.7")
    hub = SocketHub(await host.bind(Endpoint("10.0.0.7", 4000)))
    rpc = Rpc(hub, node_id=STRANGER, leaf=False, signing_key=None, rng=random.Random(1))
    await net.nursery.start(hub.run)
    one = await net.rpc(1)
    with pytest.raises(RequestRefused) as refusal:
        await one.prove(rpc.local)
    assert refusal.value.code == FailureCode.NOT_SERVED


@pytest.mark.parametrize(
    "data",
    [
        b"\xc0" * 30,
        b"\xc1" * 30,
        b"\xc5" + bytes(100),
        encode_reply(SENDER, bytes(8), b"", Endpoint("10.0.0.1", 1), Pong()),
        encode_request(
            SENDER._replace(network=bytes(8)), bytes(8), b"", Store(b"r"), 300
        ),
        encode_request(SENDER._replace(network=bytes(8)), bytes(8), b"", Ping()),
        encode_request(SENDER._replace(network=bytes(8)), bytes(8), b"", Ping(), 90)[
            :60
        ],
        encode_reply(
            SENDER._replace(network=bytes(8)), bytes(8), b"", Endpoint("::1", 1), Pong()
        ),
    ],
)
async def test_what_is_not_a_valid_request_is_counted_and_not_answered(
    autojump_clock, net, data
):
    one, socket = await net.rpc(1), await net.raw()
    socket.send(data, one.local)
    answer = await receive(socket)
    assert answer is None
    counts = one.statistics()
    assert counts.malformed + counts.unexpected + counts.other_network == 1
    assert counts.served == 0


def line_of(rpc, message, side):
    lines = [
        line
        for line in rpc.statistics().traffic
        if (line.message, line.side) == (message, side)
    ]
    return lines[0] if lines else None


async def test_traffic_is_counted_by_its_cause_and_equals_what_the_socket_saw(
    autojump_clock, net
):
    one, two = await net.rpc(1), await net.rpc(2)
    two.serve(FindNode, lambda _: Nodes(CONTACTS))
    await one.request(two.local, Ping())
    await one.request(two.local, FindNode(bytes(20)))
    socket = await net.raw()
    socket.send(b"\xc5" + bytes(50), two.local)
    socket.send(b"\xc1" + bytes(200), two.local)
    await trio.sleep(1)
    for message in ("PING", "FIND_NODE"):
        asked, served = line_of(one, message, "asked"), line_of(two, message, "served")
        assert asked.datagrams_out == served.datagrams_in == 1
        assert asked.bytes_out == served.bytes_in > 0
        assert asked.bytes_in == served.bytes_out > 0
    other = line_of(two, "OTHER", "served")
    assert (other.datagrams_in, other.bytes_in) == (2, 51 + 201)
    for rpc in (one, two):
        lines = rpc.statistics().traffic
        seen = rpc._station.hub.statistics().socket
        assert sum(line.bytes_in for line in lines) == seen.bytes_in
        assert sum(line.bytes_out for line in lines) == seen.bytes_out


async def test_repetitions_count_as_traffic(autojump_clock, net):
    one = await net.rpc(1)
    with pytest.raises(RequestTimeout):
        await one.request(Endpoint("10.0.0.77", 4000), Ping())
    assert line_of(one, "PING", "asked").datagrams_out == 2


async def test_what_others_have_us_ask_takes_no_room_from_our_own_work(
    autojump_clock, net
):
    budget = BudgetConfig(endpoints_per_min=60.0, endpoints_burst=10.0)
    one = await net.rpc(1, budget=budget)
    assert one.has_room_for_another()
    for port in range(1, 31):
        endpoint = Endpoint("8.8.8.8", port)
        one.start(endpoint, FindNode(bytes(20)), Deaf(), is_for_another=True)
    assert not one.has_room_for_another()
    assert one.has_room_for_strangers()
    assert one.statistics().budget.endpoints_per_min_used == 0


async def test_what_is_passed_on_for_others_takes_no_room_from_our_own_work(
    autojump_clock, net
):
    budget = BudgetConfig(packets_per_s=1.0, packets_burst=10.0)
    one = await net.rpc(1, budget=budget)
    one.start(Endpoint("8.8.8.8", 1), Offer(bytes(16), b"sealed"), Deaf())
    one.start(Endpoint("8.8.4.4", 1), Dialled(bytes(16)), Deaf())
    await trio.sleep(5)
    assert not one.has_room_for_another()
    assert one.has_room_for_strangers()


async def test_background_work_waits_for_room_in_the_budget(autojump_clock, net):
    budget = BudgetConfig(endpoints_per_min=60.0, endpoints_burst=10.0)
    one = await net.rpc(1, budget=budget)
    assert one.has_room()
    await one.wait_room()
    for port in range(1, 9):
        one.start(Endpoint("8.8.8.8", port), Ping(), Deaf())
    assert not one.has_room()
    assert not one.is_spent()
    before = trio.current_time()
    await one.wait_room()
    assert trio.current_time() - before == pytest.approx(3.0, abs=0.1)
    assert one.statistics().budget.waits == 2
    for port in range(101, 120):
        one.start(Endpoint("8.8.8.8", port), Ping(), Deaf())
    assert one.is_spent()


async def test_writes_to_watched_addresses_are_remembered_whoever_began(
    autojump_clock, net
):
    one, other = await net.rpc(1), await net.rpc(2)
    assert one.last_written(other.local) is None
    one.watch_writes([other.local])
    began_at = trio.current_time()
    assert one.last_written(other.local) == began_at
    await trio.sleep(5)
    await one.request(other.local, Ping())
    assert one.last_written(other.local) >= began_at + 5
    await trio.sleep(5)
    await other.request(one.local, Ping())
    assert one.last_written(other.local) >= began_at + 10
    one.watch_writes([])
    assert one.last_written(other.local) is None
