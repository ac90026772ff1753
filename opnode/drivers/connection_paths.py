"""The kinds of paths of a connection, and what each kind carried.

Owns what only the driver knows of a path: who passes it on, what it costs, and the
bytes of those that are no more. Refuses to know which path carries data and whether it
works.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint, is_carried
from opnode.protocols.rudp.path import CARRIED_RANK, PathStatistics


class PathKind(enum.Enum):
    """How the datagrams of a connection travel."""

    DIRECT = "direct"
    TURN = "turn"
    RELAY = "relay"
    WEBSOCKET = "websocket"

    @property
    def rank(self) -> int:
        """A lower one is used whenever it works: the others cost somebody money."""
        return _RANKS[self]


_RANKS: Final = {
    PathKind.DIRECT: 0,
    PathKind.TURN: 1,
    PathKind.RELAY: CARRIED_RANK,
    PathKind.WEBSOCKET: CARRIED_RANK,
}


@dataclass(frozen=True, slots=True)
class Path:
    """One way for datagrams between two peers.

    ``via`` is the address of whoever passes them on, None where nobody does.
    """

    kind: PathKind
    endpoint: Endpoint
    via: Endpoint | None = None

    @property
    def leads_by(self) -> Endpoint:
        """An address that means something to people: the relay's, or the peer's."""
        return self.via or self.endpoint


class PathBytes(NamedTuple):
    """What one kind of path carried, in bytes."""

    sent: int
    received: int


NO_BYTES: Final = PathBytes(0, 0)


class KnownPaths:
    """The paths that are not direct, and the tally of those that were removed.

    Most connections have none of either, so both are made on first use.
    """

    __slots__ = ("_past", "_ways")

    def __init__(self) -> None:
        self._ways: dict[Endpoint, Path] | None = None
        self._past: dict[PathKind, PathBytes] | None = None

    def add(self, path: Path) -> None:
        """Remember what a path is, unless it is direct as by default."""
        if path.kind is not PathKind.DIRECT:
            self._ways = self._ways or {}
            self._ways[path.endpoint] = path

    def at(self, endpoint: Endpoint) -> Path:
        """What leads to this address of the peer; what is carried is never direct."""
        known = None if self._ways is None else self._ways.get(endpoint)
        if known is not None:
            return known
        # Its first packets may come before it is said who carries them.
        kind = PathKind.RELAY if is_carried(endpoint.host) else PathKind.DIRECT
        return Path(kind, endpoint)

    def removed(self, endpoint: Endpoint, paths: Iterable[PathStatistics]) -> None:
        """Keep the figures of a path that goes, out of those of all."""
        gone = [path for path in paths if path.endpoint == endpoint]
        self._past = self._sum(gone)
        if self._ways is not None:
            self._ways.pop(endpoint, None)

    def bytes_by_kind(
        self, paths: Iterable[PathStatistics]
    ) -> dict[PathKind, PathBytes]:
        """What each kind carried, given the paths of this moment."""
        return self._sum(paths)

    def _sum(self, paths: Iterable[PathStatistics]) -> dict[PathKind, PathBytes]:
        carried = dict(self._past or {})
        for path in paths:
            kind = self.at(path.endpoint).kind
            sent, received = carried.get(kind, NO_BYTES)
            carried[kind] = PathBytes(
                sent + path.bytes_sent, received + path.bytes_received
            )
        return carried
