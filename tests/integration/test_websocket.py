"""Whole nodes, real sockets: a user without UDP, its gateway, and what carried what."""

import datetime
import ipaddress
import ssl

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from opnode.core.addresses import Endpoint
from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.websocket.client import GatewayTrust
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.config import NodeConfig, Role, WebSocketOffer
from opnode.node.gateways.gateways import UdpState
from opnode.node.network_watch import NetworkChange
from opnode.node.node import open_node
from opnode.testing.blocked_network import BlockedNetwork
from opnode.testing.overlay import LOOPBACK, entry_of, open_user

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A PEM file of a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate")])
    host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "gate.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def open_gateway(certificate=None):
    return open_node(
        NodeConfig(
            listen=LOOPBACK,
            role=Role.SERVER,
            has_identity=False,
            websocket=WebSocketOffer(
                listen=Endpoint("127.0.0.1", 0), certificate=certificate
            ),
        )
    )


def open_blocked(entries, network, trust=None):
    config = NodeConfig(
        listen=LOOPBACK,
        bootstrap=tuple(entries),
        gateway_trust=trust or GatewayTrust(),
    )
    return open_node(config, network=network)


async def until(condition):
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - nothing of a node tells this
            await trio.sleep(0.05)


def failure_of(node):
    return node.statistics().gateways.last_failure


def without_pin(entry):
    url = entry.gateway
    plain = type(url)(url.scheme, url.host, url.port)
    return BootstrapEntry(entry.node_public_key, entry.host, entry.port, plain)


@pytest.mark.parametrize("kind", ["ws", "wss pinned", "wss by authority"])
async def test_a_user_without_udp_is_published_and_found(kind, certificate):
    office = BlockedNetwork(SystemNetwork())
    is_tls = kind != "ws"
    async with open_gateway(certificate if is_tls else None) as seed:
        entry = entry_of(seed)
        assert (entry.gateway.scheme == "wss") is is_tls
        trust = None
        if kind == "wss by authority":
            entry, trust = without_pin(entry), GatewayTrust(certificate)
        async with (
            open_blocked([entry], office, trust) as inside,
            open_user([entry]) as outside,
        ):
            with trio.fail_after(20):
                await inside.wait_published()
                found = await outside.lookup(inside.peer_id)
                back = await inside.lookup(outside.peer_id)
            (introducer,) = found.presences[0].introducers
            assert introducer.endpoint == Endpoint(entry.host, entry.port)
            assert back.presences
            seen = inside.statistics()
            assert seen.gateways.state is UdpState.AROUND
            assert seen.role is Role.LEAF
            # Not one datagram passed by UDP, so the WebSocket carried all of this.
            assert seen.traffic.socket.datagrams_in == 0
            assert office.swallowed > 0
            served = seed.statistics().websocket
            assert served.clients == 1
            assert served.datagrams > 10
            assert inside.node_id not in [c.node_id for c in seed.contacts()]

            office.is_blocked = False
            inside._parts.network_watch._tell(NetworkChange.ADDRESSES)
            await until(lambda: inside.statistics().gateways.state is UdpState.OPEN)
            with trio.fail_after(10):
                await inside.lookup(outside.peer_id)
            assert inside.statistics().traffic.socket.datagrams_in > 0


async def test_a_certificate_that_nobody_vouches_for_is_not_believed(certificate):
    office = BlockedNetwork(SystemNetwork())
    async with open_gateway(certificate) as seed:
        entry = without_pin(entry_of(seed))
        async with open_blocked([entry], office) as inside:
            await until(lambda: "certificate" in failure_of(inside))
            assert inside.statistics().gateways.state is UdpState.BLOCKED
            assert seed.statistics().websocket.served == 0


async def test_another_certificate_than_the_pinned_one_is_not_believed(certificate):
    office = BlockedNetwork(SystemNetwork())
    async with open_gateway(certificate) as seed:
        entry = entry_of(seed)
        url = entry.gateway
        other = type(url)(url.scheme, url.host, url.port, url.path, bytes(32))
        entry = BootstrapEntry(entry.node_public_key, entry.host, entry.port, other)
        async with open_blocked([entry], office) as inside:
            await until(lambda: "expected 0000" in failure_of(inside))


def test_the_certificate_of_these_tests_is_one(certificate):
    ssl.create_default_context(cafile=str(certificate))
