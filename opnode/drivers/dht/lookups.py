"""Lookups over RPC, and requests to many nodes at once.

Owns how a search starts from the routing table, its deadline, and what is counted of
it. Refuses to know records.
"""

import bisect
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import trio

from opnode.core.errors import RequestRefused
from opnode.core.ids import Contact, distance
from opnode.drivers.dht.batch import Batch
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.contacts import Contacts, Part
from opnode.drivers.dht.search import Errand, Search
from opnode.drivers.dht.suspects import Suspects
from opnode.drivers.dht.tracing import Recorder
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.lookup.lookup import Lookup, Query
from opnode.protocols.lookup.region import Region
from opnode.protocols.lookup.trace import LookupTrace
from opnode.protocols.rpc.messages import (
    FindNode,
    FindValue,
    Ping,
    Reply,
    Request,
    Values,
)

_SEEDS: Final = 4
"""Buckets' worth to start from where one is of the region alone: most of a table."""


class FindNodes:
    """The errand of whoever wants the closest nodes and nothing of them."""

    def __init__(self) -> None:
        self._questions: dict[bytes, FindNode] = {}

    def question(self, query: Query) -> FindNode:
        """FIND_NODE, for the neighbours that the lookup wants to hear of."""
        body = self._questions.get(query.near)
        if body is None:
            body = self._questions[query.near] = FindNode(query.near)
        return body

    def answered(self, contact: Contact, asked: Request, reply: Reply) -> bool:
        """The lookup took all there is."""
        del contact, asked, reply
        return False

    def refused(self, contact: Contact, asked: Request, error: RequestRefused) -> bool:
        """Whoever does not help with lookups is no use to anybody's."""
        del contact, asked, error
        return False


class Meetings:
    """The errand of whoever wants to meet members of a region, whoever they are.

    A PING and its answer take a tenth of the bytes and bring a contact as well.
    """

    def __init__(self, lookup: Lookup) -> None:
        """Ask for this lookup, which says when enough are known."""
        self._lookup = lookup
        self._nodes = FindNodes()

    def question(self, query: Query) -> Request:
        """FIND_NODE as long as members are to be named, then PING."""
        return Ping() if self._lookup.knows_enough else self._nodes.question(query)

    def answered(self, contact: Contact, asked: Request, reply: Reply) -> bool:
        """The lookup took all there is."""
        return self._nodes.answered(contact, asked, reply)

    def refused(self, contact: Contact, asked: Request, error: RequestRefused) -> bool:
        """Whoever does not help with lookups is no use to anybody's."""
        return self._nodes.refused(contact, asked, error)


