"""Lookups over RPC, and requests to many nodes at once.

Owns how a search starts from the routing table and what is counted of it. Refuses to
know records.
"""

from collections import Counter
from collections.abc import Iterable

import trio

from opnode.core.ids import Contact
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.contacts import Contacts
from opnode.drivers.dht.search import Batch, Search
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.lookup import Lookup
from opnode.protocols.rpc.messages import FindNode, Request


class Lookups:
    """Starts searches; ``counts`` takes ``lookups`` and ``queries``."""

    def __init__(
        self, rpc: Rpc, contacts: Contacts, config: DhtConfig, counts: Counter[str]
    ) -> None:
        self._rpc = rpc
        self._contacts = contacts
        self._config = config
        self._counts = counts

    def search(self, key: bytes, body: Request) -> Search:
        """A search of ours for the nodes nearest to a key, not yet begun."""
        # A reply names at most so many, so a lookup with a larger k starts narrower.
        seeds = self._contacts.table.nearest(key, self._config.lookup.k)
        lookup = Lookup(key, seeds, self._config.lookup)
        return Search(self._rpc, lookup, body, self._contacts.read_untrusted)

    async def run(self, search: Search, key: bytes) -> None:
        """Run a search to its end."""
        self._contacts.table.visited(key, trio.current_time())
        self._counts["lookups"] += 1
        try:
            await search.run()
        finally:
            self._counts["queries"] += search.lookup.asked
        if search.lookup.finished:
            self._contacts.finished(key, search.lookup.closest())

    async def closest_nodes(self, key: bytes) -> list[Contact]:
        """The k closest nodes to ``key`` that answered, nearest first."""
        search = self.search(key, FindNode(key))
        await self.run(search, key)
        return search.lookup.closest()

    async def ask_all(self, questions: Iterable[tuple[Contact, Request]]) -> Batch:
        """Ask several nodes at once and wait until every request is over."""
        batch = Batch(self._rpc)
        await batch.run(questions)
        return batch
