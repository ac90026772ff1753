"""Publishing and reading at an attacked key, with the shipped lookup.

The lookup, its region and the estimate of the density are the node's own code
(`opnode.protocols`); what runs here is the network around them. A silent attacker is
late after half a second and given up after three; everybody else answers within a round
trip. A record goes to every member of the region that its owner's lookup finds, and a
read ends at the first honest holder, or when all of the region is read.

Simplified: tables are full and know nobody dead; puts and reads do not repair; the
first estimate of the size is of eight closest sets, exact ones.

Owns the errands. Refuses to know who answers what (`oracle`).
"""

import enum
import random
from dataclasses import dataclass
from typing import Final

from opnode.core.ids import Contact
from opnode.protocols.density import Density
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.lookup.lookup import Lookup, Query
from opnode.protocols.lookup.region import Region
from simulations.backends.event.loop import EventLoop
from simulations.model.durations import LATENCY_S
from simulations.reads import Reads, reads_of
from simulations.run_context import Run
from simulations.scenarios.sybil.oracle import ID_BITS, Oracle

_LATE_S: Final = 0.5
_GIVEN_UP_S: Final = 3.0
_STEP_S: Final = 0.05
_SAMPLES: Final = 8
"""Lookups that everybody has run in the first hour."""
_SEEDS: Final = 4
"""Buckets' worth to start from where one is of the region alone, as shipped."""