class Lookups:
    """Starts searches; ``counts`` takes ``lookups`` and ``queries``."""

    def __init__(
        self,
        rpc: Rpc,
        contacts: Contacts,
        config: DhtConfig,
        rng: random.Random,
        counts: Counter[str],
    ) -> None:
        self._rpc = rpc
        self._contacts = contacts
        self._config = config
        self._rng = rng
        self._counts = counts
        self._suspects = Suspects(
            most=config.max_suspects, remembered_s=config.suspected_s
        )

    @property
    def k(self) -> int:
        """How many nodes a lookup ends with, and a record is meant to have."""
        return self._config.lookup.k

    def radius(self) -> int:
        """Nodes that are nearer to a key than this are in its region; 0: not known."""
        return self._contacts.radius(self._config.lookup.k) or 0

    def search(self, key: bytes, errand: Errand) -> Search:
        """A search of ours for the nodes nearest to a key, not yet begun."""
        config = self._config.lookup
        region = Region(key, self.radius(), points=config.paths, rng=self._rng)
        # A reply names at most so many, so a lookup with a larger k starts narrower.
        seeds = self._contacts.table.nearest(key, config.k)
        if seeds and distance(seeds[-1].node_id, key) < region.radius:
            # All in the region: they may be one gang, ground next to the key. The way
            # around it starts at those beyond.
            more = self._contacts.table.nearest(key, _SEEDS * config.k)
            inside = bisect.bisect_left(
                more, region.radius, key=lambda c: distance(c.node_id, key)
            )
            seeds = more[: inside + config.paths]
        lookup = Lookup(seeds, region, config, suspects=self._suspects)
        read = self._contacts.read_untrusted
        return Search(self._rpc, lookup, errand, read, self._suspects)

    async def run(self, search: Search, key: bytes) -> None:
        """Run a search to its end, or to its deadline.

        One whose errand wanted no more is left as it is, to be closed or finished.
        """
        if not search.is_for_another:
            self._contacts.table.visited(key, trio.current_time())
        self._counts["lookups"] += 1
        try:
            with trio.move_on_after(self._config.lookup_deadline_s):
                await search.run()
        finally:
            if not search.is_stopped:
                search.close()
            self._counts["queries"] += search.lookup.asked
        self.note(search, key)

    def note(self, search: Search, key: bytes) -> None:
        """Learn from a search that ran to its end, unless another chose its key.

        Sybils at a few keys would otherwise have themselves looked up until the network
        seems as dense everywhere, and our regions become too small.
        """
        if search.is_for_another or search.is_stopped:
            return
        if search.lookup.finished:
            self._contacts.finished(key, search.lookup.closest())

    async def closest_nodes(
        self, key: bytes, *, is_for_another: bool = False
    ) -> list[Contact]:
        """The k closest nodes to ``key`` that answered, nearest first."""
        search = self.search(key, FindNodes())
        search.is_for_another = is_for_another
        search.lookup.asks_region_at_once = True
        await self.run(search, key)
        return search.lookup.closest()

    async def meet_some(self, part: Part) -> None:
        """Meet a few nodes of a part of the network, for the routing table's sake.

        It ends with them: it says nothing about the size of the network.
        """
        config = replace(self._config.lookup, k=self._config.met)
        seeds = self._contacts.table.nearest(part.target, self._config.lookup.k)
        region = Region(part.target, part.radius, points=config.paths, rng=self._rng)
        lookup = Lookup(seeds, region, config, suspects=self._suspects)
        lookup.asks_region_at_once = True
        lookup.members_wanted = self._config.met
        self._contacts.table.visited(part.target, trio.current_time())
        await self._meet(lookup, Meetings(lookup))

    async def meet_through(self, contact: Contact) -> None:
        """Meet our own neighbourhood as this contact knows it, whoever we know already.

        Its start is narrow, so it says nothing about the size of the network.
        """
        region = Region(self._rpc.node_id)
        config = self._config.lookup
        lookup = Lookup([contact], region, config, suspects=self._suspects)
        await self._meet(lookup, FindNodes())

    async def _meet(self, lookup: Lookup, errand: Errand) -> None:
        read = self._contacts.read_untrusted
        search = Search(self._rpc, lookup, errand, read, self._suspects)
        try:
            with trio.move_on_after(self._config.lookup_deadline_s):
                await search.run()
        finally:
            search.close()
            self._counts["queries"] += lookup.asked

    async def trace(self, key: bytes) -> LookupTrace:
        """Look for the closest nodes to ``key`` and tell every step of the way."""
        search = self.search(key, FindNodes())
        search.lookup.asks_region_at_once = True
        search.waits_for_stragglers = True
        search.recorder = recorder = Recorder()
        await self.run(search, key)
        return recorder.trace(key, search.lookup, 0)

    async def ask_all(self, questions: Iterable[tuple[Contact, Request]]) -> Batch:
        """Ask several nodes at once and wait until every request is over."""
        batch = Batch(self._rpc)
        await batch.run(questions)
        return batch

    async def read_bags(
        self,
        key: bytes,
        contacts: Iterable[Contact],
        take_untrusted: Callable[[tuple[bytes, ...]], None],
    ) -> None:
        """Hand over all records that these nodes hold under a key, as they come.

        A bag may fill several datagrams. Each answer brings a slot or ends it, and a
        bag has 32 slots that can be read, so nobody keeps us asking.
        """
        questions: list[tuple[Contact, Request]] = [
            (contact, FindValue(key)) for contact in contacts
        ]
        while questions:
            batch = await self.ask_all(questions)
            questions = []
            for contact, asked, reply in batch.answers:
                if not isinstance(reply, Values) or not isinstance(asked, FindValue):
                    continue
                take_untrusted(reply.records)
                reached = asked.offset + len(reply.records)
                if reply.records and reached < reply.total:
                    questions.append((contact, FindValue(key, reached)))
