"""`rpc`: replies to valid requests alone, never more bytes than came in."""

import random
from collections import Counter
from functools import partial

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RefusalCode, RequestRefused, RequestTimeout
from opnode.core.ids import NodeId, node_id_of
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.datagrams import (
    Sender,
    decode_reply_untrusted,
    decode_request_untrusted,
    encode_reply,
    encode_request,
)
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    MAX_DATAGRAM,
    Failure,
    FailureCode,
    FindNode,
    FindValue,
    Introduce,
    Introduced,
    Nodes,
    Ping,
    Pong,
    Refuse,
    Store,
    Stored,
    Values,
    network_id_of,
)
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import Link, VirtualNetwork

STRANGER = NodeId(b"s" * 20)
SENDER = Sender(MAIN_NETWORK, STRANGER, leaf=False)
CONTACTS = (bytes(20) + b"\x0a\x00\x00\x01\x10\x00",) * 20
LATENCY_S = 0.05


class Net:
    """Rpcs and a raw socket on one virtual network."""

    def __init__(self, nursery, latency_s=LATENCY_S, loss=0.0):
        link = Link(latency_s=(latency_s, latency_s), loss=loss)
        self.network = VirtualNetwork(random.Random(1), link)
        self.nursery = nursery

    async def rpc(self, number, *, leaf=False, **limits):
        host = self.network.host(f"10.0.0.{number}")
        hub = SocketHub(await host.bind(Endpoint(host.address, 4000)))
        key = seeded_signing_key(f"rpc {number}")
        rpc = Rpc(
            hub,
            node_id=node_id_of(key.public, host.address),
            leaf=leaf,
            signing_key=key,
            rng=random.Random(number),
            config=RpcConfig(**limits),
        )
        await self.nursery.start(hub.run)
        await self.nursery.start(rpc.run)
        return rpc

    async def raw(self, number=99):
        host = self.network.host(f"10.0.0.{number}")
        return RawSocket(await host.bind(Endpoint(host.address, 4000)))


class Deaf:
    """A listener that does not care."""

    def answered(self, answer):
        pass

    def slow(self):
        pass

    def failed(self, error):
        pass


class RawSocket:
    """A socket that takes apart the runs which arrive as one."""

    def __init__(self, socket):
        self._socket = socket
        self._waiting = []
        self.local = socket.local
        self.send = socket.send

    async def next(self):
        """The next datagram and its source."""
        while not self._waiting:
            await self._socket.wait_readable()
            received = self._socket.receive()
            if received is not None:
                data, size = bytes(received.buffer), received.segment_size
                self._waiting += [
                    (data[at : at + size], received.source)
                    for at in range(0, len(data), size)
                ]
        return self._waiting.pop(0)


@pytest.fixture
async def net(nursery):
    return Net(nursery)


async def receive(socket, within_s=1.0):
    """The next datagram, or None when none comes."""
    with trio.move_on_after(within_s):
        data, _ = await socket.next()
        return data
    return None


async def ask_raw(socket, rpc, data):
    socket.send(data, rpc.local)
    answer = await receive(socket)
    return decode_reply_untrusted(answer, MAIN_NETWORK) if answer else None


def request_bytes(body, token=b"", size=0, transaction=b"12345678"):
    return encode_request(SENDER, transaction, token, body, size)


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
    one.on_contact = lambda contact, _: met.append(contact)
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
    one.on_contact = lambda contact, _: met.append(contact)
    with pytest.raises(RequestRefused) as refusal:
        await one.prove(other.local)
    assert refusal.value.code == FailureCode.OTHER_NETWORK
    with pytest.raises(RequestTimeout):
        await one.request(other.local, FindNode(bytes(20)))
    assert other.statistics().other_network >= 2
    assert met == [], "a node of another network is no contact"


async def test_a_silent_node_is_asked_twice_and_then_given_up(autojump_clock, net):
    one, socket = await net.rpc(1), await net.raw()
    started_at = trio.current_time()
    missed = []
    one.on_failure = missed.append
    with pytest.raises(RequestTimeout, match="does not answer FindNode"):
        await one.request(socket.local, FindNode(bytes(20)))
    assert trio.current_time() - started_at == pytest.approx(1.5, rel=0.1)
    assert missed == [socket.local]
    first, second = await receive(socket), await receive(socket)
    assert first == second
    assert await receive(socket) is None


async def test_an_introduction_is_sent_ten_times(autojump_clock, net):
    one, socket = await net.rpc(1), await net.raw()
    with pytest.raises(RequestTimeout):
        await one.request(socket.local, Introduce(bytes(16), 10, b"sealed"))
    for _ in range(10):
        assert await receive(socket) is not None
    assert await receive(socket) is None


async def test_a_patient_request_is_sent_four_times(autojump_clock, net):
    one, socket = await net.rpc(1), await net.raw()
    one.start(socket.local, Ping(), Deaf(), is_patient=True)
    await trio.sleep(10)
    for _ in range(4):
        assert await receive(socket) is not None
    assert await receive(socket) is None


