"""Which pairs of NATs find a direct path, and how surely.

Owns the seven kinds by their short names, the law of who can reach whom, and what was
measured of it. Refuses to know how common each kind is.
"""

from types import MappingProxyType
from typing import Final, NamedTuple

from opnode.protocols.nat.odds import NatType, Odds, odds_between

KINDS: Final = MappingProxyType(
    {
        "open": NatType.OPEN,
        "full": NatType.FULL,
        "addr": NatType.ADDRESS,
        "port": NatType.PORT,
        "sym": NatType.RANDOM,
        "seq": NatType.SEQUENTIAL,
        "block": NatType.BLOCKED,
    }
)
"""As `opnode.testing.nat_behaviour` names them."""


class Seen(NamedTuple):
    """Calls of one pair of kinds that were tried, and those that became direct."""

    tried: int
    direct: int


MEASURED: Final = MappingProxyType[tuple[str, str], Seen](
    {
        ("addr", "addr"): Seen(44, 44),
        ("addr", "full"): Seen(54, 54),
        ("addr", "open"): Seen(67, 67),
        ("addr", "port"): Seen(54, 54),
        ("addr", "seq"): Seen(55, 38),
        ("addr", "sym"): Seen(45, 45),
        ("full", "addr"): Seen(65, 65),
        ("full", "full"): Seen(104, 103),
        ("full", "open"): Seen(71, 70),
        ("full", "port"): Seen(125, 124),
        ("full", "seq"): Seen(56, 56),
        ("full", "sym"): Seen(84, 84),
        ("open", "addr"): Seen(54, 53),
        ("open", "full"): Seen(94, 93),
        ("open", "open"): Seen(59, 59),
        ("open", "port"): Seen(97, 95),
        ("open", "seq"): Seen(61, 60),
        ("open", "sym"): Seen(76, 73),
        ("port", "addr"): Seen(56, 56),
        ("port", "full"): Seen(127, 127),
        ("port", "open"): Seen(90, 90),
        ("port", "port"): Seen(151, 151),
        ("port", "seq"): Seen(45, 32),
        ("seq", "addr"): Seen(54, 54),
        ("seq", "full"): Seen(57, 57),
        ("seq", "open"): Seen(51, 51),
        ("seq", "port"): Seen(66, 48),
        ("seq", "seq"): Seen(50, 21),
        ("sym", "addr"): Seen(71, 71),
        ("sym", "full"): Seen(84, 84),
        ("sym", "open"): Seen(67, 67),
    }
)
"""By `nat-mix --backend real`, 2026-11-21: six kinds in equal shares, 48 users, 1000
calls, seeds 1 and 2, and the default mix, 60 users, 600 calls; one call each half
second, a dozen under way. What a call does to the next port of a NAT that counts is the
neighbours' doing, so pairs with such a one depend on how busy their homes are."""


def chance_of_direct(one: str, other: str) -> float:
    """How likely a call from one kind to the other becomes direct.

    Zero where there is no direct path in principle; else what was measured on `real`,
    or certainty where that pair was never tried.
    """
    if odds_between(KINDS[one], KINDS[other]) is Odds.RELAYED:
        return 0.0
    seen = MEASURED.get((one, other))
    return seen.direct / seen.tried if seen else 1.0
