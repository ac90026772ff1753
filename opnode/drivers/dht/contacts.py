"""The life of the routing table: who is met, checked, kept alive and kept out.

Owns the table, the pings that it needs, which of the contacts that others name are
worth asking, and what finished lookups say of the network's size. Refuses to know
records and how lookups run.
"""

import enum
import logging
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import trio

from opnode.core.addresses import Endpoint, is_loopback, is_public, may_name
from opnode.core.errors import NetworkError, RemoteProtocolError, RequestTimeout
from opnode.core.ids import Contact, short
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.lost import Lost
from opnode.drivers.rpc.exchange import Answer, IncomingRequest
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.density import Density
from opnode.protocols.routing import BucketView, Table, fits
from opnode.protocols.rpc.messages import Ping, unpack_contact_untrusted

logger = logging.getLogger(__name__)

_ID_BITS: Final = 160
_SAMPLE_S: Final = 60.0
"""How often our own neighbourhood is looked at, besides after our table grew."""


class KnownContact(NamedTuple):
    """A contact of the table and its age, for the cache on disk.

    Attributes:
        contact: id and address.
        age_s: for how long it has been known.
        silent_s: since when it was not heard.
    """

    contact: Contact
    age_s: float
    silent_s: float


class Part(NamedTuple):
    """A part of the network, as a region around one of its ids.

    Attributes:
        target: 20 bytes, drawn anew each time.
        radius: distances below it are of the part.
    """

    target: bytes
    radius: int