async def test_a_lost_request_is_repaired_by_its_retransmission(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    net.network.kill("10.0.0.2")
    net.nursery.start_soon(revive_later, net)
    answer = await one.request(two.local, Ping())
    assert answer.body == Pong()
    assert one.statistics().retransmitted == 1


async def revive_later(net):
    await trio.sleep(0.3)
    net.network.revive("10.0.0.2")


async def test_a_cancelled_request_is_forgotten_and_its_reply_unexpected(
    autojump_clock, net
):
    one, two = await net.rpc(1), await net.rpc(2)
    with trio.move_on_after(0.06):
        await one.request(two.local, Ping())
    assert one.statistics().pending == 0
    await trio.sleep(1)
    assert one.statistics().unexpected == 1
    assert one.statistics().retransmitted == 0


async def test_a_reply_from_another_address_is_not_accepted(autojump_clock, net):
    one, socket, forger = await net.rpc(1), await net.raw(98), await net.raw(99)

    async def forge():
        data, _ = await socket.next()
        asked = decode_request_untrusted(data, MAIN_NETWORK)
        reply = encode_reply(SENDER, asked.transaction_id, b"", one.local, Pong())
        forger.send(reply, one.local)

    net.nursery.start_soon(forge)
    with pytest.raises(RequestTimeout):
        await one.request(socket.local, Ping())
    assert one.statistics().unexpected == 1


async def test_without_a_token_the_request_is_padded_and_with_one_it_is_short(
    autojump_clock, net
):
    one, socket = await net.rpc(1), await net.raw()

    async def answer_all():
        while True:
            data, source = await socket.next()
            sizes.append(len(data))
            asked = decode_request_untrusted(data, MAIN_NETWORK)
            reply = encode_reply(
                SENDER, asked.transaction_id, b"tokentok", source, Nodes(())
            )
            socket.send(reply, source)

    sizes = []
    net.nursery.start_soon(answer_all)
    for _ in range(2):
        await one.request(socket.local, FindNode(bytes(20)))
    await trio.sleep(400)
    await one.request(socket.local, FindNode(bytes(20)))
    assert sizes[0] > 600
    assert sizes[1] < 80
    assert sizes[2] > 600, "a token that may have run out is not relied on"


async def test_a_reply_is_never_larger_than_a_request_without_a_valid_token(
    autojump_clock, net
):
    one, socket = await net.rpc(1), await net.raw()
    rooms = []

    def serve(request):
        rooms.append(request.room)
        return Nodes(CONTACTS)

    one.serve(FindNode, serve)
    short = request_bytes(FindNode(bytes(20)))
    refused = await ask_raw(socket, one, short)
    assert refused.body.code == FailureCode.TOKEN_NEEDED
    assert refused.token
    assert one.statistics().too_large == 1
    with_token = await ask_raw(
        socket, one, request_bytes(FindNode(bytes(20)), refused.token)
    )
    assert with_token.body == Nodes(CONTACTS)
    forged = await ask_raw(socket, one, request_bytes(FindNode(bytes(20)), b"forgedto"))
    assert forged.body.code == FailureCode.TOKEN_NEEDED
    assert rooms[0] < 100 < rooms[1] == rooms[2]


async def test_a_request_too_small_for_any_reply_gets_none(autojump_clock, net):
    one, socket = await net.rpc(1), await net.raw()
    assert await ask_raw(socket, one, request_bytes(Ping())) is None
    assert await ask_raw(socket, one, request_bytes(Ping(), size=70)) is not None


async def test_a_refused_token_is_replaced_and_the_question_repeated_once(
    autojump_clock, net
):
    one, two = await net.rpc(1), await net.rpc(2)
    seen = []

    def serve(request):
        seen.append(request.verified)
        if len(seen) != 2:
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        return Stored()

    two.serve(Store, serve)
    answer = await one.request(two.local, Store(b"record"))
    assert answer.body == Stored()
    assert seen == [False, True]
    with pytest.raises(RequestRefused):
        await one.request(two.local, Store(b"record"))
    assert len(seen) == 4


async def test_a_refusal_brings_its_code_and_detail(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)

    def serve(request):
        raise Refuse(FailureCode.BAG_FULL, "sixteen already")

    two.serve(Store, serve)
    with pytest.raises(RequestRefused) as refusal:
        await one.request(two.local, Store(b"record"))
    assert refusal.value.code == FailureCode.BAG_FULL
    assert refusal.value.detail == "sixteen already"
    assert one.statistics().refused == 1


async def test_a_request_that_nobody_serves_is_refused_by_name(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    with pytest.raises(RequestRefused, match="FindValue") as refusal:
        await one.request(two.local, FindValue(bytes(20)))
    assert refusal.value.code == FailureCode.NOT_SERVED


async def test_an_introduction_under_way_is_not_passed_twice_and_answered_once_more(
    autojump_clock, net
):
    one, socket = await net.rpc(1), await net.raw()
    served = []

    def serve(request):
        served.append(request)

    one.serve(Introduce, serve)
    data = request_bytes(Introduce(bytes(16), 10, b"sealed"), size=MAX_DATAGRAM)
    for _ in range(3):
        assert await ask_raw(socket, one, data) is None
    assert len(served) == 1
    assert one.statistics().deferred == 1
    one.reply(served[0], Introduced(b"answer"))
    one.reply(served[0], Introduced(b"a second answer"))
    first = await receive(socket)
    again = await ask_raw(socket, one, data)
    assert again.body == Introduced(b"answer")
    assert decode_reply_untrusted(first, MAIN_NETWORK) == again
    assert len(served) == 1
    assert one.statistics().duplicates == 3


async def test_a_deferred_request_can_be_refused(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)

    def serve(request):
        net.nursery.start_soon(refuse_later, two, request)

    two.serve(Introduce, serve)
    with pytest.raises(RequestRefused) as refusal:
        await one.request(two.local, Introduce(bytes(16), 10, b"sealed"))
    assert refusal.value.code == RefusalCode.BUSY


async def refuse_later(rpc, request):
    await trio.sleep(0.2)
    rpc.refuse(request, RefusalCode.BUSY, "later" * 100)


async def test_contacts_are_reported_verified_or_not_and_leaves_never(
    autojump_clock, net
):
    one, two, leaf = await net.rpc(1), await net.rpc(2), await net.rpc(3, leaf=True)
    one.serve(FindNode, lambda _: Nodes(()))
    met = []
    one.on_contact = lambda contact, verified: met.append((contact, verified))
    for rpc in (two, two, leaf):
        await rpc.request(one.local, FindNode(bytes(20)))
    contact = (two.node_id, two.local)
    assert met == [(contact, False), (contact, True)]
    leaf.serve(FindNode, lambda _: Nodes(()))
    await one.request(two.local, Ping())
    await one.request(leaf.local, Ping())
    assert met[2:] == [(contact, True)]


async def test_an_unproven_sender_is_reported_only_if_it_paid_for_being_pinged(
    autojump_clock, net
):
    one, socket = await net.rpc(1), await net.raw()
    met = []
    one.on_contact = lambda _, verified: met.append(verified)
    await ask_raw(socket, one, request_bytes(Ping(), size=100))
    assert met == []
    await ask_raw(socket, one, request_bytes(Ping(), size=300))
    assert met == [False]


async def test_observed_by_asks_only_when_it_does_not_know(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    told = []
    one.on_observed = lambda reporter, ours: told.append((reporter, ours))
    assert await one.observed_by(two.local) == one.local
    assert await one.observed_by(two.local) == one.local
    assert told == [(two.local, one.local)]
    assert one.token_for(two.local)


async def test_too_many_requests_at_once_fail_by_name(autojump_clock, net):
    one, socket = await net.rpc(1), await net.raw()
    limits = one._config.transactions.max_pending
    refused = 0
    async with trio.open_nursery() as nursery:
        for _ in range(limits):
            nursery.start_soon(expect_timeout, one, socket.local)
        await trio.sleep(0.01)
        try:
            await one.request(socket.local, Ping())
        except RequestTimeout as error:
            refused += "limit" in str(error)
        nursery.cancel_scope.cancel()
    assert refused == 1
    assert one.statistics().pending == 0


async def expect_timeout(rpc, destination):
    with pytest.raises(RequestTimeout):
        await rpc.request(destination, Ping())


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


async def test_two_runs_of_one_key_use_other_tokens_and_transaction_ids(
    autojump_clock, net
):
    host = net.network.host("10.0.0.8")
    hub = SocketHub(await host.bind(Endpoint("10.0.0.8", 4000)))
    key = seeded_signing_key("rpc")
    secrets = {
        Rpc(
            hub, node_id=STRANGER, leaf=False, signing_key=key, rng=random.Random(seed)
        )._draw_secret()
        for seed in (1, 2)
    }
    assert len(secrets) == 2


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


async def test_values_may_fill_the_datagram_for_a_verified_asker(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    full = Values((bytes(1137),), 1, ())
    two.serve(FindValue, lambda _: full)
    assert (await one.request(two.local, FindValue(bytes(20)))).body == full
    assert (await one.request(two.local, FindValue(bytes(20)))).body == full


async def test_failures_have_bounded_details(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)

    def serve(request):
        raise Refuse(99, "d" * 1000)

    two.serve(FindNode, serve)
    with pytest.raises(RequestRefused) as refusal:
        await one.request(two.local, FindNode(bytes(20)))
    assert len(refusal.value.detail) == 80
    assert Failure(99, refusal.value.detail)
