"""The shipped overlay with the same users: introducers in place of a ring.

The open users are servers. Everybody else is a leaf: in nobody's table, registered with
three servers, each of which is written to once in what the leaf's NAT is found to bear.
How long that is, the shipped search finds out (`opnode.protocols.binding_lifetime`);
who is written to when, and what is renewed when, is docs/protocols/introductions.md §8.

Simplified: an exchange happens at one moment. Lookups among the servers are charged
what the shipped ones cost (constants below) and find what a live server holds: dead
contacts cost them time, which is not looked at here (scenario `stale`), and no answers.
Servers check the contacts of their tables in the shipped pauses; records that they
hold for each other are not modelled (scenario `churn`).

Owns registrations, presences and calls. Refuses to know how datagrams travel.
"""

import bisect
import math
import random
from collections.abc import Callable
from typing import Final

from opnode.drivers.dht.config import DhtConfig
from opnode.node.presence.introducers import INTRODUCERS
from opnode.protocols.binding_lifetime import BindingLifetime
from opnode.protocols.nat.odds import NatType
from opnode.protocols.routing.config import RoutingConfig
from simulations.backends.event.loop import EventLoop
from simulations.model.ids import nearest_to
from simulations.scenarios.chord.bill import ANSWER_BYTES, PING_BYTES, Bill
from simulations.scenarios.chord.users import RESTRICTED, Box, Life

