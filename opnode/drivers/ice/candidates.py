"""The addresses that we tell a peer: which of them, and which it should try first.

Owns the choice among the interfaces, what others observed, what a router forwards to
us, and what a NAT is expected to give us next. Refuses to know how a peer uses them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from aioice.candidate import candidate_priority

from opnode.core.addresses import Candidate, Endpoint, is_loopback, is_wildcard, reaches
from opnode.core.interfaces import InterfaceAddress, is_on_link, ranked_interfaces
from opnode.drivers.network.network import Network

COMPONENT: Final = 1
_LOCAL_PREFERENCE: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateConfig:
    """How many addresses one offer names, by what they are.

    Attributes:
        total: as many as one offer carries.
        hosts: of our own interfaces, if there is room for so many.
        hosts_first: of them before everything else: IPv6 and IPv4 of a good interface.
        observed: that others see us at: one of each family, and one from before a move.
        mapped: that a router forwards to us, one of each way to ask for it.
        predicted: consecutive ports; what else opens a port meanwhile takes one.
        interfaces_valid_s: asking the system for its addresses takes 0.3 ms, and they
            change seldom.
    """

    total: int = 8
    hosts: int = 4
    hosts_first: int = 2
    observed: int = 2
    mapped: int = 2
    predicted: int = 5
    interfaces_valid_s: float = 5.0


class LocalCandidates:
    """What we may tell of ourselves at this moment."""

    def __init__(
        self, local: Endpoint, network: Network, config: CandidateConfig
    ) -> None:
        """``local`` is where the node's socket is bound."""
        # Called when there is one more that may help a connection being made.
        self.on_added: Callable[[], None] | None = None
        self._local = local
        self._network = network
        self._config = config
        self._observed: dict[Endpoint, None] = {}
        self._mapped: dict[Endpoint, None] = {}
        self._interfaces: tuple[InterfaceAddress, ...] = ()
        self._valid_until = -1.0

    @property
    def observed(self) -> frozenset[Endpoint]:
        """Our addresses as others see them; the newest ones."""
        return frozenset(self._observed)

    def add_observed(self, endpoint: Endpoint) -> None:
        """Others see us there; the newest few count."""
        is_new = endpoint not in self._observed
        _renew(self._observed, endpoint, self._config.observed)
        self._tell(is_new=is_new)

    def forget_observed(self, endpoint: Endpoint) -> None:
        """Others no longer see us there; nothing happens when it is unknown."""
        self._observed.pop(endpoint, None)

    @property
    def mapped(self) -> tuple[Endpoint, ...]:
        """What routers forward to us, the newest last."""
        return tuple(self._mapped)

    def add_mapped(self, endpoint: Endpoint) -> None:
        """A router forwards this public address to our socket."""
        is_new = endpoint not in self._mapped
        _renew(self._mapped, endpoint, self._config.mapped)
        self._tell(is_new=is_new)

    def forget_mapped(self, endpoint: Endpoint) -> None:
        """It does so no longer; nothing happens when it is unknown."""
        self._mapped.pop(endpoint, None)

    def candidates(
        self, predicted: Sequence[Endpoint] = (), near: Iterable[str] = ()
    ) -> tuple[Candidate, ...]:
        """The most useful ones, host candidates in front, at least one.

        Args:
            predicted: where our NAT is expected to show us to a new peer, the likeliest
                first.
            near: the peer's addresses, where known: what shares their subnet is better.
        """
        config = self._config
        hosts = self._hosts(near)
        taken = set(hosts)
        reflexive: list[Endpoint] = []
        sources = (
            list(reversed(self._mapped)),
            list(predicted[: config.predicted]),
            list(reversed(self._observed)),
        )
        for endpoint in (endpoint for source in sources for endpoint in source):
            if endpoint not in taken and reaches(self._local.host, endpoint.host):
                taken.add(endpoint)
                reflexive.append(endpoint)
        del reflexive[config.total - min(len(hosts), config.hosts_first) :]
        del hosts[max(config.hosts_first, config.total - len(reflexive)) :]
        return (
            *(_make("host", host, n, None) for n, host in enumerate(hosts)),
            *(
                _make("srflx", one, n, _base_of(one, hosts))
                for n, one in enumerate(reflexive)
            ),
        )

    def look_again(self, _: object = None) -> None:
        """The interfaces may be others than a moment ago."""
        self._valid_until = -1.0

    def is_ours(self, endpoint: Endpoint) -> bool:
        """Whether a datagram to this address would come back to our own socket."""
        if endpoint.port != self._local.port:
            return False
        bound = self._local.host
        if not is_wildcard(bound):
            return endpoint.host == bound
        return endpoint.host in [one.host for one in self._known_interfaces()]

    def split_by_link(
        self, endpoints: Sequence[Endpoint]
    ) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:
        """Those in a network of ours, and those beyond."""
        near = tuple(one for one in endpoints if self.is_on_link(one.host))
        return near, tuple(one for one in endpoints if one not in near)

    def is_on_link(self, host: str) -> bool:
        """Whether a peer at this address is in a network that we are in."""
        return is_on_link(self._known_interfaces(), host)

    def _tell(self, *, is_new: bool) -> None:
        if is_new and self.on_added is not None:
            self.on_added()

    def _hosts(self, near: Iterable[str]) -> list[Endpoint]:
        bound, port = self._local
        if not is_wildcard(bound):
            return [self._local]
        ranked = ranked_interfaces(
            (one for one in self._known_interfaces() if reaches(bound, one.host)), near
        )
        outward = [one.host for one in ranked if not is_loopback(one.host)]
        loopback = [one.host for one in ranked][:1] or ["127.0.0.1"]
        usable = (outward or loopback)[: self._config.hosts]
        return [Endpoint(host, port) for host in usable]

    def _known_interfaces(self) -> tuple[InterfaceAddress, ...]:
        now = trio.current_time()
        if now >= self._valid_until:
            self._interfaces = self._network.interface_addresses()
            self._valid_until = now + self._config.interfaces_valid_s
        return self._interfaces


def _renew(known: dict[Endpoint, None], endpoint: Endpoint, limit: int) -> None:
    """Make it the newest; the oldest go."""
    known.pop(endpoint, None)
    known[endpoint] = None
    while len(known) > limit:
        del known[next(iter(known))]


def _base_of(reflexive: Endpoint, hosts: Sequence[Endpoint]) -> Endpoint:
    """The host candidate that a reflexive one belongs to, best of the same family."""
    is_v6 = ":" in reflexive.host
    return next((one for one in hosts if (":" in one.host) == is_v6), hosts[0])


def _make(
    kind: str, endpoint: Endpoint, index: int, base: Endpoint | None
) -> Candidate:
    return Candidate(
        kind=kind,
        endpoint=endpoint,
        priority=candidate_priority(COMPONENT, kind, _LOCAL_PREFERENCE - index),
        foundation=f"{kind[0]}{index}",
        related=base,
    )
