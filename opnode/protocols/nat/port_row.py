"""Where the row of a sequential NAT's ports has got to, by what we sent to whom.

Owns the order in which addresses were sent something for the first time, and what some
of them saw. Refuses to know what was sent, and how ports are told.

Each address that we begin to talk to takes the next port, whether it answers or not:
counted from the latest one that told its port, the row's end is known without asking.
"""

import math
from dataclasses import dataclass

from opnode.core.addresses import Endpoint, is_public


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRowConfig:
    """What is remembered.

    Attributes:
        idle_s: an address that was sent nothing for so long may have lost its port: no
            NAT is known to keep one for less. If it has not, its answer shows that.
        remembered: addresses; 300 B each. More at once is a lookup of the whole DHT.
    """

    idle_s: float = 30.0
    remembered: int = 256


class _Opening:
    """One address that takes a port of its own."""

    __slots__ = ("before", "is_likely", "port")

    def __init__(self, before: int | None, *, is_public: bool) -> None:
        self.before = before
        # Whoever had a port and has not told another one has it still, mostly: its own
        # packets keep it. What goes to private addresses many routers drop. One port
        # too many misses them all, one too few does not.
        self.is_likely = is_public and before is None
        self.port: int | None = None


class PortRow:
    """The row of one NAT."""

    def __init__(self, config: PortRowConfig | None = None) -> None:
        self._config = config or PortRowConfig()
        # In the order in which their ports were given.
        self._openings: dict[Endpoint, _Opening] = {}
        self._ports: dict[Endpoint, int] = {}
        self._known: int | None = None
        self._told_at = -math.inf
        self._sent_at: dict[Endpoint, float] = {}

    def goes_on(self, destination: Endpoint, now: float) -> bool:
        """Something leaves for this address; whether that is no news here."""
        at = self._sent_at.get(destination)
        if at is None or now - at > self._config.idle_s:
            return False
        self._sent_at[destination] = now
        return True

    def sent(self, destination: Endpoint, now: float) -> None:
        """Something leaves for this address, for the first time or after a silence."""
        at = self._sent_at.get(destination, -math.inf)
        self._sent_at[destination] = now
        if now - at <= self._config.idle_s:
            return
        self._openings.pop(destination, None)
        self._openings[destination] = _Opening(
            self._ports.get(destination), is_public=is_public(destination.host)
        )
        while len(self._sent_at) > self._config.remembered:
            self._forget(min(self._sent_at, key=self._sent_at.__getitem__))

    @property
    def told_at(self) -> float:
        """When the row's end was last told, not counted."""
        return self._told_at

    @property
    def is_sure(self) -> bool:
        """Whether all since then have certainly taken a port, or certainly not."""
        for opening in reversed(self._openings.values()):
            if opening.port is not None:
                return True
            if opening.before is not None:
                return False
        return True

    def seen(self, reporter: Endpoint, port: int, now: float) -> None:
        """An address that was sent something tells at which port it sees us."""
        if reporter not in self._sent_at:
            return
        self._ports[reporter] = port
        opening = self._openings.get(reporter)
        if opening is None:
            return
        if opening.port is None and opening.before == port:
            # The NAT still knew it: it has taken no port.
            del self._openings[reporter]
        elif opening.port != port:
            opening.port = port
            self._told_at = now

    def restart(self, port: int, now: float) -> None:
        """This port was given just now, to somebody who is not remembered here."""
        self._openings.clear()
        self._known = port
        self._told_at = now

    def end(self, otherwise: int, step: int) -> int:
        """The port that was given last, as it may be unrolled past 65535.

        Args:
            otherwise: the last one given before anything that is remembered here.
            step: from one port to the next.
        """
        since = 0
        for opening in reversed(self._openings.values()):
            if opening.port is not None:
                return opening.port + step * since
            since += opening.is_likely
        return (otherwise if self._known is None else self._known) + step * since

    def _forget(self, destination: Endpoint) -> None:
        self._sent_at.pop(destination, None)
        self._ports.pop(destination, None)
        self._openings.pop(destination, None)
