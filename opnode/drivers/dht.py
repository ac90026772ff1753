"""The distributed hash table: joins it, finds and stores records, keeps contacts alive.

Owns the routing table's life, lookups over RPC, puts and gets, republishing. Every
record is verified here by whoever reads or holds it. Refuses to know what records mean
and how datagrams travel.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import trio

from opnode.core.addresses import Endpoint, is_loopback, is_public
from opnode.core.errors import (
    NetworkError,
    RecordError,
    RecordNotFound,
    RemoteProtocolError,
    RequestRefused,
    RequestTimeout,
    StorageError,
)
from opnode.core.ids import Contact, NodeId, distance, short
from opnode.core.records import SignedRecord, slot_of
from opnode.drivers.clock import WallClock
from opnode.drivers.dht_search import Batch, Collection, Search
from opnode.drivers.dht_service import DhtService, failure_name
from opnode.drivers.rpc import Answer, Rpc
from opnode.drivers.store import RecordStore
from opnode.protocols.lookup import Lookup, LookupConfig
from opnode.protocols.routing import RoutingConfig, Table, fits
from opnode.protocols.rpc.messages import (
    FindNode,
    FindValue,
    Ping,
    Request,
    Store,
    Stored,
    Values,
    unpack_contact_untrusted,
)

logger = logging.getLogger(__name__)


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
    lookup: LookupConfig = field(default_factory=LookupConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtStatistics:
    """Counters since the start; contacts and records held are of this instant."""

    contacts: int
    records: int
    own_records: int
    lookups: int
    queries: int
    stored: int
    repaired: int
    bad_records: int
    refusals: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class _Own:
    record: SignedRecord
    due_at: float


class Dht:
    """One node's part in the DHT."""

    def __init__(
        self,
        rpc: Rpc,
        store: RecordStore,
        *,
        wall_clock: WallClock,
        rng: random.Random,
        config: DhtConfig | None = None,
    ) -> None:
        """Serve FIND_NODE, FIND_VALUE and STORE on ``rpc`` and use them.

        The node id and whether we are a leaf are the Rpc's.
        """
        self._config = config or DhtConfig()
        self._rpc = rpc
        self._store = store
        self._wall_clock = wall_clock
        self._rng = rng
        self._table = Table(rpc.node_id, self._config.routing)
        store.near = rpc.node_id
        self._checks: set[Endpoint] = set()
        self._shunned: dict[Endpoint, None] = {}
        self._own: dict[tuple[bytes, int, bytes], _Own] = {}
        self._counts: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        rpc.on_contact = self._met
        rpc.on_failure = self._missed
        self._service = DhtService(rpc, store, wall_clock, self._nearest_reliable)

    def contacts(self) -> list[Contact]:
        """The contacts in the routing table."""
        return self._table.contacts()

    def statistics(self) -> DhtStatistics:
        """Read the counters."""
        counts = self._counts
        return DhtStatistics(
            contacts=len(self._table),
            records=self._store.statistics().records,
            own_records=len(self._own),
            lookups=counts["lookups"],
            queries=counts["queries"],
            stored=counts["stored"],
            repaired=counts["repaired"],
            bad_records=counts["bad_records"] + self._service.bad_records,
            refusals=tuple(sorted(self._refusals.items())),
        )

    def adopt_node_id(self, node_id: NodeId) -> None:
        """Move to another place, as when the public address becomes known."""
        if node_id == self._rpc.node_id:
            return
        self._rpc.node_id = self._store.near = node_id
        entries = self._table.entries()
        self._table = Table(node_id, self._config.routing)
        for entry in entries:
            self._table.heard(entry.contact, entry.heard_at)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep contacts alive, refresh, republish and expire, until cancelled."""
        task_status.started()
        config = self._config
        expires_at = trio.current_time() + config.expire_s
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(config.tick_s * self._rng.uniform(0.5, 1.5))
                now = trio.current_time()
                self._ping_silent(now)
                nursery.start_soon(self._refresh_one, now)
                for own in self._due_records(now):
                    nursery.start_soon(self._republish, own)
                if now >= expires_at:
                    expires_at = now + config.expire_s
                    self._store.expire(self._wall_clock())

    def shun(self, endpoint: Endpoint) -> None:
        """Keep whoever is at this address out of the table: it is not who should be."""
        self._shunned[endpoint] = None
        if len(self._shunned) > self._config.max_shunned:
            del self._shunned[next(iter(self._shunned))]
        for contact in self._table.contacts():
            if contact.endpoint == endpoint:
                self._table.remove(contact.node_id)

    def welcome(self, endpoint: Endpoint) -> None:
        """Take back ``shun``."""
        self._shunned.pop(endpoint, None)

    async def join(self, endpoints: Sequence[Endpoint]) -> int:
        """Meet the nodes at these addresses and, through them, our neighbourhood.

        Returns the number of contacts in the table afterwards.
        """
        # Only the answers tell the ids; the Rpc reports them through ``_met``.
        unknown = NodeId(bytes(20))
        await self._ask_all((Contact(unknown, e), Ping()) for e in endpoints)
        if len(self._table):
            own = self._rpc.node_id
            search = self._search(own, FindNode(own))
            # A neighbour that is late now is a neighbour all the same.
            search.waits_for_stragglers = True
            await self._run_search(search, own)
        return len(self._table)

    async def closest_nodes(self, key: bytes) -> list[Contact]:
        """The k closest nodes to ``key`` that answered, nearest first."""
        search = self._search(key, FindNode(key))
        await self._run_search(search, key)
        return search.lookup.closest()

    async def put(self, record: SignedRecord, *, republish: bool = False) -> int:
        """Store a record at the closest nodes; returns how many acknowledged.

        Args:
            record: verified or made here.
            republish: put it again now and then until it expires, or until a put of a
                newer one in its slot takes its place.
        """
        if republish:
            self._keep_own(record)
        holders = await self.closest_nodes(record.key)
        held_here = self.hold_if_close(record, holders)
        return held_here + len(await self.put_at(record, holders))

    async def put_at(
        self, record: SignedRecord, holders: Sequence[Contact]
    ) -> list[Contact]:
        """Store a record at these nodes; returns those that acknowledged.

        Without a lookup, a record that changes often is renewed at a quarter of the
        cost.
        """
        # A refused STORE would have to be sent again with the token it brought.
        unproven = [h for h in holders if not self._rpc.token_for(h.endpoint)]
        await self._ask_all((holder, Ping()) for holder in unproven)
        body = Store(record.wire)
        batch = await self._ask_all((holder, body) for holder in holders)
        stored = [
            holder for holder, _, reply in batch.answers if isinstance(reply, Stored)
        ]
        self._note_refusals(record, batch)
        self._counts["stored"] += len(stored)
        return stored

    async def find_first(
        self, key: bytes, wanted: Callable[[SignedRecord], bool]
    ) -> list[SignedRecord]:
        """Search until a verified record that is wanted is here.

        Returns the best record of every slot heard of until then.

        Raises:
            RecordNotFound: the whole lookup brought none.
        """
        found = Collection(key, self._wall_clock())
        for record in self._store.records(key, self._wall_clock()):
            found.add(record)
        if any(wanted(record) for record in found.records()):
            await trio.lowlevel.checkpoint()
            return found.records()
        search = self._search(key, FindValue(key))

        def take(contact: Contact, asked: Request, values: Values) -> bool:
            records = [found.add_untrusted(wire) for wire in values.records]
            if any(record is not None and wanted(record) for record in records):
                return True
            assert isinstance(asked, FindValue)
            reached = asked.offset + len(values.records)
            if values.records and reached < values.total:
                search.ask_more(contact, FindValue(key, reached))
            return False

        search.on_values = take
        search.waits_for_stragglers = True
        await self._run_search(search, key)
        self._counts["bad_records"] += found.bad
        if not any(wanted(record) for record in found.records()):
            raise RecordNotFound(
                f"{short(key)}: no record at {len(search.lookup.closest())} nodes"
            )
        return found.records()

    async def find_all(self, key: bytes) -> list[SignedRecord]:
        """The newest record of every slot, from all the closest nodes.

        Holders that have an older one, or none, are given the newest.
        """
        found = Collection(key, self._wall_clock())
        for record in self._store.records(key, self._wall_clock()):
            found.add(record)
        held: dict[Contact, set[bytes]] = {}
        questions: list[tuple[Contact, Request]] = [
            (contact, FindValue(key)) for contact in await self.closest_nodes(key)
        ]
        while questions:
            batch = await self._ask_all(questions)
            questions = []
            for contact, asked, reply in batch.answers:
                if not isinstance(reply, Values) or not isinstance(asked, FindValue):
                    continue
                held.setdefault(contact, set()).update(reply.records)
                for wire in reply.records:
                    found.add_untrusted(wire)
                reached = asked.offset + len(reply.records)
                if reply.records and reached < reply.total:
                    questions.append((contact, FindValue(key, reached)))
        self._counts["bad_records"] += found.bad
        await self._repair(found, held)
        return found.records()

    async def _repair(self, found: Collection, held: dict[Contact, set[bytes]]) -> None:
        """Give every close holder what it lacks; a full bag refuses, which is fine."""
        questions: list[tuple[Contact, Request]] = [
            (contact, Store(record.wire))
            for contact, wires in held.items()
            for record in found.records()
            if record.wire not in wires
        ]
        if questions:
            batch = await self._ask_all(questions)
            stored = sum(isinstance(reply, Stored) for _, _, reply in batch.answers)
            self._counts["repaired"] += stored

    async def _ask_all(self, questions: Iterable[tuple[Contact, Request]]) -> Batch:
        batch = Batch(self._rpc)
        await batch.run(questions)
        return batch

    def _search(self, key: bytes, body: Request) -> Search:
        # A reply names at most so many, so a lookup with a larger k starts narrower.
        seeds = self._table.nearest(key, self._config.lookup.k)
        lookup = Lookup(key, seeds, self._config.lookup)
        return Search(self._rpc, lookup, body, self._read_contacts_untrusted)

    async def _run_search(self, search: Search, key: bytes) -> None:
        self._table.visited(key, trio.current_time())
        self._counts["lookups"] += 1
        try:
            await search.run()
        finally:
            self._counts["queries"] += search.lookup.asked

    def _read_contacts_untrusted(
        self, reporter: Endpoint, packed: Iterable[bytes]
    ) -> list[Contact]:
        """The contacts worth asking of those that a node named.

        A node far away cannot send us to our own machine or network, and nobody to an
        id that its address does not allow (BEP 42).
        """
        own = self._rpc.node_id
        is_ipv6 = ":" in reporter.host
        contacts = []
        for data in packed:
            try:
                contact = unpack_contact_untrusted(data)
            except RemoteProtocolError:
                self._counts["bad_contacts"] += 1
                continue
            host = contact.endpoint.host
            if (
                contact.node_id != own
                and (":" in host) == is_ipv6
                and _may_name(reporter.host, host)
                and fits(contact)
            ):
                contacts.append(contact)
        return contacts

    def hold_if_close(self, record: SignedRecord, holders: Sequence[Contact]) -> bool:
        """Hold a record of ours too if we are among the closest servers."""
        if self._rpc.leaf:
            return False
        k = self._config.lookup.k
        if len(holders) >= k:
            own = distance(self._rpc.node_id, record.key)
            if own > distance(holders[k - 1].node_id, record.key):
                return False
        try:
            self._store.put_untrusted(record.wire, self._wall_clock())
        except (RecordError, StorageError) as error:
            self._refusals[type(error).__name__] += 1
            logger.info("own store refuses %r: %s", record, error)
            return False
        return True

    def _note_refusals(self, record: SignedRecord, batch: Batch) -> None:
        for contact, error in batch.errors:
            name = type(error).__name__
            if isinstance(error, RequestRefused):
                name = failure_name(error.code)
            self._refusals[name] += 1
            logger.debug("%s does not hold %r: %s", contact.endpoint, record, name)

    # --- Contacts ---

    def _nearest_reliable(self, target: bytes, count: int) -> list[Contact]:
        return self._table.nearest(target, count, reliable=True)

    def _met(self, contact: Contact, verified: bool) -> None:
        """Somebody answered or asked. Only a proven address enters the table."""
        now = trio.current_time()
        if contact.endpoint in self._shunned:
            return
        if verified:
            self._table.heard(contact, now)
            return
        endpoint = contact.endpoint
        if endpoint in self._checks or len(self._checks) >= self._config.max_checks:
            return
        if self._table.would_take(contact):
            self._ping(contact)

    def _ping(self, contact: Contact) -> None:
        """Ping without waiting; the Rpc reports the answer through ``_met``."""
        try:
            self._rpc.start(contact.endpoint, Ping(), _Check(self._checks, contact))
        except RequestTimeout:
            return
        self._checks.add(contact.endpoint)

    def _missed(self, endpoint: Endpoint) -> None:
        self._table.failed_at(endpoint)

    def _ping_silent(self, now: float) -> None:
        """Ping the few contacts that were silent for too long."""
        left = self._config.pings_per_tick
        for entry in self._table.entries():
            # Different for each pair of nodes, so that pings spread by themselves.
            jitter = 1 + (entry.id[-1] ^ self._rpc.node_id[-1]) / 1024
            is_due = now - entry.heard_at >= self._config.silent_s * jitter
            if is_due and entry.contact.endpoint not in self._checks:
                self._ping(entry.contact)
                left -= 1
            if left <= 0:
                return

    async def _refresh_one(self, now: float) -> None:
        """Look up a random id of the bucket that went longest without a lookup."""
        idle = self._table.unvisited_since(now - self._config.refresh_s)
        if not idle or not len(self._table):
            return
        lower, upper = idle[self._rng.randrange(len(idle))]
        target = self._rng.randint(lower, upper).to_bytes(20, "big")
        await self.closest_nodes(target)

    # --- Own records ---

    def _keep_own(self, record: SignedRecord) -> None:
        kind, owner = slot_of(record)
        key = (record.key, kind, owner)
        if key not in self._own and len(self._own) >= self._config.max_own:
            raise StorageError(
                f"{len(self._own)} records are republished, that is the limit"
            )
        self._own[key] = _Own(record, self._next_put_at(record))

    def _next_put_at(self, record: SignedRecord) -> float:
        remaining_s = max(0.0, record.expires_at - self._wall_clock())
        pause_s = min(self._config.republish_s, remaining_s / 3)
        return trio.current_time() + pause_s * self._rng.uniform(0.75, 1.25)

    def _due_records(self, now: float) -> list[_Own]:
        wall_now = self._wall_clock()
        for key, own in list(self._own.items()):
            if own.record.expires_at <= wall_now:
                del self._own[key]
        due = [own for own in self._own.values() if own.due_at <= now]
        for own in due:
            own.due_at = self._next_put_at(own.record)
        return due

    async def _republish(self, own: _Own) -> None:
        holders = await self.put(own.record)
        logger.debug("%r is held by %d nodes again", own.record, holders)


class _Check:
    """The listener of a PING that only the routing table waits for."""

    __slots__ = ("checks", "contact")

    def __init__(self, checks: set[Endpoint], contact: Contact) -> None:
        self.checks = checks
        self.contact = contact

    def answered(self, answer: Answer) -> None:
        del answer
        self.checks.discard(self.contact.endpoint)

    def slow(self) -> None:
        """Nobody waits."""

    def failed(self, error: NetworkError) -> None:
        del error
        self.checks.discard(self.contact.endpoint)


@lru_cache(maxsize=4096)
def _may_name(reporter: str, host: str) -> bool:
    """Whether a node at ``reporter`` may send us to ``host``."""
    if is_loopback(host):
        return is_loopback(reporter)
    return is_public(host) or not is_public(reporter)