LOOKUP_PACKETS: Final = 60
"""Of a lookup to its end: thirty nodes asked (docs/protocols/dht.md)."""
LOOKUP_BYTES: Final = 30 * (ANSWER_BYTES + PING_BYTES // 2)
FIND_PACKETS: Final = 12
"""Of a lookup that ends at the first record: six nodes asked."""
FIND_NODES: Final = 6
HOLDERS: Final = 8
"""Servers that a presence is put at."""
RENEWAL_BYTES: Final = 4900
RENEW_S: Final = 0.8 * 1200.0
REGISTRATION_S: Final = 600.0
REGISTER_BYTES: Final = 330
PUT_PACKETS: Final = LOOKUP_PACKETS + 40
PUT_BYTES: Final = 33_000
"""A lookup and twenty copies of a peer file."""
KNOCK_PACKETS: Final = 6
KNOCK_BYTES: Final = 900
REPLACE_S: Final = 3.0
"""Until a silent introducer is given up: a PING and its repeats."""
_SEARCH_AGAIN_S: Final = 150.0


class Member:
    """One user: a server, or a leaf with its introducers.

    Attributes:
        heard: when each introducer was last written to, and answered, by its number.
        registered: until when each of them keeps us.
        published: introducers that the presence names.
        holders: servers that hold the presence.
        wrote_at: the last datagram to anybody.
    """

    __slots__ = (
        "binding",
        "box",
        "heard",
        "holders",
        "is_alive",
        "is_ready",
        "key",
        "life",
        "number",
        "published",
        "registered",
        "wrote_at",
    )

    def __init__(self, life: Life, box: Box) -> None:
        self.life = life
        self.number = life.number
        self.key = life.key
        self.box = box
        self.is_alive = True
        self.is_ready = False
        self.binding = BindingLifetime()
        self.heard: dict[int, float] = {}
        self.registered: dict[int, float] = {}
        self.published: list[Member] = []
        self.holders: list[Member] = []
        self.wrote_at = -math.inf

    @property
    def is_server(self) -> bool:
        """Whether it is in others' tables."""
        return self.box.nat is NatType.OPEN


class Introduced:
    """All users and their servers."""

    def __init__(self, loop: EventLoop, bill: Bill, rng: random.Random) -> None:
        self.members: dict[int, Member] = {}
        self.replaced = 0
        self._loop = loop
        self._bill = bill
        self._rng = rng
        self._keys: list[int] = []
        self._servers: list[Member] = []
        self._by_number: dict[int, Member] = {}

    def begin(self, members: list[Member]) -> None:
        """Let these have been there for long."""
        for member in members:
            self._enter(member)
        for member in members:
            if member.is_server:
                self._loop.call_in(
                    self._rng.uniform(0, 60.0), self._check, member.number, member
                )
            else:
                self._settle(member)

    def come(self, member: Member) -> None:
        """A newcomer joins: its own lookup, introducers, presence and peer file."""
        self._enter(member)
        self._spend_lookup(member, LOOKUP_PACKETS, LOOKUP_BYTES, LOOKUP_PACKETS // 2)
        if member.is_server:
            self._loop.call_in(60.0, self._check, member.number, member)
        else:
            self._loop.call_in(1.0, self._come_on, member.number, member)

    def leave(self, member: Member) -> None:
        """A user is gone without a word."""
        member.is_alive = member.is_ready = False
        self.members.pop(member.number)
        member.box.kept -= len(member.heard)
        if member.is_server:
            del self._by_number[member.number]
            index = bisect.bisect_left(self._keys, member.key)
            while self._servers[index] is not member:
                index += 1
            del self._keys[index], self._servers[index]

    def call(
        self, caller: Member, callee: Member, done: Callable[[bool], None]
    ) -> None:
        """Try an introduction: find the presence, ask the introducers that it names."""
        self._spend_lookup(caller, FIND_PACKETS, FIND_NODES * ANSWER_BYTES, FIND_NODES)
        self._loop.call_in(
            self._rng.uniform(0.1, 0.4),
            self._ask,
            caller.number,
            (caller, callee, done),
        )

    # Coming and being found.

    def _enter(self, member: Member) -> None:
        self.members[member.number] = member
        if member.is_server:
            index = bisect.bisect_left(self._keys, member.key)
            self._keys.insert(index, member.key)
            self._servers.insert(index, member)
            self._by_number[member.number] = member
            member.is_ready = True

    def _settle(self, member: Member) -> None:
        """Somebody who has been there: introducers and presence, at a random phase."""
        for server in self._nearest(member.key, INTRODUCERS):
            if member.box.keep(self._loop.now):
                self._register(member, server)
        self._publish(member)
        rng = self._rng
        self._loop.call_in(rng.uniform(0, 8.0), self._keep, member.number, member)
        self._loop.call_in(rng.uniform(0, RENEW_S), self._renew, member.number, member)
        config = DhtConfig()
        for pause_s, work in (
            (config.leaf_refresh_s, self._refresh),
            (config.republish_s, self._republish),
            (config.leaf_checks_s, self._check_some),
        ):
            self._loop.call_in(rng.uniform(0, pause_s), work, member.number, member)

    def _come_on(self, number: int, member: Member) -> None:
        del number
        if member.is_alive:
            self._spend_lookup(member, PUT_PACKETS, PUT_BYTES, LOOKUP_PACKETS // 2)
            self._settle(member)

    def _register(self, member: Member, server: Member) -> None:
        now = self._loop.now
        self._exchange(member, server, "registrations", REGISTER_BYTES)
        member.heard[server.number] = now
        member.registered[server.number] = now + REGISTRATION_S

    def _publish(self, member: Member) -> None:
        """Put the presence at the eight servers nearest to its key."""
        member.published = [
            self._by_number[n] for n in member.heard if n in self._by_number
        ]
        member.holders = self._nearest(member.key, HOLDERS)
        member.is_ready = bool(member.published)
        size = RENEWAL_BYTES / HOLDERS
        for holder in member.holders:
            self._exchange(member, holder, "presence", size)
            self._pass_through(member, holder)

    def _renew(self, number: int, member: Member) -> None:
        if member.is_alive:
            self._publish(member)
            self._loop.call_in(RENEW_S, self._renew, number, member)

    # Keeping the ways to us open.

    def _keep(self, number: int, member: Member) -> None:
        """Write to whoever was not heard for longest; knock before, if that is due."""
        if not member.is_alive:
            return
        now = self._loop.now
        if not member.heard:
            self._replace(number, member)
            self._loop.call_in(_SEARCH_AGAIN_S / 10, self._keep, number, member)
            return
        longest = min(member.heard, key=member.heard.__getitem__)
        server = self._by_number.get(longest)
        if server is None:
            self._bill.spend(number, "keep-alive", 4, 4 * PING_BYTES / 2, now)
            del member.heard[longest], member.registered[longest]
            member.box.kept -= 1
            self._loop.call_in(REPLACE_S, self._replace, number, member)
        elif self._has_moved(member):
            # Its introducers take turns, so each silence is a part of the interval.
            quiet_s = now - member.wrote_at
            member.binding.lost(quiet_s * len(member.heard), now)
            self._register_again(member)
            self._publish(member)
        else:
            self._knock(member, server, now - member.heard[longest])
            if now >= member.registered[longest] - REGISTRATION_S / 2:
                self._register(member, server)
            else:
                self._exchange(member, server, "keep-alive", PING_BYTES)
                member.heard[longest] = now
        pause_s = member.binding.interval_s / max(1, len(member.heard))
        self._loop.call_in(pause_s, self._keep, number, member)

    def _knock(self, member: Member, server: Member, silence_s: float) -> None:
        """Find out whether the NAT bears this silence, when that is due."""
        now, binding, number = self._loop.now, member.binding, member.number
        if not binding.is_probe_due(silence_s, now):
            return
        for end in (member, server):
            self._bill.spend(end.number, "knocks", KNOCK_PACKETS, KNOCK_BYTES, now)
        # From another port than the member's own.
        member.box.pass_through(~number, server.number, now)
        if self._gets_in(member, server):
            binding.survived(silence_s, now)
        else:
            binding.lost(silence_s, now)
            self._register_again(member)

    def _register_again(self, member: Member) -> None:
        for held in list(member.heard):
            server = self._by_number.get(held)
            if server is not None:
                self._register(member, server)

    def _has_moved(self, member: Member) -> bool:
        """Whether a mapping that is for everybody ended: the next is another."""
        is_for_all = member.box.nat not in RESTRICTED
        return is_for_all and self._loop.now - member.wrote_at > member.box.timer_s

    def _replace(self, number: int, member: Member) -> None:
        """Find other introducers and name them."""
        del number
        if not member.is_alive or len(member.heard) >= INTRODUCERS:
            return
        self.replaced += 1
        self._spend_lookup(member, LOOKUP_PACKETS, LOOKUP_BYTES, LOOKUP_PACKETS // 2)
        for server in self._nearest(member.key, 2 * INTRODUCERS):
            if len(member.heard) >= INTRODUCERS:
                break
            if server.number not in member.heard and member.box.keep(self._loop.now):
                self._register(member, server)
        self._publish(member)

    def _gets_in(self, member: Member, server: Member) -> bool:
        """Whether this introducer's datagram passes the member's NAT now."""
        if not member.is_alive or server.number not in member.heard:
            return False
        # A mapping that is open to all is refreshed by whatever is sent.
        is_own = member.box.nat in RESTRICTED
        wrote_at = member.heard[server.number] if is_own else member.wrote_at
        return self._loop.now - wrote_at <= member.box.timer_s

    def _ask(
        self, number: int, asked: tuple[Member, Member, Callable[[bool], None]]
    ) -> None:
        caller, callee, done = asked
        now = self._loop.now
        if callee.is_server:
            done(callee.is_alive)
            return
        if not any(holder.is_alive for holder in callee.holders):
            done(False)
            return
        for server in callee.published:
            self._bill.spend(number, "calls", 2, 1000, now)
            self._pass_through(caller, server)
            is_kept = callee.registered.get(server.number, 0.0) > now
            if server.is_alive and is_kept and self._gets_in(callee, server):
                self._bill.spend(server.number, "calls", 4, 2000, now)
                self._bill.spend(callee.number, "calls", 2, 1000, now)
                done(True)
                return
        done(False)

    # The rest of the chatter.

    def _refresh(self, number: int, member: Member) -> None:
        if member.is_alive:
            self._spend_lookup(
                member, LOOKUP_PACKETS, LOOKUP_BYTES, LOOKUP_PACKETS // 2
            )
            self._loop.call_in(
                DhtConfig().leaf_refresh_s, self._refresh, number, member
            )

    def _republish(self, number: int, member: Member) -> None:
        if member.is_alive:
            self._spend_lookup(member, PUT_PACKETS, PUT_BYTES, LOOKUP_PACKETS // 2)
            self._loop.call_in(DhtConfig().republish_s, self._republish, number, member)

    def _check_some(self, number: int, member: Member) -> None:
        """A leaf pings a few contacts now and then."""
        config = DhtConfig()
        if member.is_alive:
            checks = config.leaf_checks
            self._spend_lookup(member, 2 * checks, PING_BYTES * checks, checks)
            self._loop.call_in(config.leaf_checks_s, self._check_some, number, member)

    def _check(self, number: int, member: Member) -> None:
        """A server's minute: what its table costs, at the shipped pauses.

        Its contacts ask it as often as it asks them.
        """
        if not member.is_alive:
            return
        age_s = self._loop.now - max(member.life.since_s, 0.0) + 60.0
        rate = _table_size(len(self._servers)) / RoutingConfig().pause_s(age_s)
        exchanges = 2 * rate * 60.0
        now = self._loop.now
        self._bill.spend(number, "tables", 2 * exchanges, PING_BYTES * exchanges, now)
        refreshes = _buckets(len(self._servers)) * 60.0 / DhtConfig().refresh_s
        self._bill.spend(
            number,
            "tables",
            2 * LOOKUP_PACKETS * refreshes,
            2 * LOOKUP_BYTES * refreshes,
            now,
        )
        self._loop.call_in(60.0, self._check, number, member)

    def _exchange(self, one: Member, server: Member, cause: str, size: float) -> None:
        """A question and its answer; ``size`` of both."""
        now = self._loop.now
        one.wrote_at = now
        for end in (one, server):
            self._bill.spend(end.number, cause, 2, size, now)

    def _spend_lookup(
        self, member: Member, packets: int, size: float, asked: int
    ) -> None:
        """A lookup's packets, and the sessions that they are in the NAT."""
        now = self._loop.now
        member.wrote_at = now
        self._bill.spend(member.number, "lookups", packets, size, now)
        share = packets / asked
        for _ in range(min(asked, len(self._servers))):
            server = self._servers[self._rng.randrange(len(self._servers))]
            self._pass_through(member, server)
            self._bill.spend(server.number, "lookups", share, size / asked, now)

    def _pass_through(self, member: Member, server: Member) -> None:
        """What the NAT remembers of a datagram to a server."""
        if not member.is_server and server.number not in member.heard:
            member.box.pass_through(member.number, server.number, self._loop.now)

    def _nearest(self, key: int, count: int) -> list[Member]:
        """The servers nearest to a key; all of them, in order, if there are no more."""
        if len(self._servers) <= count:
            return list(self._servers)
        places = nearest_to(self._keys, key, count)
        return [self._servers[place] for place in places]


def _buckets(servers: int) -> float:
    """Buckets of a table with k = 20: the network is halved until k are left."""
    return max(1.0, math.log2(max(servers, 2) / RoutingConfig().k))


def _table_size(servers: int) -> float:
    """Contacts of a table whose far buckets are split to the relaxed depth."""
    config = RoutingConfig()
    return min(servers - 1, config.k * _buckets(servers) * config.relaxed_bits)
