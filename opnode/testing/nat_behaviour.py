"""How a NAT behaves, in the words of RFC 4787, and the seven types met most.

Values only: `opnode.testing.nat_table` does what they say.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from opnode.core.errors import ConfigError


class Dependence(enum.Enum):
    """What of the other side a mapping or a filter depends on (RFC 4787 §4.1, §5)."""

    ENDPOINT_INDEPENDENT = enum.auto()
    ADDRESS_DEPENDENT = enum.auto()
    ADDRESS_AND_PORT_DEPENDENT = enum.auto()


class PortAssignment(enum.Enum):
    """Which port a new mapping gets (RFC 4787 §4.2).

    A preserving NAT gives the port inside, or the next one that is free; a sequential
    one always the next, whoever asks, so that it can be predicted.
    """

    PRESERVING = enum.auto()
    RANDOM = enum.auto()
    SEQUENTIAL = enum.auto()


class Overflow(enum.Enum):
    """What happens to a new session when the table is full."""

    REFUSE_NEW = enum.auto()
    DROP_OLDEST = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class NatBehaviour:
    """One kind of NAT.

    Attributes:
        mapping: for whom a new mapping is made.
        filtering: who gets in through a mapping, if something was sent to whom.
        ports: which port a mapping gets.
        hairpins: hosts inside reach each other by their mappings, and see them as
            sources (RFC 4787 §6, "external source").
        timeout_s: a session ends so long after its last datagram to the outside; a
            mapping ends with its last session (RFC 4787 §4.3 asks for 120 and more).
        is_refreshed_inbound: datagrams from the outside count, too.
        max_sessions: room in the table. A session is one endpoint inside that talks to
            one outside, as connection trackers count.
        overflow: what a full table means for a new session.
        blocks_udp: nothing gets through.
        translates: False for a mere filter, as in front of an IPv6 host: the one host
            behind it has the outer address itself, and keeps its ports.
    """

    mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT
    filtering: Dependence = Dependence.ADDRESS_AND_PORT_DEPENDENT
    ports: PortAssignment = PortAssignment.PRESERVING
    hairpins: bool = False
    timeout_s: float = 120.0
    is_refreshed_inbound: bool = False
    max_sessions: int = 65_536
    overflow: Overflow = Overflow.REFUSE_NEW
    blocks_udp: bool = False
    translates: bool = True

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ConfigError("timeout_s", str(self.timeout_s), "seconds above 0")
        if self.max_sessions < 1:
            raise ConfigError("max_sessions", str(self.max_sessions), "1 or more")


OPEN: Final = NatBehaviour(translates=False, filtering=Dependence.ENDPOINT_INDEPENDENT)
"""No NAT: a public address."""

# None of them keeps the port, though many real ones do: that would hide mistakes.
FULL_CONE: Final = NatBehaviour(
    filtering=Dependence.ENDPOINT_INDEPENDENT, ports=PortAssignment.RANDOM
)
ADDRESS_RESTRICTED: Final = NatBehaviour(
    filtering=Dependence.ADDRESS_DEPENDENT, ports=PortAssignment.RANDOM
)
PORT_RESTRICTED: Final = NatBehaviour(ports=PortAssignment.RANDOM)

SYMMETRIC: Final = NatBehaviour(
    mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, ports=PortAssignment.RANDOM
)
SEQUENTIAL: Final = NatBehaviour(
    mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, ports=PortAssignment.SEQUENTIAL
)
"""Symmetric, but its next port can be predicted."""

UDP_BLOCKED: Final = NatBehaviour(blocks_udp=True)

FIREWALL: Final = NatBehaviour(translates=False)
"""Translates nothing, but lets in only who was sent something."""

PRESETS: Final[Mapping[str, NatBehaviour]] = MappingProxyType(
    {
        "open": OPEN,
        "full": FULL_CONE,
        "addr": ADDRESS_RESTRICTED,
        "port": PORT_RESTRICTED,
        "sym": SYMMETRIC,
        "seq": SEQUENTIAL,
        "block": UDP_BLOCKED,
    }
)
"""The seven types by their short names."""
