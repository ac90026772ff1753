"""Limits and periods of a node's part in the DHT."""

from dataclasses import dataclass, field

from opnode.protocols.density import DensityConfig
from opnode.protocols.lookup import LookupConfig
from opnode.protocols.routing import RoutingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtConfig:
    """Limits and periods of a node's part in the DHT.

    Attributes:
        silent_s: a contact not heard for this long is pinged; 20 neighbours then cost
            about 10 B/s. Up to a quarter is added, different for each contact.
        refresh_s: a bucket without a lookup for this long gets one (Kademlia §2.3).
        republish_s: own records are put again this often, so that holders that left
            are replaced; short-lived records after a third of their remaining life.
            Every lookup and 20 copies are 33 kB, 1.5 B/s at this pace, and in field
            measurements no record of 10 000 was lost in 24 hours without.
        expire_s: how often expired records are dropped from the store.
        tick_s: mean pause between two rounds of maintenance.
        pings_per_tick: spreads the pings after a long pause.
        max_checks: contacts being verified at once; newcomers beyond it are met later.
        max_shunned: addresses kept out; a full seeds file has four each.
        max_own: own records that are republished.
        alarm_shown_s: how long ``status`` shows a neighbourhood that was too full.
    """

    silent_s: float = 300.0
    refresh_s: float = 3600.0
    republish_s: float = 21_600.0
    expire_s: float = 60.0
    tick_s: float = 10.0
    pings_per_tick: int = 4
    max_checks: int = 32
    max_shunned: int = 1024
    max_own: int = 1024
    alarm_shown_s: float = 3600.0
    density: DensityConfig = field(default_factory=DensityConfig)
    lookup: LookupConfig = field(default_factory=LookupConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