class Errand(enum.Enum):
    """What a lookup is for."""

    PUT = enum.auto()
    FIRST = enum.auto()
    """Ends at the first record."""
    LATEST = enum.auto()
    """Reads all of the region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What is tried: ``sybils`` next to each of so many ``keys``.

    ``active``: they name each other; else they are silent. ``askers``: who read and,
    one of them, publish; ``gets``: reads of each kind for each key. ``lasting``: the
    same nodes read all of the keys, and remember what each taught them of the size.
    """

    sybils: int
    active: bool
    keys: int
    askers: int
    gets: int
    lasting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        put: share of the keys whose record some honest node took.
        holders_mean: honest holders of a record.
        alarmed: share of the lookups at attacked keys that noticed the crowd.
        false_alarms: ... of lookups at other keys, of the same nodes.
        queries_mean: requests of a lookup.
    """

    put: float
    holders_mean: float
    alarmed: float
    false_alarms: float
    queries_mean: float
    first: Reads
    latest: Reads


class _Asker:
    """A node that looks up, with its own estimate of the size."""

    def __init__(self, node: int, oracle: Oracle, rng: random.Random) -> None:
        self.node = node
        self.density = Density()
        self.rng = rng
        k = LookupConfig().k
        self.false_alarms = self.honest_lookups = 0
        for _ in range(_SAMPLES):
            target = rng.getrandbits(ID_BITS)
            key, ids = _packed(target), list(map(_packed, oracle.nearest(target, k)))
            self.false_alarms += self.density.alarm(key, ids) is not None
            self.density.add(key, ids)


class _Walk:
    """One lookup under way."""

    def __init__(self, drill: "Drill", asker: _Asker, key: int, errand: Errand) -> None:
        self.found = False
        self.is_over = False
        self.over_at = drill.loop.now
        self.stored: dict[int, None] = {}
        self._drill = drill
        self._asker = asker
        self._errand = errand
        self._key = key
        self.lookup = self._begin()
        self.lookup.asks_region_at_once = errand is not Errand.FIRST

    def advance(self) -> None:
        """Ask whoever is next, or finish."""
        if self.is_over:
            return
        for query in self.lookup.next_queries():
            self._ask(query)
        if self.lookup.finished:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        self.over_at = self._drill.loop.now

    def _begin(self) -> Lookup:
        config, oracle = LookupConfig(), self._drill.oracle
        radius = self._asker.density.radius(config.k) or 0
        region = Region(
            _packed(self._key), radius, points=config.paths, rng=self._asker.rng
        )
        known = sorted(oracle.table(self._asker.node), key=self._key.__xor__)
        seeds = known[: config.k]
        if seeds and seeds[-1] ^ self._key < region.radius:
            # All in the region: the way around a gang starts at those beyond.
            more = known[: _SEEDS * config.k]
            inside = sum(node ^ self._key < region.radius for node in more)
            seeds = more[: inside + config.paths]
        return Lookup(map(oracle.contact, seeds), region, config)

    def _ask(self, query: Query) -> None:
        drill = self._drill
        node = int.from_bytes(query.contact.node_id, "big")
        if drill.is_silent(node):
            drill.loop.call_in(_LATE_S, self._late, 0, query.contact)
            drill.loop.call_in(_GIVEN_UP_S, self._given_up, 0, query.contact)
            return
        round_trip_s = sum(drill.rng.uniform(*LATENCY_S) for _ in range(2))
        drill.loop.call_in(round_trip_s, self._answered, 1, (node, query))

    def _answered(self, number: int, told: tuple[int, Query]) -> None:
        del number
        node, query = told
        if self.is_over:
            return
        oracle = self._drill.oracle
        if not oracle.is_attacker(node):
            if self._errand is Errand.PUT and query.is_holder:
                self.stored[node] = None
            elif self._errand is not Errand.PUT and node in self._drill.holders:
                self.found = True
                if self._errand is Errand.FIRST:
                    self._end()
                    return
        named = oracle.answer(node, int.from_bytes(query.near, "big"))
        self.lookup.heard(query.contact, map(oracle.contact, named))
        self.advance()

    def _late(self, number: int, contact: Contact) -> None:
        del number
        if not self.is_over:
            self.lookup.slow(contact)
            self.advance()

    def _given_up(self, number: int, contact: Contact) -> None:
        del number
        if not self.is_over:
            self.lookup.failed(contact)
            self.advance()


class Drill:
    """Attacks on one key after the other.

    Attributes:
        holders: honest nodes that hold the record of the key that is attacked now.
    """

    def __init__(self, oracle: Oracle, attack: Attack, run: Run) -> None:
        self.oracle = oracle
        self.rng = run.rng
        self.loop = EventLoop(run.watch)
        self.holders: dict[int, None] = {}
        self._attack = attack
        self._run = run
        self._queries: list[int] = []
        self._noticed = self._looked = 0

    def is_silent(self, node: int) -> bool:
        """Whether a node answers nothing but PING."""
        return not self._attack.active and self.oracle.is_attacker(node)

    def perform(self) -> Outcome:
        """Plant, publish, read; for every key anew."""
        attack, rng = self._attack, self.rng
        askers = self._askers()
        met = list(askers)
        seconds: dict[Errand, list[float]] = {Errand.FIRST: [], Errand.LATEST: []}
        found = dict.fromkeys(seconds, 0)
        put = held = 0
        for done in range(attack.keys):
            if done and not attack.lasting:
                askers = self._askers()
                met += askers
            key = rng.getrandbits(ID_BITS)
            self.oracle.plant(key, attack.sybils, rng)
            self.holders = self._put(rng.choice(askers), key)
            put += bool(self.holders)
            held += len(self.holders)
            for errand, times in seconds.items():
                for _ in range(attack.gets):
                    walk, took_s = self._walk(rng.choice(askers), key, errand)
                    found[errand] += walk.found
                    times.append(took_s)
            self._run.progress(done + 1, attack.keys, "keys")
        return Outcome(
            put=put / attack.keys,
            holders_mean=held / attack.keys,
            alarmed=self._noticed / max(1, self._looked),
            false_alarms=sum(asker.false_alarms for asker in met)
            / (_SAMPLES * len(met)),
            queries_mean=sum(self._queries) / len(self._queries),
            first=reads_of(seconds[Errand.FIRST], found[Errand.FIRST]),
            latest=reads_of(seconds[Errand.LATEST], found[Errand.LATEST]),
        )

    def _askers(self) -> list[_Asker]:
        """Nodes that read, before anybody is attacked."""
        self.oracle.plant(0, 0, self.rng)
        nodes = self.rng.sample(self.oracle.honest, self._attack.askers)
        return [_Asker(node, self.oracle, self.rng) for node in nodes]

    def _put(self, owner: _Asker, key: int) -> dict[int, None]:
        """Publish; who of the honest holds the record."""
        walk, _ = self._walk(owner, key, Errand.PUT)
        stored = walk.stored
        for contact in walk.lookup.holders():
            node = int.from_bytes(contact.node_id, "big")
            if not self.oracle.is_attacker(node):
                stored[node] = None
        return stored

    def _walk(self, asker: _Asker, key: int, errand: Errand) -> tuple[_Walk, float]:
        """Run one lookup to its end; it, and the seconds that it took."""
        walk = _Walk(self, asker, key, errand)
        began_at = self.loop.now
        walk.advance()
        while not walk.is_over and len(self.loop):
            self.loop.run_until(self.loop.now + _STEP_S)
        took_s = walk.over_at - began_at
        self._queries.append(walk.lookup.asked)
        if walk.lookup.finished:
            self._note(asker, key, walk)
        return walk, took_s

    def _note(self, asker: _Asker, key: int, walk: _Walk) -> None:
        """Learn of the density, as the node does; and whether it looks like a crowd."""
        target = _packed(key)
        ids = [contact.node_id for contact in walk.lookup.closest()]
        self._looked += 1
        self._noticed += asker.density.alarm(target, ids) is not None
        asker.density.add(target, ids)


def _packed(node: int) -> bytes:
    return node.to_bytes(ID_BITS // 8, "big")
