"""Contacts that fell silent, and which of them is asked once more.

Owns how many are remembered and for how long. Refuses to know how they are asked. Where
a network was cut in two for hours, nobody on one side has anybody of the other in the
table any more: those who were lost then are the only way back.
"""

import random

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact
from opnode.drivers.dht.config import DhtConfig
from opnode.protocols.routing import TableEntry


class Lost:
    """Contacts that left the routing table because they did not answer."""

    def __init__(self, config: DhtConfig, rng: random.Random, now: float) -> None:
        self._config = config
        self._rng = rng
        self._entries: dict[Endpoint, TableEntry] = {}
        self._ask_at = now + config.lost_check_s

    def add(self, entry: TableEntry) -> None:
        """Remember one; beyond the limit whoever was known for the shortest time goes.

        Those known for long come back most likely, and the many who leave after minutes
        do not push out whom a cut took away.
        """
        endpoint = entry.contact.endpoint
        self._entries.pop(endpoint, None)
        self._entries[endpoint] = entry
        if len(self._entries) > self._config.max_lost:
            del self._entries[min(self._entries, key=self._known_for_s)]

    def found(self, endpoint: Endpoint) -> None:
        """Whoever is there answers again."""
        self._entries.pop(endpoint, None)

    def entries(self) -> list[TableEntry]:
        """All of them, the last first."""
        return list(reversed(self._entries.values()))

    def due(self, now: float) -> Contact | None:
        """Somebody to ask once more, now and then; None if it is not yet time."""
        if now < self._ask_at:
            return None
        pause_s = self._config.lost_check_s
        self._ask_at = now + pause_s
        oldest = now - self._config.lost_kept_s
        for endpoint, entry in list(self._entries.items()):
            if entry.heard_at < oldest:
                del self._entries[endpoint]
        if not self._entries:
            return None
        # Those who lost each other at one moment need not ask at one moment.
        self._ask_at = now + pause_s * self._rng.uniform(0.75, 1.25)
        return self._rng.choice(list(self._entries.values())).contact

    def _known_for_s(self, endpoint: Endpoint) -> float:
        entry = self._entries[endpoint]
        return entry.heard_at - entry.known_at
