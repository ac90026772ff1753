"""`asking`: timers repair losses, replies count once, tokens are shown and renewed."""

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RequestRefused, RequestTimeout
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.exchange import Waiter
from opnode.protocols.rpc.datagrams import (
    DIAL_BACK_SIZE,
    decode_request_untrusted,
    encode_reply,
)
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    Answered,
    Changed,
    DialBack,
    Dialled,
    FailureCode,
    FindNode,
    Introduce,
    Nodes,
    Noted,
    Offer,
    Ping,
    Pong,
    Refuse,
    Store,
    Stored,
)
from tests.unit.drivers.rpc.wires import CONTACTS, SENDER, Deaf, plug, receive


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


async def test_a_question_for_another_is_small_and_answered_in_full_all_the_same(
    autojump_clock, net
):
    one, two = await net.rpc(1), await net.rpc(2)
    two.serve(FindNode, lambda request: Nodes(CONTACTS[: request.room // 30]))
    heard = []
    one.on_answered = heard.append
    waiter = Waiter()
    one.start(two.local, FindNode(bytes(20)), waiter, is_for_another=True)
    await waiter.done.wait()
    assert waiter.answer.body == Nodes(CONTACTS)
    assert heard == [], "nor is whoever another had us ask a contact"
    (line,) = [t for t in one.statistics().traffic if t.message == "FIND_NODE"]
    assert line.datagrams_out == 2
    assert line.bytes_out < 2 * 80


async def test_a_dial_is_not_paid_for_before_there_is_a_token_for_it(
    autojump_clock, net
):
    one, two = await net.rpc(1), await net.rpc(2)

    def serve(request):
        if not request.verified:
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        sizes.append(request.size)
        return Noted()

    sizes = []
    two.serve(DialBack, serve)
    await one.request(two.local, DialBack(bytes(16)))
    assert sizes == [DIAL_BACK_SIZE]
    (line,) = [t for t in one.statistics().traffic if t.message == "DIAL_BACK"]
    assert line.bytes_out < DIAL_BACK_SIZE + 80


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


async def test_too_many_requests_at_once_fail_by_name(autojump_clock, net):
    one, socket = await net.rpc(1), await net.raw()
    limits = RpcConfig().transactions.max_pending
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


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (Changed(b"record"), Noted()),
        (Dialled(bytes(16)), Noted()),
        (Offer(bytes(16), b"sealed"), Answered(b"sealed")),
    ],
    ids=["CHANGED", "DIALLED", "OFFER"],
)
async def test_whoever_others_had_us_ask_is_no_contact_and_no_witness_by_that(
    autojump_clock, net, body, reply
):
    one, two = await net.rpc(1), await net.rpc(2)
    two.serve(type(body), lambda _: reply)
    heard = []
    one.on_answered = heard.append
    one.on_observed = lambda reporter, _: heard.append(reporter)
    assert (await one.request(two.local, body)).body == reply
    assert heard == []
    await one.request(two.local, Ping())
    assert len(heard) == 2


async def test_where_a_carrier_is_seen_is_no_vote_on_our_address(autojump_clock, net):
    client, server = await net.rpc(1), await net.rpc(2)
    plug(client, server, Endpoint("203.0.113.9", 41000))
    votes, answers = [], []
    client.on_observed = lambda *vote: votes.append(vote)
    client.on_answered = lambda answer: answers.append(answer.contact.endpoint)
    await client.request(server.local, Ping())
    assert votes == []
    assert answers == [server.local]


async def test_whoever_is_asked_by_a_carriers_name_is_no_contact(autojump_clock, net):
    client, server = await net.rpc(1), await net.rpc(2)
    name, _ = plug(client, server, Endpoint("203.0.113.9", 41000))
    answers = []
    server.on_answered = answers.append
    await server.request(name, Ping())
    assert answers == []


async def test_a_forgotten_peer_is_asked_without_its_old_token(autojump_clock, net):
    one, two = await net.rpc(1), await net.rpc(2)
    await one.request(two.local, Ping())
    assert one.token_for(two.local)
    one.forget_peer(two.local)
    assert not one.token_for(two.local)
    one.forget_peer(two.local)
