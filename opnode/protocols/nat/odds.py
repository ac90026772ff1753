"""Whether two nodes behind NATs can have a direct path, by what their NATs are.

Owns the types that people speak of, and the table. Refuses to know how a type is found
out and how a path is.
"""

import enum
from types import MappingProxyType
from typing import Final

from opnode.protocols.nat.mapping import MappingKind


class NatType(enum.Enum):
    """What is between a node and the world (RFC 3489 §5, with two kinds of symmetric).

    OPEN: nothing. FULL: everybody gets in at one port. ADDRESS and PORT: at one port
    gets in whoever's address, or address and port, something was sent to; a firewall
    is of these as well. SEQUENTIAL: another port for each address, the next in a row.
    RANDOM: another port for each address. BLOCKED: no UDP at all.
    """

    OPEN = "open"
    FULL = "full cone"
    ADDRESS = "address-restricted"
    PORT = "port-restricted"
    SEQUENTIAL = "symmetric, ports in a row"
    RANDOM = "symmetric, random ports"
    BLOCKED = "UDP blocked"


class Odds(enum.Enum):
    """What a connection between two of them takes."""

    DIRECT = "direct"
    PREDICTED = "direct by prediction"
    RELAYED = "relay"


_EASY: Final = frozenset({NatType.OPEN, NatType.FULL, NatType.ADDRESS})
_BY_MAPPING: Final = MappingProxyType(
    {
        MappingKind.NONE: NatType.PORT,
        MappingKind.INDEPENDENT: NatType.PORT,
        MappingKind.SEQUENTIAL: NatType.SEQUENTIAL,
        MappingKind.RANDOM: NatType.RANDOM,
    }
)


def odds_between(one: NatType, other: NatType) -> Odds:
    """What is to be expected of a connection between nodes behind these two."""
    pair = {one, other}
    if NatType.BLOCKED in pair:
        return Odds.RELAYED
    if pair & _EASY or pair == {NatType.PORT}:
        # Whoever checks the host, or whose port is known, opens its own filter.
        return Odds.DIRECT
    return Odds.RELAYED if NatType.RANDOM in pair else Odds.PREDICTED


def type_of(mapping: MappingKind, *, is_reached: bool) -> NatType | None:
    """The type of a NAT by what was found out; None while too little was.

    Args:
        mapping: which ports it gives.
        is_reached: strangers reached our port. Else the strictest filter is assumed:
            what it lets in cannot be told from inside.
    """
    if is_reached and not mapping.is_dependent:
        return NatType.OPEN if mapping is MappingKind.NONE else NatType.FULL
    return _BY_MAPPING.get(mapping)
