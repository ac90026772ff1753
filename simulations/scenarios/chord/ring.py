"""A Chord ring under churn, as its paper has it, over bindings that have to be held.

Stoica et al., "Chord: a scalable peer-to-peer lookup service for Internet applications"
(SIGCOMM 2001, and the journal version of 2003): a finger for each power of two, a list
of successors, and four periodic duties: stabilize, notify, fix_fingers and
check_predecessor. Where the paper leaves a choice, the ring gets the one that is best
for it here: lookups are recursive, since only neighbours in the tables have a binding;
fingers that the list of successors covers are not looked up; a lost hop is gone around
at the hop before it; bindings tell of deaths besides the duties.

Simplified, in Chord's favour: an exchange happens at one moment and what it brings is
known a round trip later; the answer of a lookup comes straight back along its way and
is never lost; nobody's processor or link is ever busy; a newcomer finds an open member
at once. Data is not moved.

Owns the tables and the duties. Refuses to know NATs (`bindings`) and who calls whom.
"""

import bisect
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from opnode.protocols.nat.odds import NatType
from simulations.backends.event.loop import EventLoop
from simulations.model.durations import LATENCY_S
from simulations.model.ids import ID_BITS
from simulations.scenarios.chord.bill import ANSWER_BYTES, PACKET_BYTES, Bill
from simulations.scenarios.chord.bindings import PATIENCE_S, Bindings, Peer