class Contacts:
    """The nodes that this node knows.

    Attributes:
        table: the routing table.
    """

    def __init__(
        self, rpc: Rpc, config: DhtConfig, rng: random.Random, counts: Counter[str]
    ) -> None:
        """Hear of everybody whom ``rpc`` meets; ``counts`` takes ``bad_contacts``."""
        self.table = Table(rpc.node_id, config.routing)
        self._density = Density(config.density)
        self._sampled_at = -math.inf
        self._sampled_among = 0
        self._alarm: tuple[float, str] | None = None
        self._rpc = rpc
        self._config = config
        self._rng = rng
        self._counts = counts
        now = trio.current_time()
        self._leaf_checks_at = now + config.leaf_checks_s
        self._leaf_refresh_at = now + config.leaf_refresh_s
        # Being pinged for the table's sake, and whether only because it asked us.
        self._checks: dict[Endpoint, bool] = {}
        self._shunned: dict[Endpoint, None] = {}
        self._lost = Lost(config, rng, now)
        rpc.on_answered = self._answered
        rpc.on_asked = self._asked
        rpc.on_failure = self._missed

    def __len__(self) -> int:
        return len(self.table)

    def move(self) -> None:
        """Build the table anew around the Rpc's node id, from the same contacts."""
        entries = self.table.entries()
        self.table = Table(self._rpc.node_id, self._config.routing)
        for entry in entries:
            contact, known_at = entry.contact, entry.known_at
            self.table.heard(contact, entry.answered_at, known_at=known_at)

    def known(self, now: float) -> list[KnownContact]:
        """The contacts with a place, those first that have been there longest."""
        entries = sorted(self.table.entries(), key=lambda entry: entry.known_at)
        return [
            KnownContact(e.contact, now - e.known_at, now - e.heard_at) for e in entries
        ]

    def lost(self, now: float) -> list[KnownContact]:
        """Contacts that fell silent, the last first: where to look when all did."""
        return [
            KnownContact(entry.contact, now - entry.known_at, now - entry.heard_at)
            for entry in self._lost.entries()
        ]

    def lost_to_ask(self, now: float) -> Contact | None:
        """Somebody who fell silent long ago and may be back; mostly None.

        A leaf relies on its servers: each question would be a mapping of its NAT.
        """
        return None if self._rpc.leaf else self._lost.due(now)

    def vouch(self, contact: Contact, age_s: float) -> None:
        """A contact that we have known for so long proved that it is still the same."""
        if contact.endpoint not in self._shunned:
            self._lost.found(contact.endpoint)
            now = trio.current_time()
            self.table.heard(contact, now, known_at=now - age_s)

    def views(self, now: float) -> tuple[BucketView, ...]:
        """The buckets of the table, for people to look at."""
        return self.table.views(now)

    @property
    def network_size(self) -> float | None:
        """The estimated number of nodes, or None before the first lookup."""
        self._sample_neighbours()
        return self._density.size

    def radius(self, count: int) -> int | None:
        """The distance within which ``count`` nodes are expected around any id."""
        self._sample_neighbours()
        return self._density.radius(count)

    def _sample_neighbours(self) -> None:
        """Learn from who is next to us that the network grew since our last lookups.

        Newcomers there make themselves known to us. A few contacts say nothing: they
        are all that we have met so far, not all there are.
        """
        now, known = trio.current_time(), len(self.table)
        if now < self._sampled_at + _SAMPLE_S and known == self._sampled_among:
            return
        self._sampled_at, self._sampled_among = now, known
        own, k = self._rpc.node_id, self._config.density.k
        near = self.table.nearest(own, k)
        if len(near) == k:
            self._density.add(own, [contact.node_id for contact in near])

    def alarm(self, now: float) -> str | None:
        """The last neighbourhood that was too full to be an accident, for a while."""
        if self._alarm is None or now >= self._alarm[0] + self._config.alarm_shown_s:
            return None
        return self._alarm[1]

    def finished(self, key: bytes, found: Sequence[Contact]) -> None:
        """A lookup ran to its end and found these nodes to be the closest."""
        ids = [contact.node_id for contact in found]
        crowd = self._density.alarm(key, ids)
        if crowd is not None:
            text = f"{crowd} around key {short(key)}"
            if self.alarm(trio.current_time()) != text:
                logger.warning("too many nodes to be an accident: %s", text)
            self._alarm = (trio.current_time(), text)
        self._density.add(key, ids)

    def nearest_reliable(self, target: bytes, count: int) -> list[Contact]:
        """The nearest contacts that may be handed on."""
        return self.table.nearest(target, count, reliable=True)

    def nearest_packed(self, target: bytes, count: int) -> list[bytes]:
        """The same as replies name them."""
        return self.table.nearest_packed(target, count)

    def shun(self, endpoint: Endpoint) -> None:
        """Keep whoever is at this address out of the table: it is not who should be."""
        self._shunned[endpoint] = None
        if len(self._shunned) > self._config.max_shunned:
            del self._shunned[next(iter(self._shunned))]
        self.table.remove_at(endpoint)

    def welcome(self, endpoint: Endpoint) -> None:
        """Take back ``shun``."""
        self._shunned.pop(endpoint, None)

    def tick(self, now: float) -> None:
        """Ping the few contacts that are due."""
        limit = self._config.pings_per_tick
        if self._rpc.leaf and self._is_enough():
            if now < self._leaf_checks_at:
                return
            self._leaf_checks_at = now + self._config.leaf_checks_s
            limit = self._config.leaf_checks
        elif self._rpc.leaf:
            limit = 1
        for entry in self.table.due(now, limit):
            if entry.contact.endpoint not in self._checks:
                self._ping(entry.contact, is_asker=False)

    def refresh_target(self, now: float) -> bytes | None:
        """A random id of a bucket that had no lookup for long, if there is one."""
        idle = self.table.unvisited_since(now - self._config.refresh_s)
        if not idle or not len(self.table):
            return None
        if self._rpc.leaf and self._is_enough():
            if now < self._leaf_refresh_at:
                return None
            self._leaf_refresh_at = now + self._config.leaf_refresh_s
        lower, upper = idle[self._rng.randrange(len(idle))]
        return self._rng.randint(lower, upper).to_bytes(20, "big")

    def _is_enough(self) -> bool:
        """Whether a leaf knows enough: half of a network is, where that is small."""
        enough = self._config.leaf_enough
        size = self.network_size
        return len(self.table) >= (enough if size is None else min(enough, size / 2))

    def thin_part(self, part: int) -> Part | None:
        """This part of the network, if we know few contacts in it.

        Part 0 is the half without us, part 1 of our half the quarter without us, and
        so on. Whoever joins meets its own neighbourhood alone. A network in which all
        did no more would fall apart into halves that do not know each other.
        """
        own = int.from_bytes(self._rpc.node_id, "big")
        bits = _ID_BITS - part
        lowest = 1 << bits - 1
        known = sum(
            (own ^ entry.long_id).bit_length() == bits for entry in self.table.entries()
        )
        expected = (self.network_size or 0.0) / 2 ** (part + 1)
        if known >= min(self._config.met, expected) / 2:
            return None
        other = own ^ (lowest | self._rng.getrandbits(bits - 1))
        return Part(other.to_bytes(20, "big"), lowest)

    def read_untrusted(
        self, reporter: Endpoint, packed: Iterable[bytes]
    ) -> list[Contact]:
        """The contacts worth asking of those that a node named.

        A node far away cannot send us to our own machine or network, and nobody to an
        id that its address does not allow (BEP 42).
        """
        own = self._rpc.node_id
        like = _reporter_like(reporter.host)
        contacts = []
        for data in packed:
            contact = _named_untrusted(like, data)
            if type(contact) is Contact:
                if contact.node_id != own:
                    contacts.append(contact)
            elif contact is _Verdict.MALFORMED:
                self._counts["bad_contacts"] += 1
        return contacts

    def _answered(self, answer: Answer) -> None:
        """Somebody answered us: the only way into the table."""
        contact = answer.contact
        if answer.leaf:
            self.table.remove_at(contact.endpoint)
        elif contact.endpoint not in self._shunned:
            self._lost.found(contact.endpoint)
            is_asker = self._checks.get(contact.endpoint, False)
            self.table.heard(contact, trio.current_time(), is_asker=is_asker)

    def _asked(self, request: IncomingRequest) -> None:
        """Somebody asked us; that alone brings nobody into the table."""
        contact, now = request.contact, trio.current_time()
        endpoint = contact.endpoint
        if request.leaf:
            if request.verified:
                self.table.remove_at(endpoint)
            return
        if request.verified:
            self.table.asked(contact, now)
        if endpoint in self._checks or len(self._checks) >= self._config.max_checks:
            return
        # A private source may be forged from outside: nobody has us knock next door.
        if (
            endpoint not in self._shunned
            and self.table.would_take(contact, now)
            and self._rpc.may_be_sent_to(endpoint)
            and self._rpc.has_room_for_strangers()
        ):
            self._ping(contact, is_asker=True)

    def _ping(self, contact: Contact, *, is_asker: bool) -> None:
        """Ping without waiting; the Rpc reports the answer through ``_answered``."""
        try:
            self._rpc.start(contact.endpoint, Ping(), _Check(self._checks, contact))
        except RequestTimeout:
            return
        self._checks[contact.endpoint] = is_asker

    def _missed(self, endpoint: Endpoint) -> None:
        gone = self.table.failed_at(endpoint)
        if gone is not None:
            self._lost.add(gone)


