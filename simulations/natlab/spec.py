"""What a lab consists of: hosts, NATs, and how each is connected.

Owns the types, their checks and the two ways to write them down (words and TOML).
Refuses to know addresses and how any of it is built.
"""

import enum
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, TypeAlias

import msgspec

from opnode.core.errors import ConfigError

NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}")
"""Names become parts of the names of namespaces."""

NET: Final = "net"
"""The name of the public segment; no host or NAT may have it."""

MAX_STATIONS: Final = 120
"""Hosts and NATs of a lab: each is a namespace of the kernel, about 1 MB."""

MAX_JUNK: Final = 100


class NatType(enum.Enum):
    """How a NAT treats UDP, in the words of RFC 4787.

    ``FULL``: endpoint-independent mapping and filtering (full cone).
    ``ADDRESS``: endpoint-independent mapping, address-dependent filtering.
    ``PORT``: endpoint-independent mapping, address- and port-dependent filtering.
    ``SYMMETRIC``: address- and port-dependent mapping and filtering, random ports.
    ``SEQUENTIAL``: the same, but each new mapping takes the next port.
    ``BLOCKED``: no UDP at all; TCP goes out.
    """

    FULL = "full"
    ADDRESS = "addr"
    PORT = "port"
    SYMMETRIC = "sym"
    SEQUENTIAL = "seq"
    BLOCKED = "block"


OPEN: Final = "open"
"""In words: a host with a public address, no NAT and no filter."""

_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_DelayMs: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=10_000)]


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The line of a host or NAT to the public segment.

    Attributes:
        delay_ms: one way; a path costs the sum of its two ends.
        loss: share of the packets lost, in each direction.
        rate: of each direction in the words of ``tc``, as ``20mbit``; empty: unlimited.
    """

    delay_ms: _DelayMs = 0.0
    loss: _Share = 0.0
    rate: Annotated[str, msgspec.Meta(pattern="^([0-9]+[kmg]?bit)?$")] = ""


class Nat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A NAT with a network of its own behind it.

    Attributes:
        type: see ``NatType``.
        behind: the NAT it is itself behind (CGNAT); None: the public segment.
        hairpin: whether hosts behind it reach each other by its outer address
            (RFC 4787 REQ-9); hairpinned packets are not filtered.
        isolated: hosts behind it do not hear each other, as on Wi-Fi for guests.
        binding_s: an idle mapping of UDP is forgotten after so many seconds.
        table_size: UDP mappings at once, further ones are refused; 0: no limit.
        lan: the network behind it, as ``192.168.1.0/24``; empty: one of its own.
        v6: a routed IPv6 network behind it, with a stateful firewall.
        link: its line to the public segment.
    """

    type: NatType = NatType.PORT
    behind: str | None = None
    hairpin: bool = False
    isolated: bool = False
    binding_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 120
    table_size: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    lan: str = ""
    v6: bool = False
    link: Link = Link()


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine.

    Attributes:
        behind: the NAT in front of it; None: it has a public address.
        junk: interfaces with private addresses that lead nowhere (docker, VPN).
        v6: a public IPv6 address; behind a NAT, the NAT decides.
        link: its line to the public segment; behind a NAT, the NAT's line counts.
    """

    behind: str | None = None
    junk: Annotated[int, msgspec.Meta(ge=0, le=MAX_JUNK)] = 0
    v6: bool = False
    link: Link = Link()


class LabSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All hosts and NATs of a lab, by name."""

    hosts: Mapping[str, Host]
    nats: Mapping[str, Nat] = {}

    def check(self) -> None:
        """Look for what no lab can be built from.

        Raises:
            ConfigError: says which name or field, and what was expected.
        """
        names = [*self.hosts, *self.nats]
        if len(names) > MAX_STATIONS:
            raise ConfigError("lab", f"{len(names)} stations", f"<= {MAX_STATIONS}")
        for name in names:
            if not NAME.fullmatch(name) or name == NET:
                raise ConfigError("name", repr(name), "1 to 12 of a-z and 0-9")
        if both := set(self.hosts) & set(self.nats):
            raise ConfigError("name", repr(min(both)), "a host or a NAT, not both")
        for name in names:
            above = self.behind(name)
            if above is not None and above not in self.nats:
                raise ConfigError(f"{name}.behind", repr(above), "a NAT")
        for name, nat in self.nats.items():
            self._check_nesting(name)
            if nat.v6 and nat.behind is not None:
                raise ConfigError(f"{name}.v6", "true", "a NAT on the public segment")

    def depth(self, name: str) -> int:
        """How many NATs are in front of a station."""
        depth, above = 0, self.behind(name)
        while above is not None and depth <= len(self.nats):
            depth, above = depth + 1, self.behind(above)
        return depth

    def outermost(self, name: str) -> str:
        """The station by whose line a host or NAT is on the public segment."""
        while (above := self.behind(name)) is not None:
            name = above
        return name

    def behind(self, name: str) -> str | None:
        """The NAT in front of a host or NAT."""
        if name in self.hosts:
            return self.hosts[name].behind
        return self.nats[name].behind

    def link_of(self, name: str) -> Link:
        """The line of a host or NAT to the public segment."""
        return self.hosts[name].link if name in self.hosts else self.nats[name].link

    def _check_nesting(self, name: str) -> None:
        if self.depth(name) > len(self.nats):
            raise ConfigError(f"{name}.behind", "a circle", "an end at the public side")


def parse_words(words: Sequence[str]) -> LabSpec:
    """Read ``HOST=TYPE`` words: ``seed=open alice=port bob=port/sym``.

    A host gets NATs of its own; with ``port/sym`` it is behind a port-restricted NAT,
    which is behind a symmetric one.

    Raises:
        ConfigError: says which word, and what was expected.
    """
    hosts: dict[str, Host] = {}
    nats: dict[str, Nat] = {}
    for word in words:
        name, equals, text = word.partition("=")
        layers = text.split("/")
        if not equals or not set(layers) <= {one.value for one in NatType} | {OPEN}:
            types = ", ".join([OPEN, *(one.value for one in NatType)])
            raise ConfigError("word", repr(word), f"HOST=TYPE with a type of {types}")
        behind = None
        for depth, layer in reversed(list(enumerate(layers))):
            if layer == OPEN:
                continue
            outer = f"{name}nat{depth or ''}"
            nats[outer] = Nat(type=NatType(layer), behind=behind)
            behind = outer
        hosts[name] = Host(behind=behind)
    spec = LabSpec(hosts=hosts, nats=nats)
    spec.check()
    return spec


def parse_toml(text: str) -> LabSpec:
    """Read tables ``[hosts.NAME]`` and ``[nats.NAME]`` with the fields of the types.

    Raises:
        ConfigError: says where, and what was expected.
    """
    try:
        spec = msgspec.convert(tomllib.loads(text), LabSpec)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError("lab", str(error), "[hosts.NAME] and [nats.NAME]") from None
    spec.check()
    return spec
