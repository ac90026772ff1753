"""Getting in: bootstrap entries, the seeds file, and what became of each entry.

An entry pins the key of the node behind the address: whoever took over the address
cannot sign for it, and the seed does not sign for an address that is not its own. How
far that goes is told in ``docs/protocols/bootstrap.md`` §5. Owns parsing and probing;
refuses to know the DHT.
"""

import base64
import binascii
import enum
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from opnode.core.addresses import Endpoint, reaches
from opnode.core.errors import ConfigError, NetworkError, RequestRefused, RequestTimeout
from opnode.drivers.network.network import Network
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.websocket import GatewayUrl

SCHEME: Final = "opnode://"
KEY_LENGTH: Final = 32
MAX_ENTRY: Final = 512
"""Characters: a key, a DNS name of 253 and a port leave room to spare."""

MAX_SEEDS: Final = 256
MAX_SEEDS_FILE: Final = 1 << 16
MAX_ADDRESSES: Final = 8
"""Of one entry's name that are tried: some of each IP version."""

_QUERY: Final = "?gateway="
PROBE_S: Final = 5.0
"""Seconds until an entry that does not answer is called silent."""

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class BootstrapEntry:
    """One node to join through: its public key, where known, and its address.

    The textual form is ``opnode://KEY@HOST:PORT``, the key in base32; ``HOST:PORT``
    alone is accepted from the command line and pins nothing. ``?gateway=URL`` after
    either names the node's WebSocket, for networks that let no UDP through.
    """

    node_public_key: bytes | None
    host: str
    port: int
    gateway: GatewayUrl | None = None

    @classmethod
    def parse(cls, text: str, *, field: str = "bootstrap") -> "BootstrapEntry":
        """Read the textual form.

        Raises:
            ConfigError: names the part that is wrong.
        """
        body, _, query = text.removeprefix(SCHEME).partition("?")
        key_text, at, address = body.rpartition("@")
        host, colon, port_text = address.rpartition(":")
        if not colon or not host or len(text) > MAX_ENTRY:
            raise ConfigError(field, repr(text[:80]), "opnode://KEY@HOST:PORT")
        if not (port_text.isascii() and port_text.isdecimal()) or not (
            0 < int(port_text[:6]) < 1 << 16
        ):
            raise ConfigError(
                field, f"port {port_text[:16]!r}", "a number from 1 to 65535"
            )
        key = _parse_key(key_text, field) if at else None
        gateway = _parse_query(query, field) if query else None
        bare = host.removeprefix("[").removesuffix("]")
        return cls(key, bare, int(port_text), gateway)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"{_QUERY}{self.gateway}" if self.gateway else ""
        if self.node_public_key is None:
            return f"{host}:{self.port}{query}"
        key = _format_key(self.node_public_key)
        return f"{SCHEME}{key}@{host}:{self.port}{query}"


