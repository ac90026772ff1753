"""What the two ends of a WebSocket say to each other before datagrams pass.

Owns HELLO and WELCOME, the close codes and the address of a gateway as people write it
(``docs/protocols/websocket.md``). Refuses to know sockets, TLS and what is in the
datagrams.
"""

import base64
import binascii
import enum
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from opnode.core.errors import ConfigError, RemoteProtocolError

MAX_MESSAGE: Final = 1500
"""One message is one datagram: RUDP looks for path MTUs up to 1472 bytes, and a frame
of a relay adds nine."""

MAX_URL: Final = 100
"""Characters: eight addresses of gateways fit one datagram of the RPC."""

VERSION: Final = 1
_MAGIC: Final = b"opnode"
_NETWORK_SIZE: Final = 8
_HELLO_SIZE: Final = len(_MAGIC) + 1 + _NETWORK_SIZE
MAX_HELLO: Final = 64
"""Later versions may add to it; what this one does not know it does not read."""

_SCHEMES: Final = {"ws": 80, "wss": 443}
_PIN_PREFIX: Final = "sha256-"
_PIN_SIZE: Final = 32
_EXPECTED_URL: Final = "wss://HOST[:PORT][/PATH][#sha256-HASH] or ws://HOST[:PORT]"


class CloseCode(enum.IntEnum):
    """Why a WebSocket was closed; the first two are RFC 6455's."""

    GOING_AWAY = 1001
    NOT_BINARY = 1003
    TOO_LARGE = 1009
    BAD_HELLO = 4000
    OTHER_NETWORK = 4001
    OTHER_VERSION = 4002
    FULL = 4003
    HOST_FULL = 4004
    NO_PEERS = 4005
    IDLE = 4006


@dataclass(frozen=True, slots=True)
class GatewayUrl:
    """Where a gateway's WebSocket is, and by what its certificate is known.

    Attributes:
        scheme: ``ws`` or ``wss``.
        host: A DNS name or an address, without brackets.
        port: The port that was named, or the scheme's own.
        path: As it is asked for, beginning with a slash.
        pin: SHA-256 of the one certificate that is accepted, 32 bytes; empty where
            authorities decide.
    """

    scheme: str
    host: str
    port: int
    path: str = "/"
    pin: bytes = b""

    @classmethod
    def parse(cls, text: str, field: str = "gateway") -> "GatewayUrl":
        """Read the textual form.

        Raises:
            ConfigError: names the part that is wrong.
        """
        printable = text.isascii() and text.isprintable() and " " not in text
        if not printable or len(text) > MAX_URL:
            found = repr(text[:MAX_URL])
            raise ConfigError(field, found, f"at most {MAX_URL} printable characters")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ConfigError(field, repr(text), _EXPECTED_URL) from None
        host = parts.hostname
        is_plain = not parts.query and "@" not in parts.netloc
        if parts.scheme not in _SCHEMES or not host or not is_plain or port == 0:
            raise ConfigError(field, repr(text), _EXPECTED_URL)
        pin = _parse_pin(parts.fragment, field) if parts.fragment else b""
        if pin and parts.scheme != "wss":
            raise ConfigError(field, repr(text), "wss:// where a certificate is named")
        standard = _SCHEMES[parts.scheme]
        return cls(parts.scheme, host, port or standard, parts.path or "/", pin)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_standard = self.port == _SCHEMES[self.scheme]
        port = "" if is_standard else f":{self.port}"
        path = "" if self.path == "/" else self.path
        pin = f"#{_PIN_PREFIX}{_format_pin(self.pin)}" if self.pin else ""
        return f"{self.scheme}://{host}{port}{path}{pin}"


def hello(network: bytes) -> bytes:
    """The first message of a client: protocol, version, the 8 bytes of its network."""
    return _MAGIC + bytes((VERSION,)) + network


def welcome(network: bytes) -> bytes:
    """The answer to a HELLO that was taken; datagrams follow in both directions."""
    return hello(network)


class HelloError(RemoteProtocolError):
    """The first message was not one to go on with; ``code`` is what the other hears."""

    def __init__(self, code: CloseCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def check_hello_untrusted(message: str | bytes, network: bytes) -> None:
    """Check the first message of the other end, HELLO or WELCOME.

    Raises:
        HelloError: what was found and what was expected, and the close code for it.
    """
    if isinstance(message, str):
        text = "the first message is text, expected bytes"
        raise HelloError(CloseCode.NOT_BINARY, text)
    if not _HELLO_SIZE <= len(message) <= MAX_HELLO or message[:6] != _MAGIC:
        text = f"no opnode HELLO in {len(message)} bytes"
        raise HelloError(CloseCode.BAD_HELLO, text)
    version = message[len(_MAGIC)]
    if version != VERSION:
        text = f"version: found {version}, expected {VERSION}"
        raise HelloError(CloseCode.OTHER_VERSION, text)
    found = message[len(_MAGIC) + 1 : _HELLO_SIZE]
    if found != network:
        text = f"network: found {found.hex()}, expected {network.hex()}"
        raise HelloError(CloseCode.OTHER_NETWORK, text)


def _format_pin(pin: bytes) -> str:
    return base64.urlsafe_b64encode(pin).decode("ascii").rstrip("=")


def _parse_pin(fragment: str, field: str) -> bytes:
    digits = fragment.removeprefix(_PIN_PREFIX)
    try:
        pin = base64.b64decode(digits + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        pin = b""
    if digits == fragment or len(pin) != _PIN_SIZE:
        expected = f"#{_PIN_PREFIX} and 43 characters of base64url"
        raise ConfigError(field, repr(fragment[:60]), expected)
    return pin
