"""The distributed hash table: joins it, finds and stores records, keeps contacts alive.

Owns the parts that do the work and their periodic round. Every record is verified
here by whoever reads or holds it. Refuses to know what records mean and how datagrams
travel.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.core.records import SignedRecord
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.contacts import Contacts, KnownContact
from opnode.drivers.dht.delegation import Delegation
from opnode.drivers.dht.delegation_service import DelegationService, Outcome
from opnode.drivers.dht.finishing import Finishing
from opnode.drivers.dht.holdings import Holdings, HoldingsStatistics
from opnode.drivers.dht.lookups import FindNodes, Lookups
from opnode.drivers.dht.own_records import OwnRecords
from opnode.drivers.dht.probing import Prober
from opnode.drivers.dht.puts import Writer
from opnode.drivers.dht.reads import Reader
from opnode.drivers.dht.restoring import Restoration
from opnode.drivers.dht.service import DhtService
from opnode.drivers.dht.watch_service import WatchService
from opnode.drivers.dht.watches import Watched, Watches
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.store import RecordStore
from opnode.protocols.lookup.trace import LookupTrace
from opnode.protocols.routing import BucketView
from opnode.protocols.rpc.messages import MAX_CONTACTS, Ping

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtStatistics:
    """Counters since the start; what is held, watched and served is of this instant.

    ``network_size`` is the estimated number of nodes; ``alarm`` says of a key with far
    more nodes around it than chance explains. ``equivocations``: slots whose owner
    signed two contents under one number. ``watchers``: subscriptions of others;
    ``watching``: our own. ``delegated``: lookups that servers ran for us;
    ``lookups_for_others``: those that we ran.
    """

    contacts: int
    records: int
    own_records: int
    own_put_again: int
    own_failed: int
    lookups: int
    queries: int
    stored: int
    repaired: int
    bad_records: int
    refusals: tuple[tuple[str, int], ...]
    holdings: HoldingsStatistics
    equivocations: int
    network_size: float | None
    alarm: str | None
    buckets: tuple[BucketView, ...]
    watchers: int
    watching: int
    delegated: int
    lookups_for_others: int


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
        store.near = rpc.node_id
        self._counts: Counter[str] = Counter()
        counts = self._counts
        self._contacts = Contacts(rpc, self._config, rng, counts)
        self._lookups = Lookups(rpc, self._contacts, self._config, rng, counts)
        self._finishing = Finishing(self._config, rpc.has_room)
        self._reader = Reader(
            self._lookups, store, wall_clock, self._finishing, counts=counts
        )
        self._writer = Writer(
            rpc,
            self._lookups,
            store,
            wall_clock=wall_clock,
            config=self._config,
            counts=counts,
        )
        self._own = OwnRecords(self._config, wall_clock, rng)
        self._service = DhtService(
            rpc, store, wall_clock, self._contacts.nearest_packed
        )
        self._holdings = self._hold()
        self._service.on_stored = self._holdings.seen
        self._watch_service = WatchService(rpc, self._config.watch)
        self._watches = Watches(
            rpc, self._lookups, wall_clock, rng, self._config.watches
        )
        self._watches.find_nodes = self.closest_nodes
        store.on_accepted = self._accepted
        self._delegation = self._delegate()
        self._delegation_service = DelegationService(
            rpc, self._run_for_another, self._config.delegation
        )

    @property
    def prober(self) -> Prober:
        """Asks single nodes about one record."""
        return Prober(self._lookups)

    def contacts(self) -> list[Contact]:
        """The contacts in the routing table."""
        return self._contacts.table.contacts()

    def statistics(self) -> DhtStatistics:
        """Read the counters."""
        counts = self._counts
        return DhtStatistics(
            contacts=len(self._contacts),
            records=self._store.statistics().records,
            own_records=len(self._own),
            own_put_again=self._own.put_again,
            own_failed=self._own.failed,
            lookups=counts["lookups"],
            queries=counts["queries"],
            stored=counts["stored"],
            repaired=counts["repaired"],
            bad_records=counts["bad_records"]
            + self._service.bad_records
            + self._watches.bad_records(),
            refusals=tuple(sorted(self._writer.refusals.items())),
            holdings=self._holdings.statistics(),
            equivocations=counts["equivocations"],
            network_size=self._contacts.network_size,
            alarm=self._contacts.alarm(trio.current_time()),
            buckets=self._contacts.views(trio.current_time()),
            watchers=self._watch_service.statistics().watches,
            watching=len(self._watches),
            delegated=counts["delegated"],
            lookups_for_others=self._delegation_service.lookups,
        )

    def adopt_node_id(self, node_id: NodeId) -> None:
        """Move to another place, as when the public address becomes known."""
        if node_id == self._rpc.node_id:
            return
        self._rpc.node_id = self._store.near = node_id
        self._contacts.move()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep contacts alive, refresh, republish and expire, until cancelled."""
        task_status.started()
        config = self._config
        expires_at = trio.current_time() + config.expire_s
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_service.run)
            nursery.start_soon(self._delegation_service.run)
            nursery.start_soon(self._holdings.run)
            nursery.start_soon(self._finishing.run)
            while True:
                await trio.sleep(config.tick_s * self._rng.uniform(0.5, 1.5))
                now = trio.current_time()
                # People's lookups go first: what nobody waits for waits for room.
                if self._rpc.has_room():
                    self._contacts.tick(now)
                    target = self._contacts.refresh_target(now)
                    if target is not None:
                        nursery.start_soon(self.closest_nodes, target)
                    lost = self._contacts.lost_to_ask(now)
                    if lost is not None:
                        nursery.start_soon(self._meet_again, lost)
                    for record in self._own.due(now):
                        nursery.start_soon(self._republish, record)
                if now >= expires_at:
                    expires_at = now + config.expire_s
                    self._store.expire(self._wall_clock())

    async def leave(self) -> None:
        """Give the records that we hold to whoever takes our place.

        The caller bounds the time; what is not given by then has other holders.
        """
        await self._holdings.leave()

    def shun(self, endpoint: Endpoint) -> None:
        """Keep whoever is at this address out of the table: it is not who should be."""
        self._contacts.shun(endpoint)

    def welcome(self, endpoint: Endpoint) -> None:
        """Take back ``shun``."""
        self._contacts.welcome(endpoint)

    def some_servers(self, count: int) -> list[Contact]:
        """Contacts that may be handed on, others each time."""
        target = self._rng.getrandbits(160).to_bytes(20, "big")
        return self._contacts.nearest_reliable(target, count)

    def read_contacts_untrusted(
        self, reporter: Endpoint, packed: Iterable[bytes]
    ) -> list[Contact]:
        """The contacts worth asking of those that a node named."""
        return self._contacts.read_untrusted(reporter, packed)

    def known_contacts(self) -> list[KnownContact]:
        """The contacts to remember over a restart, the most trusted first."""
        return self._contacts.known(trio.current_time())

    def lost_contacts(self) -> list[KnownContact]:
        """Contacts that fell silent, the last first."""
        return self._contacts.lost(trio.current_time())

    async def restore(
        self,
        known: Sequence[KnownContact],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> int:
        """Meet again those whom we knew, and our neighbourhood as soon as some answer.

        Started when some did, or nobody will. Returns the number of contacts in the
        table afterwards.
        """
        restoration = Restoration(self._rpc, self._contacts, self._config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(restoration.run, known)
            await restoration.ready.wait()
            task_status.started()
            await self._find_neighbours()
        return len(self._contacts)

    async def join(self, endpoints: Sequence[Endpoint]) -> int:
        """Meet the nodes at these addresses and, through them, our neighbourhood.

        Returns the number of contacts in the table afterwards.
        """
        # Only the answers tell the ids; the Rpc reports them to ``Contacts``.
        unknown = NodeId(bytes(20))
        await self._lookups.ask_all((Contact(unknown, e), Ping()) for e in endpoints)
        await self._find_neighbours()
        return len(self._contacts)

    async def announce(self) -> None:
        """Let our neighbourhood know us, as after we became a server."""
        await self._find_neighbours()

    async def _find_neighbours(self) -> None:
        if not len(self._contacts):
            return
        own = self._rpc.node_id
        search = self._lookups.search(own, FindNodes())
        search.lookup.asks_region_at_once = True
        # A neighbour that is late now is a neighbour all the same.
        search.waits_for_stragglers = True
        await self._lookups.run(search, own)
        # Kademlia §2.3: then what is farther away than our neighbourhood.
        for number in range(self._config.joined_parts):
            part = self._contacts.thin_part(number)
            if part is not None:
                await self._lookups.meet_some(part)

    async def _meet_again(self, lost: Contact) -> None:
        """Ask somebody who fell silent; if it is back, meet whom it knows next to us.

        After a partition our own table leads to our side alone, also where this contact
        gets a place in it. Its neighbours of ours are the other half of our
        neighbourhood.
        """
        batch = await self._lookups.ask_all([(lost, Ping())])
        if batch.answers:
            await self._lookups.meet_through(lost)

    async def closest_nodes(self, key: bytes) -> list[Contact]:
        """The k closest nodes to ``key`` that answered, nearest first.

        Fewer of them while servers look up for us (``DelegationConfig``).
        """
        if self._delegation.is_due:
            nodes = await self._delegation.closest_nodes(key)
            if nodes:
                return nodes
        return await self._lookups.closest_nodes(key)

    async def closest_nodes_again(self, key: bytes) -> list[Contact]:
        """The same, for one who looked before and wants to hear what changed.

        Where each node asked is a mapping of a NAT, servers look: eleven take part, not
        thirty.
        """
        if self._rpc.leaf:
            nodes = await self._delegation.closest_nodes(key)
            if nodes:
                return nodes
        return await self.closest_nodes(key)

    async def put(
        self,
        record: SignedRecord,
        *,
        republish: bool = False,
        expected_seq: int | None = None,
    ) -> int:
        """Store a record in its region; returns how many acknowledged.

        Args:
            record: verified or made here.
            republish: put it again now and then until it expires, or until a put of a
                newer one in its slot takes its place.
            expected_seq: store it only where its slot holds this sequence number, or
                nothing if it is ``NO_RECORD`` (compare and swap).

        Raises:
            OtherSequence: no fewer holders have another number than took the record.
        """
        if republish and expected_seq is None:
            self._own.keep(record)
        accepted = await self._put(record, expected_seq)
        if republish and expected_seq is not None:
            # Not before it was accepted: another device's record may be the newer.
            self._own.keep(record)
        if republish and not accepted:
            self._own.nobody_took(record)
        return accepted

    async def _put(self, record: SignedRecord, expected_seq: int | None) -> int:
        if self._delegation.is_due and expected_seq is None:
            holders = await self._delegation.closest_nodes(record.key)
            if holders:
                return len(await self._writer.put_at(record, holders))
        return await self._writer.put(record, expected_seq)

    async def put_at(
        self, record: SignedRecord, holders: Sequence[Contact]
    ) -> list[Contact]:
        """Store a record at these nodes; returns those that acknowledged.

        Without a lookup, a record that changes often is renewed at a quarter of the
        cost.
        """
        return await self._writer.put_at(record, holders)

    def hold_if_close(self, record: SignedRecord, holders: Sequence[Contact]) -> bool:
        """Hold a record of ours too if we are among the closest servers."""
        return self._writer.hold_if_close(record, holders)

    async def find_first(
        self,
        key: bytes,
        wanted: Callable[[SignedRecord], bool],
        on_newer: Callable[[SignedRecord], None] | None = None,
    ) -> list[SignedRecord]:
        """Search until a verified record that is wanted is here.

        Returns the best record of every slot heard of until then. While ``run`` does,
        the rest of the region is read in the background.

        Args:
            key: 20 bytes.
            wanted: which record is good enough.
            on_newer: called with every wanted record that turns up afterwards: a newer
                one, or one of another slot. Must be quick and not raise.

        Raises:
            RecordNotFound: the whole lookup brought none.
        """
        held = self._store.records(key, self._wall_clock())
        if self._delegation.is_due and not any(map(wanted, held)):
            found = await self._delegation.find_first(key, wanted)
            if found is not None:
                return found
        return await self._reader.find_first(key, wanted, on_newer)

    async def trace(self, key: bytes) -> LookupTrace:
        """Look a key up in its whole region and tell every step of the way."""
        return await self._reader.trace(key)

    async def trace_nodes(self, key: bytes) -> LookupTrace:
        """Look for the nodes of a key's region and tell every step of the way."""
        return await self._lookups.trace(key)

    async def find_all(self, key: bytes) -> list[SignedRecord]:
        """The newest record of every slot, from all the closest nodes.

        Holders that have an older one, or none, are given the newest.
        """
        if self._delegation.is_due:
            found = await self._delegation.find_all(key)
            if found is not None:
                return found
        return await self._reader.find_all(key)

    async def highest_seq(self, record: SignedRecord) -> int | None:
        """Under which number a record's slot is held anywhere; None if it is empty.

        For an owner whose own memory may be behind: after a restart, or where its clock
        was ahead.
        """
        return await self._reader.highest_seq(record)

    def watch(self, key: bytes) -> AbstractAsyncContextManager[Watched]:
        """Hear of the records under a key as they change, without asking again.

        Within the block, iterate over what it gives: each verified record that is held
        now, then each newer one of a slot, within a round trip of its holders.

        Raises:
            LocalProtocolError: too many watches are open.
        """
        held = self._store.records(key, self._wall_clock())
        return self._watches.open(key, held)

    def watch_behind_nat(
        self,
        is_behind_nat: Callable[[], bool],
        lifetime_s: Callable[[], float] | None = None,
    ) -> None:
        """Renew watches as often as ``is_behind_nat`` makes it necessary.

        ``lifetime_s``: how long a NAT is known to bear silence.
        """
        self._watches.is_behind_nat = is_behind_nat
        if lifetime_s is not None:
            self._watches.binding_lifetime_s = lifetime_s

    async def _run_for_another(self, key: bytes, for_records: bool) -> Outcome:
        if not for_records:
            return (), await self._lookups.closest_nodes(key, is_for_another=True)
        records, nodes = await self._reader.find_for_another(key)
        return records, nodes or self._contacts.nearest_reliable(key, MAX_CONTACTS)

    def _delegate(self) -> Delegation:
        return Delegation(
            self._rpc,
            self._contacts,
            self._lookups,
            wall_clock=self._wall_clock,
            rng=self._rng,
            config=self._config.delegation,
            counts=self._counts,
        )

    def _hold(self) -> Holdings:
        return Holdings(
            self._rpc,
            self._contacts,
            self._writer,
            self._store,
            wall_clock=self._wall_clock,
            rng=self._rng,
            config=self._config.holdings,
            k=self._config.lookup.k,
        )

    def _accepted(self, record: SignedRecord) -> None:
        self._watch_service.changed(record)
        self._watches.accepted(record)

    async def _republish(self, record: SignedRecord) -> None:
        holders = await self._put(record, None)
        logger.debug("%r is held by %d nodes again", record, holders)
        if not holders:
            self._own.nobody_took(record)