class VerdictKind(enum.Enum):
    """What became of one bootstrap entry."""

    UNRESOLVED = "does not resolve"
    NO_ROUTE = "no route"
    NO_ANSWER = "no answer"
    WRONG_KEY = "answered with another key"
    OTHER_NETWORK = "not our network"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one probe; ``endpoint`` is set when the node answered."""

    entry: BootstrapEntry
    kind: VerdictKind
    endpoint: Endpoint | None = None
    detail: str = ""

    def __str__(self) -> str:
        tail = f" ({self.detail})" if self.detail else ""
        return f"{self.entry.host}:{self.entry.port}: {self.kind.value}{tail}"


class _SeedsFile(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    network: str
    seeds: list[str]


def read_seeds_file(path: Path, *, network_name: str) -> tuple[BootstrapEntry, ...]:
    """Parse ``bootstrap_seeds.json``.

    Raises:
        ConfigError: the file is missing, too large, not JSON of the expected shape, of
            another version or another network, or an entry is wrong.
    """
    field = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SEEDS_FILE + 1)
    except OSError as error:
        raise ConfigError(field, error.strerror or "error", "a readable file") from None
    if len(data) > MAX_SEEDS_FILE:
        raise ConfigError(
            field, "a larger file", f"at most {MAX_SEEDS_FILE} bytes of JSON"
        )
    try:
        seeds = msgspec.json.decode(data, type=_SeedsFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        expected = '{"version": 1, "network": "main", "seeds": ["opnode://…"]}'
        raise ConfigError(field, str(error), expected) from None
    if seeds.version != 1:
        raise ConfigError(f"{field}: version", str(seeds.version), "1")
    if seeds.network != network_name:
        found = repr(seeds.network[:40])
        raise ConfigError(f"{field}: network", found, repr(network_name))
    if len(seeds.seeds) > MAX_SEEDS:
        found = f"{len(seeds.seeds)} entries"
        raise ConfigError(f"{field}: seeds", found, f"at most {MAX_SEEDS}")
    return tuple(
        BootstrapEntry.parse(text, field=f"{field}: seeds[{index}]")
        for index, text in enumerate(seeds.seeds)
    )


async def probe(entry: BootstrapEntry, *, rpc: Rpc, network: Network) -> Verdict:
    """Ask one entry to prove its key. Every failure is a verdict, none raises."""
    try:
        endpoints = await network.resolve(entry.host, entry.port)
    except NetworkError as error:
        return Verdict(entry, VerdictKind.UNRESOLVED, detail=str(error))
    verdict = Verdict(
        entry, VerdictKind.NO_ROUTE, detail="it has no address of our IP version"
    )
    # The DHT is that of IPv4 for whoever has it: an id fits one address only.
    ordered = sorted(endpoints[:MAX_ADDRESSES], key=lambda one: ":" in one.host)
    for endpoint in ordered:
        if not reaches(rpc.local.host, endpoint.host):
            continue
        if not network.has_route(endpoint):
            detail = f"this host knows no way to {endpoint.host}"
            verdict = Verdict(entry, VerdictKind.NO_ROUTE, detail=detail)
            continue
        verdict = await _probe_endpoint(entry, endpoint, rpc)
        if verdict.kind is VerdictKind.ANSWERED:
            return verdict
    return verdict


def backoff_s(attempt: int, rng: random.Random) -> float:
    """Seconds to wait before try number ``attempt`` (from 0): full jitter.

    The whole interval is drawn, not a part of it, so that a crowd that lost its seed at
    one instant does not come back at one instant.
    """
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt, 16))
    return rng.uniform(0.0, ceiling)


async def _probe_endpoint(
    entry: BootstrapEntry, endpoint: Endpoint, rpc: Rpc
) -> Verdict:
    answered: bytes | None = None
    with trio.move_on_after(PROBE_S):
        try:
            answered = await rpc.prove(endpoint)
        except RequestTimeout:
            return Verdict(entry, VerdictKind.NO_ANSWER)
        except RequestRefused as refusal:
            kind = VerdictKind.OTHER_NETWORK
            return Verdict(entry, kind, detail=refusal.detail)
    if answered is None:
        return Verdict(entry, VerdictKind.NO_ANSWER)
    pinned = entry.node_public_key
    if pinned is not None and answered != pinned:
        found, expected = _format_key(answered)[:8], _format_key(pinned)[:8]
        detail = f"found {found}…, expected {expected}…"
        return Verdict(entry, VerdictKind.WRONG_KEY, endpoint, detail)
    return Verdict(entry, VerdictKind.ANSWERED, endpoint=endpoint)


def _format_key(key: bytes) -> str:
    return base64.b32encode(key).decode("ascii").rstrip("=").lower()


def _parse_query(text: str, field: str) -> GatewayUrl:
    name, _, url = text.partition("=")
    if name != "gateway":
        raise ConfigError(field, repr(text[:80]), "gateway=URL after the question mark")
    return GatewayUrl.parse(url, f"{field}: gateway")


def _parse_key(text: str, field: str) -> bytes:
    padded = text.upper() + "=" * (-len(text) % 8)
    try:
        key = base64.b32decode(padded)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_LENGTH:
        length = math.ceil(KEY_LENGTH * 8 / 5)
        raise ConfigError(
            field, f"key {text[:60]!r}", f"{length} characters of base32 before the @"
        )
    return key
