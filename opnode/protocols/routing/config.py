"""The limits of a routing table, and how often its contacts are checked."""

import math
from dataclasses import dataclass
from typing import Final

_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingConfig:
    """Limits of the table.

    Attributes:
        k: contacts in a bucket, and what a reply names (Kademlia §2.2).
        relaxed_bits: buckets away from us are split until their depth is a multiple
            of this, so that a lookup advances so many bits a step (Kademlia §4.2).
        replacements: contacts waiting for a place in a full bucket.
        subnet_cap: contacts of one /24 or /48 in a bucket; one owner of a network
            cannot fill it. Public addresses only.
        table_subnet_cap: the same in the whole table (discv5).
        failures: requests in a row without answer until a contact is dropped.
        stocked: with so many contacts (two buckets) the table has enough to ask, and
            nobody enters any more because it asked us, neighbours apart.
        neighbours: contacts that may have entered within the hour because they asked
            us, as our own neighbours must; or a tenth of the table if that is more.
        check_s: a contact known for an hour is checked when it was silent for so long.
        check_power: the pause grows with this power of the contact's age, as the
            field's nodes leave the less the longer they were there: 0.39 keeps 4 % of
            contacts dead at any age (Weibull 0.608 / 3.66 h).
        check_min_s, check_max_s: bounds of the pause; a day old, an hour's pause.
    """

    k: int = 20
    relaxed_bits: int = 5
    replacements: int = 20
    subnet_cap: int = 2
    table_subnet_cap: int = 10
    failures: int = 2
    stocked: int = 40
    neighbours: int = 40
    check_s: float = 1020.0
    check_power: float = 0.39
    check_min_s: float = 300.0
    check_max_s: float = 3600.0

    def pause_s(self, age_s: float) -> float:
        """How long a contact of this age may be silent until it is checked."""
        growth = math.pow(max(age_s, 1.0) / _HOUR_S, self.check_power)
        pause_s = self.check_s * growth
        return min(self.check_max_s, max(self.check_min_s, pause_s))
