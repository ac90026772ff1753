"""`forwarding`: a client without UDP asks through its gateway, nobody else does."""

import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RequestRefused, RequestTimeout
from opnode.drivers.websocket.forwarding import Forwarding, ForwardingConfig
from opnode.protocols.rpc.datagrams import encode_body
from opnode.protocols.rpc.messages import (
    Answered,
    FailureCode,
    FindNode,
    Forward,
    Introduce,
    Introduced,
    Nodes,
    Offer,
    Ping,
    Refuse,
    Watch,
    pack_endpoint,
)
from tests.unit.drivers.rpc.wires import CONTACTS, Net, plug

SEEN_AT = Endpoint("203.0.113.9", 41000)


class Detoured:
    """A client, its gateway, and a node that the client has no UDP to."""

    def __init__(self, client, gateway, target, forwarding):
        self.client = client
        self.gateway = gateway
        self.target = target
        self.forwarding = forwarding
        self.asked = []

    def forward(self, body):
        wrapped = Forward(pack_endpoint(self.target.local), encode_body(body))
        return self.client.request(self.gateway.local, wrapped)


@pytest.fixture
async def site(autojump_clock, nursery):
    net = Net(nursery, latency_s=0.01)
    client, gateway = await net.rpc(1), await net.rpc(2)
    target = await net.rpc(3)
    forwarding = Forwarding(gateway, ForwardingConfig(max_of_client=4))
    await nursery.start(forwarding.run)
    plug(client, gateway, SEEN_AT)
    client.detour.gateways = (gateway.local,)
    made = Detoured(client, gateway, target, forwarding)

    def serve(request):
        made.asked.append(request)
        return Nodes(CONTACTS)

    target.serve(FindNode, serve)
    return made


async def test_a_request_reaches_who_is_asked_and_the_answer_comes_back(
    autojump_clock, site
):
    answers = []
    site.client.on_answered = lambda answer: answers.append(answer.contact)
    answer = await site.client.request(site.target.local, FindNode(bytes(20)))
    assert answer.body == Nodes(CONTACTS)
    assert answer.contact == (site.target.node_id, site.target.local)
    assert answers == [answer.contact]
    (request,) = site.asked
    assert request.source == site.gateway.local
    assert site.forwarding.forwarded == 1
    # Not one datagram of ours left by UDP.
    assert site.client._station.hub.statistics().socket.datagrams_out == 0


async def test_an_introduction_goes_through_the_targets_introducer(
    autojump_clock, site
):
    sealed = random.Random(1).randbytes(1100)
    site.target.serve(Introduce, lambda _: Introduced(sealed))
    answer = await site.client.request(
        site.target.local, Introduce(bytes(16), 10, sealed)
    )
    assert answer.body == Introduced(sealed)


async def test_a_refusal_of_who_is_asked_arrives_as_one(autojump_clock, site):
    def serve(_):
        raise Refuse(FailureCode.STORE_FULL, "full")

    site.target.serve(FindNode, serve)
    with pytest.raises(RequestRefused, match="full") as refusal:
        await site.client.request(site.target.local, FindNode(bytes(20)))
    assert refusal.value.code == FailureCode.STORE_FULL


async def test_who_is_silent_behind_the_gateway_is_told_as_such(autojump_clock, site):
    silent, failed = Endpoint("10.0.0.77", 9), []
    site.client.on_failure = failed.append
    with pytest.raises(RequestTimeout, match="not reached by the gateway: no answer"):
        await site.client.request(silent, FindNode(bytes(20)))
    assert failed == [silent]


async def test_whoever_comes_by_udp_is_not_forwarded(autojump_clock, site):
    with pytest.raises(RequestRefused, match="by WebSocket") as refusal:
        await site.target.request(
            site.gateway.local,
            Forward(pack_endpoint(site.client.local), encode_body(Ping())),
        )
    assert refusal.value.code == FailureCode.NOT_SERVED


@pytest.mark.parametrize(
    "body", [Watch(bytes(20), 60), Ping(b"nonce"), Offer(bytes(16), b"sealed")]
)
async def test_what_would_make_the_gateway_a_party_is_not_forwarded(
    autojump_clock, site, body
):
    site.target.serve(Offer, lambda _: Answered(b"sealed"))
    with pytest.raises(RequestRefused, match="is not forwarded"):
        await site.forward(body)


async def test_what_does_not_parse_is_refused_and_sent_nowhere(autojump_clock, site):
    wrapped = Forward(b"short", encode_body(Ping()))
    with pytest.raises(RequestRefused, match="an endpoint takes"):
        await site.client.request(site.gateway.local, wrapped)
    wrapped = Forward(pack_endpoint(site.target.local), b"\xff")
    with pytest.raises(RequestRefused, match="forwarded request"):
        await site.client.request(site.gateway.local, wrapped)
    assert site.forwarding.forwarded == 0


async def test_no_more_are_under_way_for_one_client_than_its_share(
    autojump_clock, site
):
    silent, busy = Endpoint("10.0.0.77", 9), []

    async def ask():
        try:
            await site.client.request(silent, FindNode(bytes(20)))
        except RequestTimeout as error:
            busy.append("too much to forward" in str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(ask)
    assert sorted(busy) == [False] * 4 + [True] * 2