_SPACE: Final = 1 << ID_BITS
_MASK: Final = _SPACE - 1
_MOST_HOPS: Final = 64
_AGAIN_S: Final = 5.0
"""Until somebody who lost every successor joins anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """How often a member does what; seconds.

    Attributes:
        successors: length of the list.
        stabilize_s: the successor is asked for its predecessor and its list.
        fix_finger_s: one finger is looked up, in turn.
    """

    successors: int
    stabilize_s: float
    fix_finger_s: float


class Lookup:
    """One question on its way: who is the successor of a key?

    Attributes:
        way: members that passed it on, the asker first.
        lost: members that are there, but know no way on.
        done: called with the successor and who named it; both None when it failed.
    """

    __slots__ = ("done", "key", "lost", "way")

    def __init__(self, key: int, asker: Peer, done: "Answered") -> None:
        self.key = key
        self.way = [asker]
        self.lost: list[Peer] = []
        self.done = done


Answered = Callable[[Peer | None, Peer | None, Lookup], None]


def is_between(low: int, key: int, high: int) -> bool:
    """Whether ``key`` lies after ``low`` and not after ``high``, going round.

    From a member back to itself is the whole ring.
    """
    return low == high or 0 < (key - low) & _MASK <= (high - low) & _MASK


class Ring:
    """The members and their duties."""

    def __init__(
        self,
        loop: EventLoop,
        bindings: Bindings,
        bill: Bill,
        duties: Duties,
        rng: random.Random,
    ) -> None:
        self.peers: dict[int, Peer] = {}
        self.joins = 0
        self._loop = loop
        self._bindings = bindings
        self._bill = bill
        self._duties = duties
        self._rng = rng

    def begin(self, peers: list[Peer]) -> None:
        """Let these be a perfect ring with every binding open."""
        ordered = sorted(peers, key=lambda peer: peer.key)
        count = len(ordered)
        for peer in peers:
            self.peers[peer.number] = peer
            self._bindings.enter(peer)
        for index, peer in enumerate(ordered):
            peer.is_in = True
            peer.joins = 1
            ahead = range(1, min(self._duties.successors, count - 1) + 1)
            peer.successors = [ordered[(index + step) % count] for step in ahead]
            peer.predecessor = ordered[index - 1]
            for number in range(len(peer.fingers)):
                start = _start(peer, number)
                if not is_between(peer.key, start, peer.successors[-1].key):
                    peer.fingers[number] = _first_at(ordered, start)
        for peer in ordered:
            for other in _named(peer):
                if not self._bindings.connect(peer, other, peer, self._loop.now):
                    self._forget(peer, other)
            self._start_duties(peer)

    def come(self, peer: Peer) -> None:
        """A newcomer joins."""
        self.peers[peer.number] = peer
        self._bindings.enter(peer)
        self._join(peer.number, peer)

    def leave(self, peer: Peer) -> None:
        """A member is gone without a word; whoever has a binding with it finds out."""
        now = self._loop.now
        peer.is_alive = peer.is_in = False
        self.peers.pop(peer.number)
        for link in peer.links.values():
            other = link.other if link.one is peer else link.one
            if link.is_direct:
                pause_s = self._rng.uniform(0, link.interval_s) + PATIENCE_S
                self._loop.call_in(pause_s, self._miss, other.number, (other, peer))
        self._bindings.leave(peer, now)
        if peer.nat is NatType.OPEN:
            for client in self.peers.values():
                if client.relay is peer:
                    pause_s = self._rng.uniform(0, client.interval_s) + PATIENCE_S
                    self._loop.call_in(pause_s, self._move, client.number, client)

    def _move(self, number: int, client: Peer) -> None:
        """A relay is gone: take another one and tell everybody who needs to know."""
        now = self._loop.now
        if client.is_alive and self._bindings.find_relay(client, now):
            relayed = [link for link in client.links.values() if not link.is_direct]
            for link in relayed:
                other = link.other if link.one is client else link.one
                self._bill.spend(number, "introductions", 1, PACKET_BYTES, now)
                self._bill.spend(other.number, "introductions", 1, PACKET_BYTES, now)

    def look_up(self, asker: Peer, key: int, done: Answered) -> None:
        """Send a question off."""
        self._loop.call_in(
            0.0, self._arrive, asker.number, (asker, Lookup(key, asker, done))
        )

    # Joining and the four duties.

    def _join(self, number: int, peer: Peer) -> None:
        del number
        open_peers = self._bindings.open_peers
        if not peer.is_alive:
            return
        known = [other for other in open_peers.values() if other.is_in]
        self.joins += 1
        if not known:
            self._create(peer)
            return
        first = self._rng.choice(known)
        self._bill.spend(peer.number, "joins", 2, 2 * PACKET_BYTES, self._loop.now)
        self._bill.spend(first.number, "joins", 2, 2 * PACKET_BYTES, self._loop.now)

        def joined(found: Peer | None, via: Peer | None, lookup: Lookup) -> None:
            del lookup
            now = self._loop.now
            if not peer.is_alive:
                return
            is_in = found is not None and via is not None and found is not peer
            if (
                found
                and via
                and is_in
                and self._bindings.connect(peer, found, via, now)
            ):
                peer.successors = [found]
                self._begin_to_live(peer)
            else:
                self._loop.call_in(_AGAIN_S, self._join, peer.number, peer)

        self.look_up(first, peer.key, joined)

    def _create(self, peer: Peer) -> None:
        """Nobody is in a ring that could let us in: an open one begins another."""
        if peer.nat is not NatType.OPEN:
            self._loop.call_in(_AGAIN_S, self._join, peer.number, peer)
            return
        peer.successors = [peer]
        self._begin_to_live(peer)

    def _begin_to_live(self, peer: Peer) -> None:
        peer.is_in = True
        peer.joins += 1
        if peer.joins == 1:
            self._start_duties(peer)
        else:
            self._stabilize(peer.number, peer)
        self._fill_fingers(peer)

    def _start_duties(self, peer: Peer) -> None:
        rng, duties = self._rng, self._duties
        first_s = (
            0.0 if len(peer.successors) == 1 else rng.uniform(0, duties.stabilize_s)
        )
        self._loop.call_in(first_s, self._stabilize, peer.number, peer)
        pause_s = rng.uniform(0, duties.fix_finger_s)
        self._loop.call_in(pause_s, self._fix_next, peer.number, (peer, 0))

    def _stabilize(self, number: int, peer: Peer) -> None:
        """Ask the first successor that answers; dead ones are dropped on the way."""
        if not peer.is_alive or not peer.is_in:
            return
        now = self._loop.now
        if not peer.successors:
            # The fingers are what is left; they are far, but their lists come near.
            left = [other for other in _named(peer) if other is not peer]
            ahead = sorted(left, key=lambda other: (other.key - peer.key) & _MASK)
            peer.successors = ahead[:1]
        if not peer.successors:
            peer.is_in = False
            self._loop.call_in(_AGAIN_S, self._rejoin, number, peer)
            return
        self._check_predecessor(peer)
        first = peer.successors[0]
        if not self._bindings.write(peer, first, "duties", PACKET_BYTES, now):
            self._forget(peer, first)
            self._loop.call_in(PATIENCE_S, self._stabilize, number, peer)
            return
        # A reply needs no binding but the one that the question opened.
        self._bill.spend(first.number, "duties", 1, ANSWER_BYTES, now)
        self._bill.spend(number, "duties", 1, ANSWER_BYTES, now)
        self._loop.call_in(
            self._round_trip_s(), self._stabilized, number, (peer, first)
        )

    def _stabilized(self, number: int, told: tuple[Peer, Peer]) -> None:
        peer, first = told
        if not peer.is_alive:
            return
        self._loop.call_in(
            self._jittered(self._duties.stabilize_s), self._stabilize, number, peer
        )
        if not first.is_alive or first not in peer.successors:
            return
        before = peer.successors
        peer.successors = kept = self._next_list(peer, first)
        for other in before:
            if other not in kept:
                self._bindings.revise(peer, other, self._loop.now)
        if kept:
            self._notify(peer, kept[0])

    def _next_list(self, peer: Peer, first: Peer) -> list[Peer]:
        """The successors, by what the first of them told."""
        before, most = peer.successors, self._duties.successors
        named = [first, *first.successors]
        nearer = first.predecessor
        if nearer is not None and is_between(peer.key, nearer.key, first.key):
            named.append(nearer)
        if len(named) <= most:
            # Whoever names few has lost the others: our own are still good.
            named += [other for other in before if other not in named]
        named.sort(key=lambda other: (other.key - peer.key) & _MASK)
        kept: list[Peer] = []
        for other in named:
            if len(kept) == most:
                break
            if other is peer or other in kept:
                continue
            if other in before or self._bindings.connect(
                peer, other, first, self._loop.now
            ):
                kept.append(other)
        return kept or [first]

    def _notify(self, peer: Peer, first: Peer) -> None:
        """Tell the successor that we may be its predecessor."""
        now = self._loop.now
        held = first.predecessor
        if held is peer or not self._bindings.write(
            peer, first, "duties", PACKET_BYTES, now
        ):
            return
        is_better = held is None or is_between(held.key, peer.key, first.key)
        if is_better and self._bindings.connect(first, peer, peer, now):
            first.predecessor = peer
            if held is not None:
                self._bindings.revise(first, held, now)

    def _check_predecessor(self, peer: Peer) -> None:
        held = peer.predecessor
        if held is None:
            return
        now = self._loop.now
        if held.number in peer.links and held.is_alive:
            # The binding's keep-alives do.
            return
        if self._bindings.write(peer, held, "duties", PACKET_BYTES, now):
            self._bill.spend(held.number, "duties", 1, PACKET_BYTES, now)
            self._bill.spend(peer.number, "duties", 1, PACKET_BYTES, now)
        else:
            self._forget(peer, held)

    def _fill_fingers(self, peer: Peer) -> None:
        """A newcomer looks its fingers up over the first half minute."""
        for number in range(len(peer.fingers)):
            pause_s = self._rng.uniform(1.0, 30.0)
            self._loop.call_in(pause_s, self._fix_once, peer.number, (peer, number))

    def _fix_next(self, number: int, due: tuple[Peer, int]) -> None:
        peer, finger = due
        if not peer.is_alive:
            return
        for _ in peer.fingers:
            if not self._is_covered(peer, finger):
                self._fix_once(number, (peer, finger))
                finger = (finger + 1) % len(peer.fingers)
                break
            finger = (finger + 1) % len(peer.fingers)
        pause_s = self._jittered(self._duties.fix_finger_s)
        self._loop.call_in(pause_s, self._fix_next, number, (peer, finger))

    def _fix_once(self, number: int, due: tuple[Peer, int]) -> None:
        del number
        peer, finger = due
        if not peer.is_alive or not peer.is_in or self._is_covered(peer, finger):
            return

        def fixed(found: Peer | None, via: Peer | None, lookup: Lookup) -> None:
            del lookup
            held = peer.fingers[finger]
            if not peer.is_alive or found is None or via is None or found is held:
                return
            now = self._loop.now
            worked = self._bindings.connect(peer, found, via, now)
            peer.fingers[finger] = found if worked else None
            if held is not None:
                self._bindings.revise(peer, held, now)

        self.look_up(peer, _start(peer, finger), fixed)

    def _is_covered(self, peer: Peer, finger: int) -> bool:
        """Whether the list of successors says all about a finger."""
        if not peer.successors:
            return True
        is_near = is_between(peer.key, _start(peer, finger), peer.successors[-1].key)
        if is_near and peer.fingers[finger] is not None:
            held = peer.fingers[finger]
            peer.fingers[finger] = None
            if held is not None:
                self._bindings.revise(peer, held, self._loop.now)
        return is_near

    def _rejoin(self, number: int, peer: Peer) -> None:
        if peer.is_alive and not peer.is_in:
            self._join(number, peer)

    # Lookups.

    def _arrive(self, number: int, sent: tuple[Peer, Lookup]) -> None:
        """A question reaches a member, or comes back to it."""
        peer, lookup = sent
        if not peer.is_alive or not peer.successors:
            self._turn_back(lookup)
            return
        first = peer.successors[0]
        if is_between(peer.key, lookup.key, first.key):
            self._answer(lookup, first, peer)
            return
        follower = _closest_before(peer, lookup)
        if follower is None or len(lookup.way) > _MOST_HOPS:
            lookup.done(None, None, lookup)
            return
        if not self._bindings.write(
            peer, follower, "lookups", PACKET_BYTES, self._loop.now
        ):
            self._forget(peer, follower)
            self._loop.call_in(PATIENCE_S, self._arrive, number, (peer, lookup))
            return
        self._pass_through(peer, follower)
        lookup.way.append(follower)
        pause_s = self._rng.uniform(*LATENCY_S)
        self._loop.call_in(pause_s, self._arrive, follower.number, (follower, lookup))

    def _turn_back(self, lookup: Lookup) -> None:
        """Whoever it was sent to is no help: the one before goes around it."""
        gone = lookup.way.pop()
        if not lookup.way:
            lookup.done(None, None, lookup)
            return
        before = lookup.way[-1]
        lookup.lost.append(gone)
        if before.is_alive and not gone.is_alive:
            self._forget(before, gone)
        self._loop.call_in(PATIENCE_S, self._arrive, before.number, (before, lookup))

    def _answer(self, lookup: Lookup, found: Peer, via: Peer) -> None:
        """Back along the way, one packet each hop."""
        now, hops = self._loop.now, len(lookup.way) - 1
        for index, peer in enumerate(lookup.way):
            packets = (index > 0) + (index < hops)
            self._bill.spend(
                peer.number, "lookups", packets, packets * PACKET_BYTES, now
            )
        pause_s = sum(self._rng.uniform(*LATENCY_S) for _ in range(hops))
        asker = lookup.way[0]
        self._loop.call_in(pause_s, _answered, asker.number, (lookup, found, via))

    def _pass_through(self, peer: Peer, follower: Peer) -> None:
        """What a NAT remembers of a packet to somebody without a binding."""
        if peer.nat is not NatType.OPEN and follower.number not in peer.links:
            peer.box.pass_through(peer.number, follower.number, self._loop.now)

    # Deaths.

    def _miss(self, number: int, missed: tuple[Peer, Peer]) -> None:
        """The keep-alives of a binding were not answered."""
        del number
        peer, gone = missed
        if peer.is_alive and gone.number in peer.links:
            self._forget(peer, gone)

    def _forget(self, peer: Peer, other: Peer) -> None:
        """Name somebody no more who did not answer."""
        peer.successors = [held for held in peer.successors if held is not other]
        peer.fingers = [held if held is not other else None for held in peer.fingers]
        if peer.predecessor is other:
            peer.predecessor = None
        link = peer.links.get(other.number)
        if link is not None and not other.is_alive:
            self._bindings.give_up(link, self._loop.now)
        else:
            self._bindings.revise(peer, other, self._loop.now)

    def _round_trip_s(self) -> float:
        return self._rng.uniform(*LATENCY_S) + self._rng.uniform(*LATENCY_S)

    def _jittered(self, period_s: float) -> float:
        return period_s * self._rng.uniform(0.9, 1.1)


def _answered(number: int, told: tuple[Lookup, Peer, Peer]) -> None:
    del number
    lookup, found, via = told
    lookup.done(found, via, lookup)


def _named(peer: Peer) -> list[Peer]:
    """Everybody in a member's tables."""
    named = [*peer.successors, *(held for held in peer.fingers if held is not None)]
    if peer.predecessor is not None:
        named.append(peer.predecessor)
    return named


def _start(peer: Peer, finger: int) -> int:
    """The key whose successor a finger is: half the space ahead, a quarter, ..."""
    return peer.key + (1 << ID_BITS - 1 - finger) & _MASK


def _first_at(ordered: list[Peer], key: int) -> Peer:
    """The successor of a key among members that are sorted by theirs."""
    index = bisect.bisect_left(ordered, key, key=lambda peer: peer.key)
    return ordered[index % len(ordered)]


def _closest_before(peer: Peer, lookup: Lookup) -> Peer | None:
    """Of everybody named, the one that comes last before the key."""
    best, best_ahead = None, 0
    wanted = (lookup.key - peer.key) & _MASK
    for other in _named(peer):
        ahead = (other.key - peer.key) & _MASK
        if best_ahead < ahead < wanted and other not in lookup.lost:
            best, best_ahead = other, ahead
    return best
