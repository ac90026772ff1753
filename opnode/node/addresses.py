"""Which address the node has: the one it bound, and the ones that others observed.

Owns the votes of the nodes that we asked. Refuses to believe a single stranger once
there are others to ask, as a false address would be dialled by our peers.
"""

from collections.abc import Iterable
from typing import Final

from opnode.core.addresses import Endpoint, is_loopback, is_public, public_subnet
from opnode.core.ids import Contact

MAX_REPORTERS: Final = 64
"""Votes kept; the oldest go first, so that a change of address is noticed."""

QUORUM: Final = 2


class ObservedAddresses:
    """The votes on our own address: one of each public /24 or /48.

    Ports and neighbouring addresses cost nothing: whoever asked us from sixty of them
    would otherwise decide at which address we are, and so which node id we take. In a
    private network each node has a vote.
    """

    def __init__(self, local: Endpoint, interfaces: Iterable[str]) -> None:
        self._local = local
        self._interfaces = frozenset(interfaces)
        self._votes: dict[Endpoint | bytes, Endpoint] = {}
        self._counts: dict[Endpoint, int] = {}

    def report(self, reporter: Endpoint, observed: Endpoint) -> None:
        """One node says at which address it sees us."""
        voter = _voter(reporter)
        self._withdraw(voter)
        self._votes[voter] = observed
        self._counts[observed] = self._counts.get(observed, 0) + 1
        while len(self._votes) > MAX_REPORTERS:
            self._withdraw(next(iter(self._votes)))

    def forget(self, contact: Contact) -> None:
        """The reporter is gone; its vote goes with it."""
        self._withdraw(_voter(contact.endpoint))

    @property
    def agreed(self) -> tuple[Endpoint, ...]:
        """Addresses that enough nodes report, most votes first.

        Asked after every reply that comes in, so votes are not counted anew.
        """
        needed = min(QUORUM, len(self._votes))
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(endpoint for endpoint, votes in ranked if votes >= needed)

    @property
    def best(self) -> Endpoint | None:
        """Where others can reach us, as far as is known."""
        if self.agreed:
            return self.agreed[0]
        return None if self._is_wildcard() else self._local

    @property
    def guess(self) -> Endpoint:
        """The address most likely to work while nobody has reported one."""
        hosts = sorted(
            (host for host in self._interfaces if not is_loopback(host)),
            key=lambda host: (not is_public(host), ":" in host, host),
        )
        if not self._is_wildcard() or not hosts:
            return self._local
        return Endpoint(hosts[0], self._local.port)

    @property
    def behind_nat(self) -> bool:
        """Whether others see an address that is none of ours."""
        return bool(self.agreed) and not self._agreed_host_is_ours()

    def may_be_ours(self, asked: Endpoint) -> bool:
        """Whether whoever dials ``asked`` may reach us, as far as is known.

        An address of this machine is known exactly. What a NAT in front of it shows to
        others is known from those who see us from the same side, public or private;
        its port only they could tell who dial it, so the host decides.
        """
        local = self._local
        if not self._is_wildcard():
            hosts = frozenset((local.host,))
        else:
            is_ipv6 = ":" in local.host
            hosts = frozenset(h for h in self._interfaces if (":" in h) == is_ipv6)
        if asked.host in hosts or is_loopback(asked.host):
            is_reached = asked.host in hosts or self._is_wildcard()
            return is_reached and asked.port == local.port
        if any(map(is_public, hosts)) or all(map(is_loopback, hosts)):
            # Nothing translates addresses in front of such a machine.
            return False
        side = is_public(asked.host)
        seen = {e.host for e in self.agreed if is_public(e.host) == side}
        return not seen or asked.host in seen

    def _withdraw(self, voter: Endpoint | bytes) -> None:
        observed = self._votes.pop(voter, None)
        if observed is None:
            return
        self._counts[observed] -= 1
        if not self._counts[observed]:
            del self._counts[observed]

    def _agreed_host_is_ours(self) -> bool:
        if not self.agreed:
            return False
        host = self.agreed[0].host
        return host == self._local.host or host in self._interfaces

    def _is_wildcard(self) -> bool:
        return self._local.host in ("0.0.0.0", "::")  # noqa: S104 - a comparison


def _voter(reporter: Endpoint) -> Endpoint | bytes:
    return public_subnet(reporter.host) or reporter
