"""The two worlds: users as members of a ring, and as leaves with introducers."""

import math
from dataclasses import dataclass

from simulations.run_context import Run
from simulations.scenarios.chord.bindings import Bindings, Peer, Reach
from simulations.scenarios.chord.introduced import Introduced, Member
from simulations.scenarios.chord.ring import Duties, Lookup, Ring
from simulations.scenarios.chord.users import Life, Population
from simulations.scenarios.chord.worlds import Done, Plan, World


@dataclass(frozen=True, slots=True, kw_only=True)
class RingRules:
    """How the ring is run: how members are reached, and its periods."""

    reach: Reach
    duties: Duties


class RingWorld(World):
    """Everybody is a member of the ring.

    Attributes:
        right: once a minute, the share of members whose first successor is the next
            one that is there.
        out: ... and the share of users that are in no ring.
        hops: of the lookups for calls.
    """

    name = "ring"

    def __init__(
        self, plan: Plan, population: Population, run: Run, rules: RingRules
    ) -> None:
        super().__init__(plan, population, run)
        self.right: list[float] = []
        self.out: list[float] = []
        self.hops: list[int] = []
        self.bindings = Bindings(rules.reach, self.bill, self.rng)
        self.ring = Ring(self.loop, self.bindings, self.bill, rules.duties, self.rng)
        users = sum(life.since_s < 0 for life in population.lives)
        self._fingers = math.ceil(math.log2(users))

    def begin(self, lives: list[Life]) -> None:
        """See `World.begin`."""
        self.ring.begin(list(map(self._peer, lives)))

    def come(self, life: Life) -> None:
        """See `World.come`."""
        self.ring.come(self._peer(life))

    def leave(self, life: Life) -> None:
        """See `World.leave`."""
        self.ring.leave(self.ring.peers[life.number])

    def call(self, caller: Life, callee: Life, done: Done) -> None:
        """Look the callee up; the last hop has it and the caller open a binding."""
        peers = self.ring.peers
        wanted = peers[callee.number]

        def found(peer: Peer | None, via: Peer | None, lookup: Lookup) -> None:
            self.hops.append(len(lookup.way) - 1)
            is_led = via is wanted or (
                via is not None and self.bindings.can_write(via, wanted)
            )
            done(peer is wanted and is_led)

        self.ring.look_up(peers[caller.number], wanted.key, found)

    def look(self) -> dict[str, float]:
        """See `World.look`."""
        members = sorted(
            (peer.key, peer.number) for peer in self.ring.peers.values() if peer.is_in
        )
        right = 0
        for index, (_, number) in enumerate(members):
            ahead = self.ring.peers[number].successors
            following = members[(index + 1) % len(members)][1]
            right += bool(ahead) and ahead[0].number == following
        share = right / max(1, len(members))
        out = 1 - len(members) / len(self.ring.peers)
        if self.loop.now >= self.plan.warm_up_s:
            self.right.append(share)
            self.out.append(out)
        return {"right": share, "out": out}

    def end(self) -> None:
        """See `World.end`."""
        self.bindings.close(list(self.ring.peers.values()), self.loop.now)

    def _peer(self, life: Life) -> Peer:
        return Peer(life, self.box_of(life), self._fingers)


class OurWorld(World):
    """Open users are servers, the others leaves."""

    name = "ours"

    def __init__(self, plan: Plan, population: Population, run: Run) -> None:
        super().__init__(plan, population, run)
        self.introduced = Introduced(self.loop, self.bill, self.rng)

    def begin(self, lives: list[Life]) -> None:
        """See `World.begin`."""
        self.introduced.begin([Member(life, self.box_of(life)) for life in lives])

    def come(self, life: Life) -> None:
        """See `World.come`."""
        self.introduced.come(Member(life, self.box_of(life)))

    def leave(self, life: Life) -> None:
        """See `World.leave`."""
        self.introduced.leave(self.introduced.members[life.number])

    def call(self, caller: Life, callee: Life, done: Done) -> None:
        """See `World.call`."""
        members = self.introduced.members
        self.introduced.call(members[caller.number], members[callee.number], done)

    def look(self) -> dict[str, float]:
        """See `World.look`."""
        members = self.introduced.members.values()
        found = sum(member.is_ready for member in members)
        return {"found": found / max(1, len(members))}

    def end(self) -> None:
        """See `World.end`: every exchange was counted as it happened."""
