"""Who of a ring can write to whom: bindings held open, relays, and what they cost.

A peer behind a restricted NAT is written to through a binding that it holds open for
the writer, or through a relay that it holds a binding to. A binding is opened by an
introduction: whoever named the peer has a way to it and tells it to write first. Both
ends pay for its keep-alives, one exchange in what the stricter of their NATs bears.

Keep-alives are counted, not carried: a binding costs one exchange for each interval of
its life, and its ends notice a death at a moment that is uniform in the interval.

Owns links, relays and their bill. Refuses to know the ring.
"""

import enum
import random
from typing import Final

from opnode.protocols.nat.odds import NatType, Odds, odds_between
from simulations.scenarios.chord.bill import PACKET_BYTES, Bill
from simulations.scenarios.chord.users import RESTRICTED, Box, Life

LONGEST_S: Final = 120.0
"""Nobody stays silent for longer: a peer that died would go unnoticed."""
MARGIN_S: Final = 1.5
"""Taken off a NAT's timer, as the shipped node does; the ring is told the timer, which
the node has to find out."""
PATIENCE_S: Final = 1.5
"""Until a packet that brought no answer, sent three times, counts as lost."""
_TRIES: Final = 3


class Reach(enum.StrEnum):
    """How a ring reaches its firewalled members."""

    PUNCHED = "punched"
    """Through bindings; through a relay where two NATs allow no direct path."""
    RELAYED = "relayed"
    """Always through a relay, which every firewalled member holds one binding to."""
    BARE = "bare"
    """Through bindings alone: there are no relays, as in the paper."""


class Peer:
    """One member of the ring: its tables, and whom it holds bindings with.

    Attributes:
        is_in: it has a successor.
        joins: how often it joined.
        links: by the number of the other end.
        relay: the open peer that passes packets to this one, if it has one.
        relayed_since_s: since when that binding is paid for.
    """

    __slots__ = (
        "box",
        "fingers",
        "interval_s",
        "is_alive",
        "is_in",
        "joins",
        "key",
        "life",
        "links",
        "nat",
        "number",
        "predecessor",
        "relay",
        "relayed_since_s",
        "successors",
    )

    def __init__(self, life: Life, box: Box, fingers: int) -> None:
        self.life = life
        self.number = life.number
        self.key = life.key
        self.box = box
        self.nat = box.nat
        self.interval_s = min(LONGEST_S, box.timer_s - MARGIN_S)
        self.is_alive = True
        self.is_in = False
        self.joins = 0
        self.successors: list[Peer] = []
        self.fingers: list[Peer | None] = [None] * fingers
        self.predecessor: Peer | None = None
        self.links: dict[int, Link] = {}
        self.relay: Peer | None = None
        self.relayed_since_s = 0.0

    @property
    def is_restricted(self) -> bool:
        """Whether it is written to only by whom it wrote to."""
        return self.nat in RESTRICTED

    def wants(self, other: "Peer") -> bool:
        """Whether its tables name the other one."""
        is_near = other in self.successors or other is self.predecessor
        return is_near or other in self.fingers


class Link:
    """A way between two peers, at least one of them behind a restricted NAT.

    ``is_direct``: through bindings of both, else through the relays of the restricted.
    """

    __slots__ = ("interval_s", "is_direct", "one", "other", "since_s")

    def __init__(self, one: Peer, other: Peer, since_s: float, is_direct: bool) -> None:
        self.one = one
        self.other = other
        self.since_s = since_s
        self.is_direct = is_direct
        ends = [peer.interval_s for peer in (one, other) if peer.is_restricted]
        self.interval_s = min(ends)


