"""`websocket`: what HELLO must say, and which addresses of gateways are taken."""

import base64

import pytest

from opnode.core.errors import ConfigError
from opnode.protocols.websocket import (
    MAX_HELLO,
    MAX_URL,
    CloseCode,
    GatewayUrl,
    HelloError,
    check_hello_untrusted,
    hello,
    welcome,
)

NETWORK = b"network1"
PIN = bytes(range(32))
PIN_TEXT = base64.urlsafe_b64encode(PIN).decode().rstrip("=")


def test_a_hello_of_our_network_is_taken_and_so_is_what_later_versions_add():
    check_hello_untrusted(hello(NETWORK), NETWORK)
    check_hello_untrusted(welcome(NETWORK), NETWORK)
    check_hello_untrusted(hello(NETWORK).ljust(MAX_HELLO, b"+"), NETWORK)


@pytest.mark.parametrize(
    ("message", "code", "found"),
    [
        ("opnode", CloseCode.NOT_BINARY, "text"),
        (b"", CloseCode.BAD_HELLO, "0 bytes"),
        (hello(NETWORK)[:-1], CloseCode.BAD_HELLO, "14 bytes"),
        (hello(NETWORK).ljust(MAX_HELLO + 1), CloseCode.BAD_HELLO, "65 bytes"),
        (b"GET / HTTP/1.1\r\n", CloseCode.BAD_HELLO, "16 bytes"),
        (b"opnode\x02" + NETWORK, CloseCode.OTHER_VERSION, "found 2, expected 1"),
        (hello(b"network2"), CloseCode.OTHER_NETWORK, b"network2".hex()),
    ],
)
def test_another_first_message_is_refused_by_its_cause(message, code, found):
    with pytest.raises(HelloError, match=found) as refused:
        check_hello_untrusted(message, NETWORK)
    assert refused.value.code is code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wss://gate.example.org", GatewayUrl("wss", "gate.example.org", 443)),
        ("ws://192.0.2.1:8080", GatewayUrl("ws", "192.0.2.1", 8080)),
        ("ws://[2001:db8::1]:8080", GatewayUrl("ws", "2001:db8::1", 8080)),
        ("wss://a.example/deep", GatewayUrl("wss", "a.example", 443, "/deep")),
        (
            f"wss://192.0.2.1:8443#sha256-{PIN_TEXT}",
            GatewayUrl("wss", "192.0.2.1", 8443, "/", PIN),
        ),
    ],
)
def test_an_address_of_a_gateway_is_read_and_written_the_same(text, expected):
    parsed = GatewayUrl.parse(text)
    assert parsed == expected
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://gate.example.org",
        "gate.example.org:443",
        "wss://",
        "wss://gate.example.org:99999",
        "wss://gate.example.org:0",
        "wss://me:secret@gate.example.org",
        "wss://gate.example.org/?query",
        "wss://gate.example.org#sha256-short",
        "wss://gate.example.org#" + PIN_TEXT,
        f"ws://gate.example.org#sha256-{PIN_TEXT}",
        "wss://gate.example.org/" + "a" * MAX_URL,
        "wss://gate exa.org",
        "wss://g\u00e4te.example.org",
        "wss://[::1",
    ],
)
def test_what_is_no_address_of_a_gateway_is_refused_by_name(text):
    with pytest.raises(ConfigError, match="gateway"):
        GatewayUrl.parse(text)
