"""Lookups of the nodes nearest to an id: a naive one, and the shipped machine.

Owns how a lookup asks over the `Network` and what it found at the end. Refuses to know
what is looked for and how tables are kept.

    naive = NaiveLookup(network, tables, asker, target, done, NaiveConfig(alpha=3))
    naive.start()                   # done(naive.found()) is called at its end
    shipped = ShippedLookup(network, tables, asker, target, done, memory)
    shipped.start()                 # memory: Memory(size), one for each asker, kept

Both end with a `Found`: the closest nodes that answered, nearest first, the seconds it
took, and how many were asked. ``target`` is 64 bits. To put a record, ask each of
`Found.closest` over `Network.ask`. To read one, set ``lookup.holders`` to those that
have it, and `ShippedLookup.ends_at_first`, before the start.
"""

import bisect
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.lookup.lookup import Lookup, Query
from opnode.protocols.lookup.region import Region
from opnode.protocols.rpc.transactions import RoundTrip, TransactionConfig
from simulations.backends.event.network import Network
from simulations.backends.event.tables import Tables
from simulations.model.ids import ID_BITS

_WIDE_BITS: Final = 160
_SHIFT: Final = _WIDE_BITS - ID_BITS
_NEW, _ASKED, _ANSWERED, _FAILED = range(4)


class Found(NamedTuple):
    """What a lookup ended with.

    Attributes:
        asker: whose it was.
        target: 64 bits.
        closest: nodes that answered, nearest first, at most k.
        took_s: virtual seconds.
        asked: requests sent, repetitions left out.
        silent: of them without an answer by the end.
        first_s: until the first of the holders that the lookup was told of answered;
            infinite if none did.
    """

    asker: int
    target: int
    closest: list[int]
    took_s: float
    asked: int
    silent: int
    first_s: float


class LookupStep(NamedTuple):
    """A question of a lookup.

    Attributes:
        node: who was asked.
        parent: place of the question whose answer named it first; None: our own table.
        asked_at, answered_at: virtual seconds; infinite without an answer.
    """

    node: int
    parent: int | None
    asked_at: float
    answered_at: float


