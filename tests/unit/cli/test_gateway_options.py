"""`gateway_options`: which options about WebSockets go together, and what they mean."""

from pathlib import Path

import pytest

from opnode.cli import run as run_module
from opnode.core.addresses import Endpoint
from opnode.drivers.websocket.client import GatewayTrust
from opnode.node.config import WebSocketOffer
from opnode.protocols.websocket import GatewayUrl


@pytest.fixture
def started(monkeypatch):
    """The options that a command would run a node with."""
    seen = []
    monkeypatch.setattr(run_module, "_run", lambda options, **_: seen.append(options))
    return seen


@pytest.fixture
def pem(tmp_path):
    path = tmp_path / "cert.pem"
    path.write_text("a certificate")
    return path


def test_a_seed_offers_no_websocket_unless_it_is_told_to(opnode, started):
    opnode("seed")
    assert started[0].websocket is None


def test_a_seed_takes_where_its_websocket_is(opnode, started, pem):
    opnode(
        *["seed", "--websocket", "0.0.0.0:443", "--tls-cert", pem, "--tls-key", pem],
        *["--public-url", "wss://gate.example.org"],
    )
    assert started[0].websocket == WebSocketOffer(
        listen=Endpoint("0.0.0.0", 443),
        certificate=Path(pem),
        key=Path(pem),
        public_url=GatewayUrl("wss", "gate.example.org", 443),
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--public-url", "wss://a.example"], "--public-url needs --websocket"),
        (["--tls-cert", "PEM"], "--tls-cert needs --websocket"),
        (
            ["--websocket", "1.2.3.4:1", "--tls-key", "PEM"],
            "--tls-key needs --tls-cert",
        ),
        (["--websocket", "[::]:1", "--public-url", "http://a"], "expected wss:"),
        (["--websocket", "localhost"], "HOST:PORT"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_use(
    opnode, started, pem, options, said
):
    given = [str(pem) if option == "PEM" else option for option in options]
    ended = opnode("seed", *given)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert started == []


def test_a_user_names_authorities_that_are_no_certificates(opnode, started, pem):
    ended = opnode("up", "--gateway-ca", pem)
    assert ended.code == 1
    assert "gateway-ca" in ended.err
    assert started == []
    opnode("up")
    assert started[0].gateway_trust == GatewayTrust()
