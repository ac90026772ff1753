"""`websocket_service`: what others are told of a gateway, and that it is one at all."""

from pathlib import Path

import pytest

from opnode.core.addresses import Endpoint
from opnode.node.config import WebSocketOffer
from opnode.node.gateways.service import WebSocketService
from opnode.protocols.rpc.messages import Service
from opnode.protocols.websocket import GatewayUrl
from tests.unit.drivers.rpc.wires import Net

BOUND = Endpoint("0.0.0.0", 8443)


@pytest.mark.parametrize(
    ("certificate", "public_url", "expected"),
    [
        (None, None, "ws://192.0.2.1:8443"),
        ("cert.pem", None, "wss://192.0.2.1:8443"),
        (None, "wss://gate.example.org", "wss://gate.example.org"),
    ],
)
async def test_others_are_told_the_public_address_or_the_one_that_they_see(
    autojump_clock, nursery, certificate, public_url, expected
):
    rpc = await Net(nursery).rpc(1)
    offer = WebSocketOffer(
        listen=Endpoint("0.0.0.0", 0),
        certificate=Path(certificate) if certificate else None,
        public_url=GatewayUrl.parse(public_url) if public_url else None,
    )
    service = WebSocketService(None, rpc, offer, [], BOUND)
    assert str(service.url("192.0.2.1")) == expected


async def test_every_datagram_says_that_a_gateway_is_one(autojump_clock, nursery):
    net = Net(nursery)
    rpc, other = await net.rpc(1), await net.rpc(2)
    assert not rpc.services
    offer = WebSocketOffer(listen=BOUND)
    service = WebSocketService(None, rpc, offer, [], BOUND)
    assert rpc.services is Service.WEBSOCKET
    assert service.statistics().clients == 0
    assert not other.services
