"""Limits and periods of a node's part in the DHT."""

from dataclasses import dataclass, field

from opnode.protocols.density import DensityConfig
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.routing import RoutingConfig
from opnode.protocols.watching import WatchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishingConfig:
    """How a search goes on after its first answer.

    Attributes:
        waiting: searches that wait for their turn, one is under way; more are dropped.
            Eight in a row are finished within a minute.
        delay_s: whoever got the answer uses it first.
        pace_s: one question each time; a region of 20 is read in five seconds, and a
            node that reads all the time spends four small datagrams a second on it.
    """

    waiting: int = 8
    delay_s: float = 1.0
    pace_s: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchesConfig:
    """How a node watches, each figure with its reason.

    Attributes:
        holders: of one key, the nearest that take a watch: a notice is missed when all
            of them are gone or miss it.
        holders_behind_nat: there every holder is a NAT binding and a renewal each
            ``nat_renew_s``: 120 bytes each way.
        lifetime_s: what is asked for; a holder forgets us that long after we left.
        renew_s: a third of it, so that a renewal may fail twice.
        nat_renew_s: below the 30 s after which the strictest home gateways forget a
            mapping, which is the only way for a notice.
        look_every_s: nodes come and go slowly: the nearest are looked up anew hourly,
            or as soon as one of ours is gone.
        retry_s: pause before the next look when there were too few, doubled each time.
        retry_cap_s: ... up to this.
        max_watches: the people in one address book. 256 cost 2 kB/s to renew behind a
            NAT and 0.1 kB/s elsewhere.
        max_slots: slots of one kind under one key that are followed: twice as many as
            a bag holds.
        notices_per_s: of one holder that are verified; a holder keeps to four.
        notices_burst: the devices of one identity may all come at once.
    """

    holders: int = 4
    holders_behind_nat: int = 2
    lifetime_s: int = 600
    renew_s: float = 200.0
    nat_renew_s: float = 25.0
    look_every_s: float = 3600.0
    retry_s: float = 5.0
    retry_cap_s: float = 300.0
    max_watches: int = 256
    max_slots: int = 32
    notices_per_s: float = 8.0
    notices_burst: float = 32.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingsConfig:
    """How a node cares for the records that it holds for others.

    Attributes:
        reput_s: a bag that nobody put for this long is put again by its closest
            holder (Kademlia §2.5). Half of the nodes met at random leave within four
            hours, so of twenty holders some are left after one.
        patience: others' puts are relied on for so many periods in a row; who puts a
            record at us alone must not keep us from putting it where it belongs.
        givers: how many of the closest holders give a newcomer its records: one may
            be dead or a liar.
        neighbours: watched for newcomers. The k closest of any record that we should
            hold are among the 3 k closest to ourselves.
        give_s: a newcomer is given records for so long; 100 of them take 5 s, what is
            missing then is put again within the hour.
        max_refused: so many in a row that a newcomer does not take are enough: it is
            full or silent. A single one may be older than what it has.
        settle_s: after a restart with records, everybody met at first is no newcomer.
        forget_s: who was away longer than this is a newcomer again.
        max_known: neighbours that left and are remembered, for ``forget_s``.
        max_seen: bags of which it is known when they were put, 200 bytes each. As many
            as a store holds; what came and went need not be remembered.
        tick_s: mean pause between two looks around.
        walk_s: in this time all bags are looked at once, or longer when there are
            more than 10 000.
        keys_per_step: bags looked at in one go: 3 ms of work.
        bytes_per_s: all of this together may use so much of the uplink; a node with
            1000 records needs about 300 B/s.
        burst_bytes: and so much at once, as when a neighbour has just arrived.
        leaving_keys: bags given on when the node stops: what fits into a second.
        leaving_at_once: of them under way.
    """

    reput_s: float = 3600.0
    patience: int = 4
    givers: int = 2
    neighbours: int = 60
    give_s: float = 120.0
    max_refused: int = 4
    settle_s: float = 600.0
    forget_s: float = 3600.0
    max_known: int = 1024
    max_seen: int = 100_000
    tick_s: float = 30.0
    walk_s: float = 600.0
    keys_per_step: int = 512
    bytes_per_s: float = 8192.0
    burst_bytes: float = 131_072.0
    leaving_keys: int = 1024
    leaving_at_once: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationConfig:
    """Lookups that others run for us, and those that we run for others.

    Attributes:
        few_bindings: have our lookups run by servers as long as we are a leaf: for
            NATs with room for few mappings.
        servers: asked at once, of unrelated networks: one may lie and one be silent.
        checks: nodes that we ask ourselves when the servers bring no record: a
            liar has a third of them at most.
        holders: nodes that a put of ours goes to, as many as a presence has.
        grace_s: wait at least so long for the other servers after the first record,
            and as long again as that took: the newest record counts, not the first.
        patience: a server too slow for that so often in a row is replaced by another,
            which takes a mapping; one slow lookup is nothing.
        passed_over_s: a server that failed is not asked for so long.
        answer_s: a server answers by then, before its asker gives up (rpc §4.5).
        asks_per_s: lookups run for one host; 20 datagrams each.
        burst_s: so many seconds' worth may come at once: a leaf that starts.
        total_per_s: lookups run for everybody: 400 datagrams a second.
        max_running: lookups under way for others; a task and 20 kB each.
        max_waiting: askers that wait for one lookup of the same key.
        tracked: hosts remembered for the ration, servers remembered as failed.
    """

    few_bindings: bool = False
    servers: int = 3
    checks: int = 6
    holders: int = 8
    grace_s: float = 0.1
    patience: int = 2
    passed_over_s: float = 600.0
    answer_s: float = 4.0
    asks_per_s: float = 1.0
    burst_s: float = 8.0
    total_per_s: float = 20.0
    max_running: int = 32
    max_waiting: int = 64
    tracked: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtConfig:
    """Limits and periods of a node's part in the DHT.

    Attributes:
        refresh_s: a bucket without a lookup for this long gets one (Kademlia §2.3).
        joined_parts: halves, quarters and so on of the network that a node looks into
            when it joins, where it knows few: the lookups of all start there.
        met: contacts that are met there: as many as survive until the refresh.
        republish_s: own records are put again this often, so that holders that left
            are replaced; short-lived records after a third of their remaining life.
            Every lookup and 20 copies are 33 kB, 1.5 B/s at this pace, and in field
            measurements no record of 10 000 was lost in 24 hours without.
        expire_s: how often expired records are dropped from the store.
        tick_s: mean pause between two rounds of maintenance.
        pings_per_tick: spreads the pings after a long pause; a table of a thousand,
            most of which need one every 40 minutes, needs half of it.
        leaf_checks, leaf_checks_s: nobody asks a leaf for contacts, and each ping is a
            mapping of its NAT for minutes: so many at once, so often. Its own lookups
            and the nodes that it needs anyway tell it who lives.
        leaf_refresh_s: one bucket at a time for a leaf, as a lookup takes thirty
            mappings: 2 B/s instead of 100.
        leaf_enough: contacts with which a leaf can do so, or half of a small network.
        max_checks: contacts being verified at once; newcomers beyond it are met later.
        max_lost: contacts that fell silent, those known longest. They are asked when
            nobody else is left, and one of them now and then.
        lost_check_s: between two that are: after the network was cut in two, half of
            the nodes have met one of the other side within 10 minutes. 0.3 B/s.
        lost_kept_s: who was silent for so long is forgotten: a cut lasts hours.
        max_shunned: addresses kept out; a full seeds file has four each.
        max_own: own records that are republished.
        own_per_tick: of them put in one round; all of them then take 20 minutes.
        own_retry_s: after a put that no holder took, a quarter more or less.
        max_suspects: addresses remembered that failed lately; 200 B each.
        suspected_s: ... for so long: until the pings of those who know them took them
            out of their tables, and a short outage of ours is forgiven soon.
        lookup_deadline_s: a lookup ends with what it has by then: four times what one
            with half of the nodes dead takes around the globe.
        restored: contacts of the last run that are asked to prove themselves.
        leaf_restored: of a leaf: half of 40 may be gone, and a lookup begins with 20.
        restored_at_once, restore_pause_s: so many, then a pause: all 200 within 2.5 s,
            and 20 datagrams are no burst.
        restored_enough: so many that did are enough to look for the rest; or one, if
            no more did for ``restore_wait_s``.
        alarm_shown_s: how long ``status`` shows a neighbourhood that was too full.
    """

    refresh_s: float = 3600.0
    joined_parts: int = 4
    met: int = 8
    republish_s: float = 21_600.0
    expire_s: float = 60.0
    tick_s: float = 10.0
    pings_per_tick: int = 8
    leaf_checks: int = 6
    leaf_checks_s: float = 1800.0
    leaf_refresh_s: float = 21_600.0
    leaf_enough: int = 20
    max_checks: int = 32
    max_lost: int = 64
    lost_check_s: float = 600.0
    lost_kept_s: float = 259_200.0
    max_shunned: int = 1024
    max_own: int = 1024
    own_per_tick: int = 8
    own_retry_s: float = 60.0
    max_suspects: int = 1024
    suspected_s: float = 60.0
    lookup_deadline_s: float = 20.0
    restored: int = 200
    leaf_restored: int = 40
    restored_at_once: int = 20
    restore_pause_s: float = 0.25
    restored_enough: int = 3
    restore_wait_s: float = 1.0
    alarm_shown_s: float = 3600.0
    density: DensityConfig = field(default_factory=DensityConfig)
    finishing: FinishingConfig = field(default_factory=FinishingConfig)
    lookup: LookupConfig = field(default_factory=LookupConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    watches: WatchesConfig = field(default_factory=WatchesConfig)
    delegation: DelegationConfig = field(default_factory=DelegationConfig)
    holdings: HoldingsConfig = field(default_factory=HoldingsConfig)
