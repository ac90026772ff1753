"""Lookups that servers run for us: for leaves whose NAT has room for few mappings.

Owns which servers are asked and what of their answers is believed: records are verified
here, and nodes they name are asked before they count, each server's in turn. Refuses to
know how lookups work.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Final

import trio

from opnode.core.addresses import is_public, network_of
from opnode.core.errors import NetworkError, RecordNotFound
from opnode.core.ids import Contact, distance, short
from opnode.core.records import SignedRecord
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.collection import Collection
from opnode.drivers.dht.config import DelegationConfig
from opnode.drivers.dht.contacts import Contacts
from opnode.drivers.dht.lookups import Lookups
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.messages import (
    Delegate,
    Found,
    Ping,
    Pong,
)

Wanted = Callable[[SignedRecord], bool]

# Servers that answered after which the others are not waited for much longer.
_ENOUGH: Final = 2


class Delegation:
    """The asking half of delegated lookups; ``counts`` takes ``delegated``."""

    def __init__(  # noqa: PLR0913 - collaborators, all different types
        self,
        rpc: Rpc,
        contacts: Contacts,
        lookups: Lookups,
        *,
        wall_clock: WallClock,
        rng: random.Random,
        config: DelegationConfig,
        counts: Counter[str],
    ) -> None:
        self._rpc = rpc
        self._contacts = contacts
        self._lookups = lookups
        self._wall_clock = wall_clock
        self._rng = rng
        self._config = config
        self._counts = counts
        # Those of last time, as each new one would take a mapping, and how often in a
        # row each was too slow to be waited for.
        self._servers: dict[Contact, int] = {}
        # Those that did not, and until when they are passed over; the first one goes.
        self._failed: dict[Contact, float] = {}

    @property
    def is_due(self) -> bool:
        """Whether servers look up for us now: we are a leaf and short of mappings."""
        if self._rpc.detour.gateways:
            # Each node of a lookup would be asked by way of a gateway.
            return True
        is_short = self._config.few_bindings or self._rpc.is_spent()
        return self._rpc.leaf and is_short

    async def find_first(self, key: bytes, wanted: Wanted) -> list[SignedRecord] | None:
        """A search for a record, run by servers.

        Returns the best record of every slot heard of; None if no server answered.

        Raises:
            RecordNotFound: neither they nor the nodes they name have it.
        """
        found = Collection(key, self._wall_clock())
        named = await self._ask_servers(found, wanted, for_records=True)
        if named is None:
            return None
        if not any(map(wanted, found.records())):
            await self._read(found, named)
        self._counts["bad_records"] += found.bad
        if not any(map(wanted, found.records())):
            raise RecordNotFound(f"{short(key)}: no record, as servers tell")
        return found.records()

    async def find_all(self, key: bytes) -> list[SignedRecord] | None:
        """The newest records of those close to the key; None if no server answered."""
        found = Collection(key, self._wall_clock())
        named = await self._ask_servers(found, None, for_records=False)
        if named is None:
            return None
        await self._read(found, named)
        # A server names others; it may be one of the closest itself.
        near = [server for server in self._servers if server not in named]
        await self._lookups.read_bags(key, near, found.add_all_untrusted)
        self._counts["bad_records"] += found.bad
        return found.records()

    async def closest_nodes(self, key: bytes) -> list[Contact] | None:
        """Nodes close to a key that answered us; None if no server did."""
        named = await self._ask_servers(
            Collection(key, self._wall_clock()), None, for_records=False
        )
        if named is None:
            return None
        alive: list[Contact] = []
        holders = self._config.holders
        while named and len(alive) < holders:
            missing = holders - len(alive)
            batch, named = named[:missing], named[missing:]
            answers = await self._lookups.ask_all((c, Ping()) for c in batch)
            alive += [c for c, _, reply in answers.answers if isinstance(reply, Pong)]
        return sorted(alive, key=lambda contact: distance(contact.node_id, key))

    async def _read(self, found: Collection, named: Sequence[Contact]) -> None:
        """Ask the first of the nodes named ourselves what they hold."""
        nodes = named[: self._config.checks]
        await self._lookups.read_bags(found.key, nodes, found.add_all_untrusted)

    async def _ask_servers(
        self, found: Collection, wanted: Wanted | None, *, for_records: bool
    ) -> list[Contact] | None:
        """Have the lookup run; the nodes named, each server's in turn.

        None when none of them answered. Every record goes into ``found``. After the
        first that is wanted, or two answers, the others have as long again.
        """
        body = Delegate(found.key, for_records)
        began_at = trio.current_time()
        named: list[list[Contact]] = []
        answered: list[Contact] = []
        self._counts["delegated"] += 1

        async def ask(server: Contact) -> None:
            reply = await self._ask(server, body)
            if reply is None:
                return
            answered.append(server)
            read = self._contacts.read_untrusted
            contacts = read(server.endpoint, reply.contacts)
            named.append(sorted(contacts, key=lambda c: distance(c.node_id, found.key)))
            records = [found.add_untrusted(wire) for wire in reply.records]
            is_here = wanted and any(r is not None and wanted(r) for r in records)
            if is_here or len(named) >= _ENOUGH:
                now = trio.current_time()
                grace_s = max(now - began_at, self._config.grace_s)
                scope = nursery.cancel_scope
                scope.deadline = min(scope.deadline, now + grace_s)

        chosen = self._choose()
        async with trio.open_nursery() as nursery:
            for server in chosen:
                nursery.start_soon(ask, server)
        self._keep(chosen, answered)
        return _in_turn(named) if named else None

    async def _ask(self, server: Contact, body: Delegate) -> Found | None:
        """The answer of one server; one that fails is not asked the next time."""
        try:
            answer = await self._rpc.request(server.endpoint, body)
        except NetworkError:
            answer = None
        is_good = answer is not None and answer.contact == server
        if answer is None or not is_good or not isinstance(answer.body, Found):
            self._pass_over(server)
            return None
        return answer.body

    def _keep(self, chosen: Iterable[Contact], answered: Iterable[Contact]) -> None:
        """Whom to ask the next time: who is too slow again and again may be dead."""
        slow = {s: self._servers.get(s, 0) + 1 for s in chosen if s not in self._failed}
        slow |= dict.fromkeys(answered, 0)
        patience = self._config.patience
        self._servers = {s: turns for s, turns in slow.items() if turns < patience}

    def _pass_over(self, server: Contact) -> None:
        self._failed[server] = trio.current_time() + self._config.passed_over_s
        if len(self._failed) > self._config.tracked:
            del self._failed[next(iter(self._failed))]

    def _choose(self) -> list[Contact]:
        """Servers of unrelated networks: those of last time, then others.

        Of the others, those come first to whom we hold a token: there is a mapping.
        """
        now = trio.current_time()
        known = {
            contact
            for contact in self._contacts.table.contacts()
            if self._failed.get(contact, now) <= now
        }
        gateways = self._rpc.detour.gateways
        known = {c for c in known if c.endpoint in gateways} or known
        kept = [server for server in self._servers if server in known]
        # By id, as a set has no order and runs have to be repeatable.
        fresh = sorted(known.difference(kept))
        self._rng.shuffle(fresh)
        fresh.sort(key=lambda c: not self._rpc.token_for(c.endpoint))
        return _unrelated([*kept, *fresh], self._config.servers)


def _unrelated(contacts: Iterable[Contact], count: int) -> list[Contact]:
    """The first so many that have no network in common."""
    chosen: dict[bytes, Contact] = {}
    for contact in contacts:
        if len(chosen) == count:
            break
        chosen.setdefault(_network_of(contact), contact)
    return list(chosen.values())


def _network_of(contact: Contact) -> bytes:
    """Who probably runs this node: of a private network, whoever has the port."""
    host, port = contact.endpoint
    network = network_of(host)
    return network if is_public(host) else network + port.to_bytes(2, "big")


def _in_turn(lists: Iterable[Sequence[Contact]]) -> list[Contact]:
    """Each list's first, then each one's second and so on, every contact once.

    By distance alone, one liar who names nodes right at the key would fill all places.
    """
    rows = zip_longest(*lists)
    return list(dict.fromkeys(c for row in rows for c in row if c is not None))
