"""`dialling`: strangers dial whoever asked and paid, and nobody else."""

import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RefusalCode, RequestRefused
from opnode.drivers.dht.dialling import Dialler, DiallingConfig
from opnode.protocols.rpc.datagrams import decode_request_untrusted
from opnode.protocols.rpc.messages import (
    DIAL_SIZE,
    MAIN_NETWORK,
    Dial,
    DialBack,
    Dialled,
    FailureCode,
    Noted,
    Ping,
    pack_endpoint,
)

NONCE = b"n" * 16


async def dialling(network, nursery, host, contacts=(), **limits):
    node = await network.add(host=host)
    dialler = Dialler(
        node.rpc,
        lambda: [contact.contact for contact in contacts],
        network.network.host(host).bind,
        random.Random(1),
        DiallingConfig(**limits),
    )
    nursery.start_soon(dialler.run)
    return node


async def asking(network, host):
    """A node that writes down who dialled it."""
    node = await network.add(host=host, leaf=True)
    heard = []

    def serve(request):
        heard.append((request.source, request.body.nonce, request.size))
        return Noted()

    node.rpc.serve(Dialled, serve)
    return node, heard


async def refusal_of(node, destination, body):
    with pytest.raises(RequestRefused) as refusal:
        await node.rpc.request(destination.hub.local, body)
    return refusal.value.code


async def test_a_contact_of_an_unrelated_network_dials_whoever_asked(
    autojump_clock, nursery, network
):
    asker, heard = await asking(network, "9.9.9.9")
    related = await dialling(network, nursery, "9.9.1.1")
    stranger = await dialling(network, nursery, "7.7.7.7")
    helper = await dialling(network, nursery, "8.8.8.8", [related, stranger])
    answer = await asker.rpc.request(helper.hub.local, DialBack(NONCE))
    assert answer.body == Noted()
    await trio.sleep(1)
    assert [(source, nonce) for source, nonce, _ in heard] == [
        (stranger.hub.local, NONCE)
    ]


async def test_in_a_private_network_the_asked_node_dials_from_a_fresh_port(
    autojump_clock, nursery, network
):
    asker, heard = await asking(network, "10.0.0.1")
    helper = await dialling(network, nursery, "10.0.0.2")
    await asker.rpc.request(helper.hub.local, DialBack(NONCE))
    await trio.sleep(2)
    sources = {source for source, _, _ in heard}
    assert len(heard) == 2, "sent again once"
    assert len(sources) == 1
    assert sources.pop().host == "10.0.0.2"
    assert heard[0][0] != helper.hub.local


async def test_what_is_sent_to_the_dialled_was_paid_for_by_who_asked(
    autojump_clock, nursery, network
):
    victim = await network.network.host("9.9.9.9").bind(Endpoint("9.9.9.9", 53))
    asker = await network.add(host="8.8.8.8")
    dialler = await dialling(network, nursery, "7.7.7.7")
    await asker.rpc.request(dialler.hub.local, Ping())
    before = asker.hub.statistics().socket.bytes_out
    dial = Dial(pack_endpoint(victim.local), NONCE)
    await asker.rpc.request(dialler.hub.local, dial)
    paid = asker.hub.statistics().socket.bytes_out - before
    await trio.sleep(10)
    sent = []
    while (received := victim.receive()) is not None:
        data = bytes(received.buffer)
        size = received.segment_size
        sent += [data[at : at + size] for at in range(0, len(data), size)]
    assert [decode_request_untrusted(d, MAIN_NETWORK).body for d in sent] == [
        Dialled(NONCE)
    ] * 2
    assert sum(map(len, sent)) <= paid
    assert paid >= DIAL_SIZE


@pytest.mark.parametrize("host", ["10.0.0.9", "127.0.0.1", "2a00:1450::1"])
async def test_nobody_is_sent_into_a_private_network_or_another_family(
    autojump_clock, nursery, network, host
):
    asker = await network.add(host="8.8.8.8")
    dialler = await dialling(network, nursery, "7.7.7.7")
    body = Dial(pack_endpoint(Endpoint(host, 53)), NONCE)
    assert await refusal_of(asker, dialler, body) == RefusalCode.DECLINED


async def test_an_address_that_is_none_is_refused(autojump_clock, nursery, network):
    asker = await network.add(host="8.8.8.8")
    dialler = await dialling(network, nursery, "7.7.7.7")
    body = Dial(b"bad", NONCE)
    assert await refusal_of(asker, dialler, body) == RefusalCode.MALFORMED


async def test_a_leaf_dials_nobody(autojump_clock, nursery, network):
    asker, _ = await asking(network, "10.0.0.1")
    helper = await dialling(network, nursery, "10.0.0.2")
    helper.rpc.leaf = True
    body = DialBack(NONCE)
    assert await refusal_of(asker, helper, body) == FailureCode.NOT_SERVED


async def test_without_an_unrelated_contact_nobody_is_dialled(
    autojump_clock, nursery, network
):
    asker, heard = await asking(network, "9.9.9.9")
    helper = await dialling(network, nursery, "8.8.8.8")
    assert await refusal_of(asker, helper, DialBack(NONCE)) == RefusalCode.BUSY
    assert heard == []


async def test_one_address_is_dialled_now_and_then_and_all_together_so_often(
    autojump_clock, nursery, network
):
    asker, _ = await asking(network, "10.0.0.1")
    helper = await dialling(network, nursery, "10.0.0.2", burst=3, per_s=0.1)
    await asker.rpc.request(helper.hub.local, DialBack(NONCE))
    assert await refusal_of(asker, helper, DialBack(NONCE)) == RefusalCode.BUSY
    codes = []
    for number in range(3, 9):
        other, _ = await asking(network, f"10.0.0.{number}")
        try:
            await other.rpc.request(helper.hub.local, DialBack(NONCE))
        except RequestRefused as refusal:
            codes.append(refusal.code)
    assert codes == [RefusalCode.BUSY] * 3
    await trio.sleep(60)
    await asker.rpc.request(helper.hub.local, DialBack(NONCE))


async def test_one_network_does_not_use_up_the_dials_of_all_others(
    autojump_clock, nursery, network
):
    greedy = await network.add(host="9.9.9.9")
    honest = await network.add(host="6.6.6.6")
    dialler = await dialling(network, nursery, "7.7.7.7")

    def dial(number):
        return Dial(pack_endpoint(Endpoint(f"20.0.{number}.1", 53)), NONCE)

    codes = []
    for number in range(30):
        try:
            await greedy.rpc.request(dialler.hub.local, dial(number))
        except RequestRefused as refusal:
            codes.append(refusal.code)
    assert 20 <= len(codes) <= 26
    assert set(codes) == {RefusalCode.BUSY}
    await honest.rpc.request(dialler.hub.local, dial(100))


async def test_a_dial_back_that_does_not_pay_is_refused(
    autojump_clock, nursery, network, monkeypatch
):
    asker, heard = await asking(network, "10.0.0.1")
    helper = await dialling(network, nursery, "10.0.0.2")
    monkeypatch.setattr("opnode.drivers.rpc.asking._PADDED", frozenset({Ping}))
    assert await refusal_of(asker, helper, DialBack(NONCE)) == RefusalCode.MALFORMED
    assert heard == []
