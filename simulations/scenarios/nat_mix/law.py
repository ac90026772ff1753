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


MEASURED: Final = MappingProxyType[tuple[str, str], Seen]({})


def chance_of_direct(one: str, other: str) -> float:
    """How likely a call from one kind to the other becomes direct.

    Zero where there is no direct path in principle; else what was measured on `real`,
    or certainty where that pair was never tried.
    """
    if odds_between(KINDS[one], KINDS[other]) is Odds.RELAYED:
        return 0.0
    seen = MEASURED.get((one, other))
    return seen.direct / seen.tried if seen else 1.0