Done = Callable[[Found], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveConfig:
    """The lookup that textbooks have.

    Attributes:
        k: the closest that must have answered; also what a reply names.
        alpha: requests under way.
        patience_s: until a request has failed, whoever was asked.
    """

    k: int = 20
    alpha: int = 3
    patience_s: float = 2.0


class NaiveLookup:
    """Kademlia §2.3 by the letter: a fixed alpha, fixed timeouts, no other thought.

    It ends when the k closest that were seen, but for those that failed, have answered.

    Attributes:
        holders: nodes whose first answer is timed.
    """

    __slots__ = (
        *("_config", "_done", "_failed", "_first_s", "_network", "_order", "_states"),
        *("_started_at", "_tables", "_under_way", "asker", "holders", "target"),
    )

    def __init__(
        self,
        network: Network,
        tables: Tables,
        asker: int,
        target: int,
        done: Done,
        config: NaiveConfig,
    ) -> None:
        self.asker = asker
        self.target = target
        self.holders: Collection[int] = ()
        self._first_s = math.inf
        self._network = network
        self._tables = tables
        self._done = done
        self._config = config
        self._under_way = 0
        self._failed = 0
        # Those that did not fail, nearest first; only they count.
        self._order: list[tuple[int, int]] = []
        self._states: dict[int, int] = {}
        self._started_at = 0.0

    def start(self) -> None:
        """Begin with the contacts of the asker."""
        self._started_at = self._network.loop.now
        self._states[self.asker] = _FAILED
        self._add(self._tables.nearest(self.asker, self.target, self._config.k))
        self._advance()

    def found(self) -> Found:
        """What was found so far."""
        states = self._states
        closest = [n for _, n in self._order if states[n] == _ANSWERED]
        asked = sum(state != _NEW for state in states.values()) - 1
        took_s = self._network.loop.now - self._started_at
        best = closest[: self._config.k]
        return Found(
            asker=self.asker,
            target=self.target,
            closest=best,
            took_s=took_s,
            asked=asked,
            silent=self._failed,
            first_s=self._first_s,
        )

    def _add(self, near: list[tuple[int, int]]) -> None:
        states, order = self._states, self._order
        for entry in near:
            if entry[1] not in states:
                states[entry[1]] = _NEW
                bisect.insort(order, entry)

    def _advance(self) -> None:
        """Ask the nearest of the k closest, or end."""
        config, states = self._config, self._states
        is_open = False
        for _, node in self._order[: config.k]:
            state = states[node]
            if state == _ANSWERED:
                continue
            is_open = True
            if state == _NEW:
                if self._under_way >= config.alpha:
                    break
                states[node] = _ASKED
                self._under_way += 1
                self._network.ask(
                    self.asker, node, config.patience_s, self._heard, self._missed
                )
        if not is_open:
            self._done(self.found())

    def _heard(self, node: int, took_s: float) -> None:
        del took_s
        self._under_way -= 1
        self._states[node] = _ANSWERED
        if node in self.holders:
            since_start_s = self._network.loop.now - self._started_at
            self._first_s = min(self._first_s, since_start_s)
        if self._tables.has_seat(node):
            self._add(self._tables.nearest(node, self.target, self._config.k))
        self._advance()

    def _missed(self, node: int, took_s: float) -> None:
        del took_s
        self._under_way -= 1
        self._failed += 1
        self._states[node] = _FAILED
        entry = (self._network.people.id_of[node] ^ self.target, node)
        del self._order[bisect.bisect_left(self._order, entry)]
        self._advance()


class Memory:
    """What a node knows from earlier requests: how long answers take.

    Attributes:
        round_trips: of everybody that it asked; gives the timeout of the next request.
        size: nodes that it believes there are; gives the region of a lookup.
    """

    __slots__ = ("_config", "round_trips", "size")

    def __init__(self, size: float, config: TransactionConfig | None = None) -> None:
        self.round_trips = RoundTrip()
        self.size = size
        self._config = config or TransactionConfig()

    def timeout_s(self) -> float:
        """When a request counts as slow (as `protocols.rpc.transactions` has it)."""
        config = self._config
        if self.round_trips.count < config.warm_up:
            return config.initial_timeout_s
        timeout_s = self.round_trips.timeout_s()
        return min(config.cap_s, max(config.floor_s, timeout_s))

    def given_up_s(self, timeout_s: float) -> float:
        """When a request is given up: repeated once, with twice the timeout."""
        total_s: float = timeout_s * (2.0 ** (self._config.retransmissions + 1) - 1)
        return max(self._config.patience_s, total_s)


class ShippedLookup:
    """The machine that nodes ship with, `protocols.lookup`, on this engine.

    Requests have the node's adaptive timers: one that is late frees its place at once,
    its answer still counts, and it fails only when it was repeated in vain.

    Attributes:
        holders: nodes whose first answer is timed.
        ends_at_first: it wants that answer alone, as whoever looks for a record does.
    """

    __slots__ = (
        *("_answered_at", "_asked_at", "_contacts", "_done", "_first_s", "_is_over"),
        *("_lookup", "_memory", "_network", "_nodes", "_silent", "_started_at"),
        *("_tables", "asker", "ends_at_first", "holders", "target"),
    )

    def __init__(
        self,
        network: Network,
        tables: Tables,
        asker: int,
        target: int,
        done: Done,
        memory: Memory,
    ) -> None:
        self.asker = asker
        self.target = target
        self.holders: Collection[int] = ()
        self._first_s = math.inf
        self._network = network
        self._tables = tables
        self._done = done
        self._memory = memory
        self._is_over = False
        self._silent = 0
        self._started_at = 0.0
        self._asked_at: dict[int, float] = {}
        self._answered_at: dict[int, float] = {}
        self._contacts: dict[int, Contact] = {}
        self._nodes: dict[Contact, int] = {}
        config = LookupConfig()
        radius = int((1 << _WIDE_BITS) * min(1.0, config.k / memory.size))
        region = Region(wide_id(target), radius, points=config.paths)
        near = tables.nearest(asker, target, config.k)
        seeds = [self._contact(node) for _, node in near]
        self.ends_at_first = False
        self._lookup = Lookup(seeds, region, config)

    def start(self) -> None:
        """Ask the first."""
        self._lookup.asks_region_at_once = not self.ends_at_first
        self._started_at = self._network.loop.now
        self._advance()

    def found(self) -> Found:
        """What was found so far."""
        closest = [self._nodes[contact] for contact in self._lookup.closest()]
        took_s = self._network.loop.now - self._started_at
        asked = self._lookup.asked
        return Found(
            asker=self.asker,
            target=self.target,
            closest=closest,
            took_s=took_s,
            asked=asked,
            silent=self._silent,
            first_s=self._first_s,
        )

    def steps(self) -> list[LookupStep]:
        """All questions so far, in their order."""
        asked = self._lookup.candidates()
        places = {candidate.contact: place for place, candidate in enumerate(asked)}
        steps = []
        for candidate in asked:
            node, named_by = self._nodes[candidate.contact], candidate.named_by
            parent = places[named_by.contact] if named_by is not None else None
            answered_at = self._answered_at.get(node, math.inf)
            steps.append(LookupStep(node, parent, self._asked_at[node], answered_at))
        return steps

    def _advance(self) -> None:
        if self._is_over:
            return
        has_enough = self.ends_at_first and self._first_s < math.inf
        while not has_enough and (queries := self._lookup.next_queries()):
            for query in queries:
                self._ask(query)
        if has_enough or self._lookup.finished:
            self._is_over = True
            self._done(self.found())

    def _ask(self, query: Query) -> None:
        node = self._nodes[query.contact]
        timeout_s = self._memory.timeout_s()
        self._asked_at[node] = self._network.loop.now
        took_s = self._network.round_trip_s(self.asker, node)
        loop = self._network.loop
        self._silent += 1
        if took_s is None or took_s > timeout_s:
            loop.call_in(timeout_s, self._slow, node, timeout_s)
        gives_up_s = self._memory.given_up_s(timeout_s)
        if took_s is None or took_s > gives_up_s:
            loop.call_in(gives_up_s, self._gave_up, node, gives_up_s)
        else:
            # Karn: what was sent twice measures nothing.
            measured_s = took_s if took_s <= timeout_s else math.inf
            near = int.from_bytes(query.near, "big") >> _SHIFT
            loop.call_in(took_s, self._heard, node, (near, measured_s))

    def _heard(self, node: int, asked: tuple[int, float]) -> None:
        near, measured_s = asked
        if measured_s < math.inf:
            self._memory.round_trips.add(measured_s)
        if self._is_over:
            return
        self._silent -= 1
        self._answered_at[node] = self._network.loop.now
        if node in self.holders:
            since_start_s = self._network.loop.now - self._started_at
            self._first_s = min(self._first_s, since_start_s)
        named: list[Contact] = []
        if self._tables.has_seat(node):
            reply = self._tables.nearest(node, near, 20)
            named = [self._contact(other) for _, other in reply if other != self.asker]
        self._lookup.heard(self._contacts[node], named)
        self._advance()

    def _slow(self, node: int, timeout_s: float) -> None:
        del timeout_s
        if not self._is_over:
            self._lookup.slow(self._contacts[node])
            self._advance()

    def _gave_up(self, node: int, gives_up_s: float) -> None:
        del gives_up_s
        if not self._is_over:
            self._lookup.failed(self._contacts[node])
            self._advance()

    def _contact(self, node: int) -> Contact:
        contact = self._contacts.get(node)
        if contact is None:
            address = Endpoint(_host_of(node), 1 + node % 65_535)
            node_id = wide_id(self._network.people.id_of[node])
            contact = self._contacts[node] = Contact(NodeId(node_id), address)
            self._nodes[contact] = node
        return contact


def wide_id(short_id: int) -> bytes:
    """The 160 bits that stand for an id of 64: those first, then zeros."""
    return (short_id << _SHIFT).to_bytes(_WIDE_BITS // 8, "big")


def _host_of(node: int) -> str:
    """A private address, as no cap on subnets is meant to apply here."""
    return f"10.{node >> 16 & 255}.{node >> 8 & 255}.{node & 255}"
