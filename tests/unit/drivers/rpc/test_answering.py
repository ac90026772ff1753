"""`answering`: never more bytes than came in, at most once where that matters."""

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import NetworkError, RefusalCode, RequestRefused
from opnode.protocols.rpc.datagrams import decode_reply_untrusted, encode_request
from opnode.protocols.rpc.limits import LimitConfig, Rates
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    MAX_DATAGRAM,
    Answered,
    Failure,
    FailureCode,
    FindNode,
    FindValue,
    Introduce,
    Introduced,
    Nodes,
    Offer,
    Ping,
    Refuse,
    Values,
    network_id_of,
)
from tests.unit.drivers.rpc.wires import (
    CONTACTS,
    SENDER,
    Deaf,
    ask_raw,
    plug,
    receive,
    request_bytes,
)


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


async def test_an_unproven_sender_is_reported_only_if_it_paid_for_being_pinged(
    autojump_clock, net
):
    one, socket = await net.rpc(1), await net.raw()
    met = []
    one.on_asked = lambda asked: met.append(asked.verified)
    await ask_raw(socket, one, request_bytes(Ping(), size=100))
    assert met == []
    await ask_raw(socket, one, request_bytes(Ping(), size=310))
    assert met == [False]


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


SCARCE = LimitConfig(private=Rates(10.0, 10.0, 10.0), burst_s=1.0, busy_per_s=2.0)


async def test_a_flood_without_a_token_is_dropped_unanswered(autojump_clock, net):
    rpc, socket = await net.rpc(1, limits=SCARCE), await net.raw()
    for number in range(100):
        data = request_bytes(Ping(), size=100, transaction=b"%08d" % number)
        socket.send(data, rpc.local)
    answers = [await receive(socket) for _ in range(20)]
    answers = [answer for answer in answers if answer]
    assert 5 <= len(answers) <= 6
    statistics = rpc.statistics()
    assert statistics.served + statistics.limited == 100


async def test_a_flood_with_a_token_is_told_now_and_then_that_we_are_busy(
    autojump_clock, net
):
    rpc, socket = await net.rpc(1, limits=SCARCE), await net.raw()
    token = (await ask_raw(socket, rpc, request_bytes(Ping(), size=100))).token
    for number in range(100):
        data = request_bytes(Ping(), token, transaction=b"%08d" % number)
        socket.send(data, rpc.local)
    bodies = []
    while data := await receive(socket):
        bodies.append(decode_reply_untrusted(data, MAIN_NETWORK).body)
    busy = [body for body in bodies if isinstance(body, Failure)]
    assert 10 <= len(bodies) - len(busy) <= 11
    assert {body.code for body in busy} == {RefusalCode.BUSY}
    assert 2 <= len(busy) <= 3


async def test_one_hot_key_leaves_work_for_others(autojump_clock, net):
    rpc, socket = await net.rpc(1, limits=SCARCE), await net.raw()
    rpc.serve(FindValue, lambda _: Values((), 0, ()))
    token = (await ask_raw(socket, rpc, request_bytes(Ping(), size=100))).token
    await trio.sleep(10)
    for number in range(9):
        body = FindValue(b"h" * 20)
        data = request_bytes(body, token, transaction=b"%08d" % number)
        socket.send(data, rpc.local)
    await trio.sleep(1)
    assert rpc.statistics().limited in (3, 4)
    answer = await ask_raw(socket, rpc, request_bytes(FindValue(b"o" * 20), token))
    assert answer is not None


async def test_a_shorter_repetition_does_not_get_the_longer_answer(autojump_clock, net):
    rpc, socket = await net.rpc(1), await net.raw()
    rpc.serve(Offer, lambda _: Answered(bytes(1000)))
    long = request_bytes(Offer(bytes(16), bytes(100)), size=1200)
    socket.send(long, rpc.local)
    assert len(await receive(socket)) > 1000
    socket.send(long[:300], rpc.local)
    assert await receive(socket) is None
    socket.send(long, rpc.local)
    assert len(await receive(socket)) > 1000


async def test_pings_of_another_network_are_rationed_too(autojump_clock, net):
    rpc, socket = await net.rpc(1, limits=SCARCE), await net.raw()
    sender = SENDER._replace(network=network_id_of("another"))
    for number in range(100):
        data = encode_request(sender, b"%08d" % number, b"", Ping(), 200)
        socket.send(data, rpc.local)
    answers = 0
    while await receive(socket):
        answers += 1
    assert answers in (5, 6)
    assert rpc.statistics().limited == 100 - answers


SEEN_AT = Endpoint("9.8.7.6", 41000)


async def test_a_request_by_a_carrier_is_told_where_the_carrier_is_seen(
    autojump_clock, net
):
    client, server = await net.rpc(1), await net.rpc(2)
    name, carrier = plug(client, server, SEEN_AT)
    sources, hosts, asked = [], [], []

    def serve(request):
        sources.append(request.source)
        hosts.append(request.host)
        return Nodes(())

    server.serve(FindNode, serve)
    server.on_asked = asked.append
    answer = await client.request(server.local, FindNode(bytes(20)))
    assert answer.observed == SEEN_AT
    assert (sources, hosts) == ([name], ["9.8.7.6"])
    assert carrier.carried == 1
    assert asked == []


async def test_a_token_given_over_a_carrier_is_good_there_alone(autojump_clock, net):
    client, server = await net.rpc(1), await net.rpc(2)
    plug(client, server, SEEN_AT)
    verified = []

    def serve(request):
        verified.append(request.verified)
        return Nodes(())

    server.serve(FindNode, serve)
    await client.request(server.local, Ping())
    client.start(server.local, FindNode(bytes(20)), Deaf())
    client._station.hub.remove_carrier(server.local)
    client.start(server.local, FindNode(bytes(20)), Deaf())
    await trio.sleep(0.2)
    assert verified[0] is True
    assert set(verified[1:]) == {False}


async def test_limits_by_host_count_a_carriers_real_host(autojump_clock, net):
    rates = Rates(address=0.1, subnet=1000.0, total=10000.0)
    limits = LimitConfig(public=rates, unproven=1.0, burst_s=5.0)
    server = await net.rpc(2, limits=limits)
    one, two, three = await net.rpc(1), await net.rpc(3), await net.rpc(4)
    plug(one, server, SEEN_AT)
    plug(two, server, SEEN_AT._replace(port=41001))
    plug(three, server, Endpoint("9.8.7.77", 41000))
    await one.request(server.local, Ping())
    with pytest.raises(NetworkError):
        await two.request(server.local, Ping())
    await three.request(server.local, Ping())