class Bindings:
    """All links of a ring.

    Args:
        reach: how firewalled members are reached.
        rng: chooses relays.

    Attributes:
        refused: links that were not made because a NAT's table was full.
        impossible: ... because there is no direct path and no relay.
        open_peers: alive, in the order of their coming; relays are chosen among them.
    """

    def __init__(self, reach: Reach, bill: Bill, rng: random.Random) -> None:
        self.refused = self.impossible = 0
        self.open_peers: dict[int, Peer] = {}
        self._reach = reach
        self._bill = bill
        self._rng = rng

    def enter(self, peer: Peer) -> None:
        """A peer came."""
        if peer.nat is NatType.OPEN:
            self.open_peers[peer.number] = peer

    def can_write(self, writer: Peer, target: Peer) -> bool:
        """Whether a packet would arrive: alive, and a way there."""
        if not target.is_alive:
            return False
        if not target.is_restricted:
            return True
        link = writer.links.get(target.number)
        if link is None:
            return False
        return link.is_direct or (target.relay is not None and target.relay.is_alive)

    def write(
        self, writer: Peer, target: Peer, cause: str, size: float, now: float
    ) -> bool:
        """Send one packet, three times when it does not arrive; whether it did."""
        spend = self._bill.spend
        if not self.can_write(writer, target):
            spend(writer.number, cause, _TRIES, _TRIES * size, now)
            return False
        spend(writer.number, cause, 1, size, now)
        spend(target.number, cause, 1, size, now)
        link = writer.links.get(target.number)
        if link is not None and not link.is_direct and target.relay is not None:
            spend(target.relay.number, cause, 2, 2 * size, now)
        return True

    def connect(self, peer: Peer, other: Peer, via: Peer, now: float) -> bool:
        """Have ``via``, who named the other, introduce the two; whether it worked."""
        if other is peer or not other.is_alive:
            return False
        needs_link = peer.is_restricted or other.is_restricted
        if not needs_link or other.number in peer.links:
            return True
        if via not in (peer, other) and not self.can_write(via, other):
            return False
        self._bill.spend(via.number, "introductions", 1, PACKET_BYTES, now)
        for end in (peer, other):
            self._bill.spend(end.number, "introductions", 3, 3 * PACKET_BYTES, now)
        is_direct = self._is_direct(peer, other)
        if not is_direct and not self._have_relays(peer, other, now):
            return False
        if is_direct and not self._take_places(peer, other, now):
            self.refused += 1
            return False
        link = Link(peer, other, now, is_direct)
        peer.links[other.number] = other.links[peer.number] = link
        return True

    def revise(self, peer: Peer, other: Peer, now: float) -> None:
        """Give a link up if neither end wants it any more."""
        link = peer.links.get(other.number)
        if link is None or (other.is_alive and other.wants(peer)):
            return
        if not peer.wants(other):
            self.give_up(link, now)

    def give_up(self, link: Link, now: float) -> None:
        """Let a binding end."""
        one, other = link.one, link.other
        del one.links[other.number]
        del other.links[one.number]
        if not link.is_direct:
            return
        for end in (one, other):
            until_s = min(now, end.life.until_s)
            self._bill.keep_alive(end.number, link.since_s, until_s, link.interval_s)
            if end.nat is not NatType.OPEN and end.is_alive:
                end.box.kept -= 1

    def leave(self, peer: Peer, now: float) -> None:
        """A peer is gone; its NAT forgets its sessions (at once, for simplicity)."""
        self.open_peers.pop(peer.number, None)
        if peer.nat is not NatType.OPEN:
            direct = sum(link.is_direct for link in peer.links.values())
            peer.box.kept -= direct
        self._leave_relay(peer, now)

    def find_relay(self, peer: Peer, now: float) -> bool:
        """Have a relay that lives; whether there is one."""
        if peer.relay is not None and peer.relay.is_alive:
            return True
        self._leave_relay(peer, now)
        if not self.open_peers or not peer.box.keep(now):
            return False
        peer.relay = self._rng.choice(list(self.open_peers.values()))
        peer.relayed_since_s = now
        return True

    def close(self, peers: list[Peer], now: float) -> None:
        """Count what bindings cost that are open at the end."""
        for peer in peers:
            for link in list(peer.links.values()):
                self.give_up(link, now)
            self._leave_relay(peer, now)

    def kept(self, peer: Peer) -> int:
        """Bindings that a peer behind a NAT holds open."""
        direct = sum(link.is_direct for link in peer.links.values())
        return direct + (peer.relay is not None)

    def _is_direct(self, peer: Peer, other: Peer) -> bool:
        if self._reach is Reach.RELAYED:
            return False
        return odds_between(peer.nat, other.nat) is not Odds.RELAYED

    def _have_relays(self, peer: Peer, other: Peer, now: float) -> bool:
        if self._reach is Reach.BARE:
            self.impossible += 1
            return False
        ends = [end for end in (peer, other) if end.is_restricted]
        if all(self.find_relay(end, now) for end in ends):
            return True
        self.impossible += 1
        return False

    def _take_places(self, peer: Peer, other: Peer, now: float) -> bool:
        """A session in each NAT on the way: in the open one's there is none."""
        ends = [end for end in (peer, other) if end.nat is not NatType.OPEN]
        taken: list[Peer] = []
        for end in ends:
            if not end.box.keep(now):
                for had in taken:
                    had.box.kept -= 1
                return False
            taken.append(end)
        return True

    def _leave_relay(self, peer: Peer, now: float) -> None:
        relay = peer.relay
        if relay is None:
            return
        peer.relay = None
        peer.box.kept -= 1
        until_s = min(now, peer.life.until_s, relay.life.until_s)
        for end in (peer, relay):
            self._bill.keep_alive(
                end.number, peer.relayed_since_s, until_s, peer.interval_s
            )
