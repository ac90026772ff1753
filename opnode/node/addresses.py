"""Which address the node has: the one it bound, and the ones that others observed.

Owns the votes of the nodes that we asked, and what they tell of a NAT in front of us.
Refuses to believe a single stranger once there are others to ask, as a false address
would be dialled by our peers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from opnode.core.addresses import (
    Endpoint,
    is_loopback,
    is_public,
    is_wildcard,
    public_subnet,
    reaches,
)
from opnode.core.ids import Contact
from opnode.protocols.nat.mapping import Mapping, MappingObserver

MAX_REPORTERS: Final = 64
"""Votes kept; the oldest go first, so that a change of address is noticed."""

QUORUM: Final = 3
"""Nodes of as many subnets that must see us at an address, or more than half while
there are fewer than five: one may lie."""

VOTE_S: Final = 600.0
"""Seconds that a vote counts when there are newer ones: longer than NATs keep most
mappings, shorter than it takes to notice that one has forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipv6Statistics:
    """What is known of IPv6 here.

    Attributes:
        is_carried: the node's socket does IPv6.
        addresses: public ones of this machine.
        is_seen: other nodes see us at one.
    """

    is_carried: bool
    addresses: tuple[str, ...]
    is_seen: bool


class ObservedAddresses:
    """The votes on our own address: one of each public /24 or /48.

    Ports and neighbouring addresses cost nothing: whoever asked us from sixty of them
    would otherwise decide at which address we are, and so which node id we take. In a
    private network each node has a vote. IPv4 and IPv6, and what is seen from inside
    of a NAT and from outside, are different addresses, not rivals.
    """

    def __init__(self, local: Endpoint, interfaces: Iterable[str]) -> None:
        self._local = local
        self._interfaces = frozenset(interfaces)
        self._votes: dict[Endpoint | bytes, tuple[Endpoint, float]] = {}
        self._counts: dict[Endpoint, int] = {}
        # By whether it is IPv6.
        self._mappings = {False: MappingObserver(), True: MappingObserver()}

    def report(self, reporter: Endpoint, observed: Endpoint, now: float) -> None:
        """One node says at which address it sees us."""
        is_v6 = ":" in observed.host
        if is_v6 != (":" in reporter.host):
            # It was asked over the other IP version, so it cannot know.
            return
        voter = _voter(reporter)
        self._withdraw(voter)
        self._votes[voter] = observed, now
        self._counts[observed] = self._counts.get(observed, 0) + 1
        self._expire(now)
        self._mappings[is_v6].report(
            public_subnet(reporter.host) or reporter.host, observed
        )

    def forget(self, contact: Contact) -> None:
        """The reporter is gone; its vote goes with it."""
        self._withdraw(_voter(contact.endpoint))

    def moved(self, interfaces: Iterable[str]) -> None:
        """This machine has other addresses now: all votes are on the old ones."""
        self._interfaces = frozenset(interfaces)
        self._votes.clear()
        self._counts.clear()
        for mapping in self._mappings.values():
            mapping.forget()

    @property
    def agreed(self) -> tuple[Endpoint, ...]:
        """Addresses that enough nodes report: IPv4 first, then by votes.

        Asked after every reply that comes in, so votes are not counted anew.
        """
        voters: Counter[tuple[bool, bool]] = Counter()
        for endpoint, votes in self._counts.items():
            voters[_side(endpoint)] += votes
        ranked = sorted(
            self._counts.items(), key=lambda item: (":" in item[0].host, -item[1], item)
        )
        return tuple(
            endpoint
            for endpoint, votes in ranked
            if votes >= _quorum(voters[_side(endpoint)])
        )

    @property
    def nat(self) -> Mapping:
        """The NAT in front of us; of IPv4 where that has been told."""
        ours = [Endpoint(host, self._local.port) for host in self._own_hosts()]
        four = self._mappings[False].mapping(ours)
        return four if four.host is not None else self._mappings[True].mapping(ours)

    @property
    def reflexive(self) -> tuple[Endpoint, ...]:
        """Where a peer may find us from outside: one address of each IP version.

        Behind a NAT with a port for each destination it is the latest one: nobody else
        can use it, but checks to it have the peer's own NAT let in all of that host.
        """
        agreed, nat = self.agreed, self.nat
        found = {":" in endpoint.host: endpoint for endpoint in reversed(agreed)}
        if nat.kind.is_dependent and nat.endpoint is not None:
            found[":" in nat.endpoint.host] = nat.endpoint
        return tuple(found[is_v6] for is_v6 in sorted(found))

    @property
    def best(self) -> Endpoint | None:
        """Where others can reach us, as far as is known."""
        agreed = self.agreed
        if agreed and not self.nat.kind.is_dependent:
            return agreed[0]
        return None if is_wildcard(self._local.host) else self._local

    @property
    def ipv6(self) -> Ipv6Statistics:
        """What is known of IPv6 here."""
        own = [host for host in self._own_hosts(version_of="::") if is_public(host)]
        return Ipv6Statistics(
            is_carried=reaches(self._local.host, "::"),
            addresses=tuple(sorted(own)),
            is_seen=any(":" in endpoint.host for endpoint in self.agreed),
        )

    @property
    def guess(self) -> Endpoint:
        """The address most likely to work while nobody has reported one."""
        hosts = sorted(
            (host for host in self._interfaces if not is_loopback(host)),
            key=lambda host: (not is_public(host), ":" in host, host),
        )
        if not is_wildcard(self._local.host) or not hosts:
            return self._local
        return Endpoint(hosts[0], self._local.port)

    @property
    def behind_nat(self) -> bool:
        """Whether others see an address that is none of ours."""
        if self.nat.kind.is_dependent:
            return True
        agreed = self.agreed
        if not agreed:
            return False
        host = agreed[0].host
        return host != self._local.host and host not in self._interfaces

    def may_be_ours(self, asked: Endpoint) -> bool:
        """Whether whoever dials ``asked`` may reach us, as far as is known.

        An address of this machine is known exactly. What a NAT in front of it shows to
        others is known from those who see us from the same side, public or private;
        its port only they could tell who dial it, so the host decides.
        """
        local = self._local
        hosts = self._own_hosts(version_of=asked.host)
        if asked.host in hosts or is_loopback(asked.host):
            is_reached = asked.host in hosts or (
                is_wildcard(local.host) and reaches(local.host, asked.host)
            )
            return is_reached and asked.port == local.port
        if not reaches(local.host, asked.host):
            return False
        if any(map(is_public, hosts)) or all(map(is_loopback, hosts)):
            # Nothing translates addresses in front of such a machine.
            return False
        side = is_public(asked.host)
        is_v6 = ":" in asked.host
        seen = {
            e.host
            for e in (*self.agreed, *self.reflexive)
            if is_public(e.host) == side and (":" in e.host) == is_v6
        }
        return not seen or asked.host in seen

    def _own_hosts(self, version_of: str | None = None) -> frozenset[str]:
        """Addresses that the socket has, of one IP version if one is named."""
        local = self._local.host
        hosts = self._interfaces if is_wildcard(local) else frozenset((local,))
        return frozenset(
            host
            for host in hosts
            if reaches(local, host)
            and (version_of is None or (":" in host) == (":" in version_of))
        )

    def _expire(self, now: float) -> None:
        """The oldest votes go: too many, or too old beside a quorum of others."""
        while len(self._votes) > QUORUM:
            oldest = next(iter(self._votes))
            is_old = self._votes[oldest][1] < now - VOTE_S
            if not is_old and len(self._votes) <= MAX_REPORTERS:
                return
            self._withdraw(oldest)

    def _withdraw(self, voter: Endpoint | bytes) -> None:
        vote = self._votes.pop(voter, None)
        if vote is None:
            return
        observed = vote[0]
        self._counts[observed] -= 1
        if not self._counts[observed]:
            del self._counts[observed]


def _quorum(voters: int) -> int:
    return min(QUORUM, voters // 2 + 1)


def _side(observed: Endpoint) -> tuple[bool, bool]:
    """Votes on these are no rivals: IPv4 and IPv6, inside and outside of a NAT."""
    return ":" in observed.host, is_public(observed.host)


def _voter(reporter: Endpoint) -> Endpoint | bytes:
    return public_subnet(reporter.host) or reporter
