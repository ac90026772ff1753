"""What a NAT remembers: sessions, mappings, who is let in, and for how long.

Owns the translation of endpoints. Pure: no clock, no datagrams; `opnode.testing.nat`
asks it for each datagram, in the order in which they pass.
"""

import random
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from opnode.core.addresses import Endpoint
from opnode.testing.nat_behaviour import (
    Dependence,
    NatBehaviour,
    Overflow,
    PortAssignment,
)

_FIRST_PORT: Final = 1024
_LAST_PORT: Final = 65_535
_PORTS: Final = _LAST_PORT + 1 - _FIRST_PORT

_MappingKey = tuple[Endpoint, str, int]
_SessionKey = tuple[Endpoint, Endpoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class NatTableStatistics:
    """What the table holds, and what became of the datagrams that it was asked for.

    Attributes:
        sessions: an endpoint inside that talks to one outside.
        mappings: ports taken outside.
        most_sessions: most of them at once so far.
        refused: from inside, because the table or the ports were full.
        dropped: sessions pushed out by newer ones.
        unmapped: from outside, to a port that is nobody's.
        filtered: from outside, from whom nothing was sent to.
    """

    sessions: int
    mappings: int
    most_sessions: int
    refused: int
    dropped: int
    unmapped: int
    filtered: int


@dataclass(slots=True, eq=False)
class _Mapping:
    """One port outside, and whom its owner talks to through it."""

    key: _MappingKey
    inside: Endpoint
    port: int
    remotes: set[Endpoint] = field(default_factory=set)
    hosts: Counter[str] = field(default_factory=Counter)

    def add(self, remote: Endpoint) -> None:
        self.remotes.add(remote)
        self.hosts[remote.host] += 1

    def remove(self, remote: Endpoint) -> None:
        self.remotes.remove(remote)
        self.hosts[remote.host] -= 1
        if not self.hosts[remote.host]:
            del self.hosts[remote.host]

    def lets_in(self, remote: Endpoint, filtering: Dependence) -> bool:
        if filtering is Dependence.ENDPOINT_INDEPENDENT:
            return True
        if filtering is Dependence.ADDRESS_DEPENDENT:
            return remote.host in self.hosts
        return remote in self.remotes


class NatTable:
    """The memory of one NAT.

    Args:
        behaviour: what it does.
        rng: decides random ports, and where a sequence begins.
    """

    def __init__(self, behaviour: NatBehaviour, rng: random.Random) -> None:
        self._behaviour = behaviour
        self._rng = rng
        self._next_port = rng.randrange(_FIRST_PORT, _LAST_PORT + 1)
        self._mappings: dict[_MappingKey, _Mapping] = {}
        self._ports: dict[int, _Mapping] = {}
        # By the time of the last refresh, oldest first.
        self._sessions: OrderedDict[_SessionKey, tuple[_Mapping, float]] = OrderedDict()
        self._most_sessions = 0
        self._refused = self._dropped = self._unmapped = self._filtered = 0

    def outbound(self, inside: Endpoint, remote: Endpoint, now: float) -> int | None:
        """The port outside for a datagram from inside; None when there is none."""
        self._expire(now)
        if (inside, remote) in self._sessions:
            return self._refresh(inside, remote, now).port
        if not self._make_room():
            self._refused += 1
            return None
        mapping = self._mapping_for(inside, remote)
        if mapping is None:
            self._refused += 1
            return None
        self._enter(mapping, remote, now)
        return mapping.port

    def inbound(self, port: int, remote: Endpoint, now: float) -> Endpoint | None:
        """Whom inside a datagram from outside is for; None when it is dropped."""
        self._expire(now)
        mapping = self._ports.get(port)
        if mapping is None:
            self._unmapped += 1
            return None
        if not mapping.lets_in(remote, self._behaviour.filtering):
            self._filtered += 1
            return None
        if self._behaviour.is_refreshed_inbound:
            self._refresh_inbound(mapping, remote, now)
        return mapping.inside

    def forget_all(self) -> None:
        """Lose every mapping, as in a reboot."""
        self._sessions.clear()
        self._mappings.clear()
        self._ports.clear()

    def statistics(self, now: float) -> NatTableStatistics:
        """What is in the table now, and the counters."""
        self._expire(now)
        return NatTableStatistics(
            sessions=len(self._sessions),
            mappings=len(self._mappings),
            most_sessions=self._most_sessions,
            refused=self._refused,
            dropped=self._dropped,
            unmapped=self._unmapped,
            filtered=self._filtered,
        )

    def _refresh(self, inside: Endpoint, remote: Endpoint, now: float) -> _Mapping:
        mapping, _ = self._sessions.pop((inside, remote))
        self._sessions[inside, remote] = (mapping, now)
        return mapping

    def _refresh_inbound(self, mapping: _Mapping, remote: Endpoint, now: float) -> None:
        if (mapping.inside, remote) in self._sessions:
            self._refresh(mapping.inside, remote, now)
        elif self._make_room(keep=mapping):
            self._enter(mapping, remote, now)

    def _enter(self, mapping: _Mapping, remote: Endpoint, now: float) -> None:
        self._sessions[mapping.inside, remote] = (mapping, now)
        mapping.add(remote)
        self._most_sessions = max(self._most_sessions, len(self._sessions))

    def _make_room(self, keep: _Mapping | None = None) -> bool:
        """Whether one more session fits, now or after the oldest one went.

        A mapping to be kept is not ended by the loss of its only session.
        """
        if len(self._sessions) < self._behaviour.max_sessions:
            return True
        if self._behaviour.overflow is Overflow.REFUSE_NEW:
            return False
        key, (mapping, _) = next(iter(self._sessions.items()))
        if mapping is keep and len(mapping.remotes) == 1:
            return False
        self._end(key)
        self._dropped += 1
        return True

    def _mapping_for(self, inside: Endpoint, remote: Endpoint) -> _Mapping | None:
        key = self._key(inside, remote)
        mapping = self._mappings.get(key)
        if mapping is None and len(self._ports) < _PORTS:
            mapping = _Mapping(key, inside, self._assign(inside.port))
            self._mappings[key] = self._ports[mapping.port] = mapping
        return mapping

    def _key(self, inside: Endpoint, remote: Endpoint) -> _MappingKey:
        match self._behaviour.mapping:
            case Dependence.ENDPOINT_INDEPENDENT:
                return (inside, "", 0)
            case Dependence.ADDRESS_DEPENDENT:
                return (inside, remote.host, 0)
            case Dependence.ADDRESS_AND_PORT_DEPENDENT:
                return (inside, remote.host, remote.port)

    def _assign(self, inside_port: int) -> int:
        """A free port; the caller knows that there is one."""
        match self._behaviour.ports:
            case PortAssignment.PRESERVING:
                port = inside_port
            case PortAssignment.RANDOM:
                port = self._rng.randrange(_FIRST_PORT, _LAST_PORT + 1)
            case PortAssignment.SEQUENTIAL:
                port = self._next_port
        while port in self._ports:
            port = _after(port)
        if self._behaviour.ports is PortAssignment.SEQUENTIAL:
            self._next_port = _after(port)
        return port

    def _expire(self, now: float) -> None:
        last_refresh = now - self._behaviour.timeout_s
        while self._sessions:
            key, (_, refreshed_at) = next(iter(self._sessions.items()))
            if refreshed_at > last_refresh:
                return
            self._end(key)

    def _end(self, key: _SessionKey) -> None:
        mapping, _ = self._sessions.pop(key)
        mapping.remove(key[1])
        if not mapping.remotes:
            del self._mappings[mapping.key]
            del self._ports[mapping.port]


def _after(port: int) -> int:
    return port + 1 if _FIRST_PORT <= port < _LAST_PORT else _FIRST_PORT