class _Check:
    """The listener of a PING that only the routing table waits for."""

    __slots__ = ("checks", "contact")

    def __init__(self, checks: dict[Endpoint, bool], contact: Contact) -> None:
        self.checks = checks
        self.contact = contact

    def answered(self, answer: Answer) -> None:
        del answer
        self.checks.pop(self.contact.endpoint, None)

    def slow(self) -> None:
        """Nobody waits."""

    def failed(self, error: NetworkError) -> None:
        del error
        self.checks.pop(self.contact.endpoint, None)


class _Verdict(enum.Enum):
    """Why a named contact is not asked."""

    MALFORMED = enum.auto()
    FORBIDDEN = enum.auto()


# The scopes that a reporter's address can have, each by an address in it: all that
# matters of it, so that what one named is known when another names it.
_REPORTERS = {
    (False, True, False): "127.0.0.1",
    (False, False, False): "10.0.0.1",
    (False, False, True): "1.1.1.1",
    (True, True, False): "::1",
    (True, False, False): "fd00::1",
    (True, False, True): "2606:4700:4700::1111",
}


@lru_cache(maxsize=4096)
def _reporter_like(host: str) -> str:
    return _REPORTERS[":" in host, is_loopback(host), is_public(host)]


# Named again and again: 0.2 instead of 1 µs for each of the 20 contacts of a reply.
@lru_cache(maxsize=4096)
def _named_untrusted(reporter: str, data: bytes) -> Contact | _Verdict:
    """The contact if a reporter of this scope may send us there."""
    try:
        contact = unpack_contact_untrusted(data)
    except RemoteProtocolError:
        return _Verdict.MALFORMED
    is_allowed = may_name(reporter, contact.endpoint.host) and fits(contact)
    return contact if is_allowed else _Verdict.FORBIDDEN
