"""Addresses that failed lately: lookups ask them last.

Owns how long a failure is remembered. Refuses to know the routing table, which has its
own opinion about its members.
"""

from collections.abc import Iterator

import trio

from opnode.core.addresses import Endpoint


class Suspects:
    """Addresses that were late or silent, until they answer or a minute passed."""

    def __init__(self, *, most: int, remembered_s: float) -> None:
        """Remember at most so many, for so long; the oldest make room."""
        self._most = most
        self._remembered_s = remembered_s
        self._until: dict[Endpoint, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._until)

    def __contains__(self, endpoint: object) -> bool:
        until = self._until.get(endpoint) if isinstance(endpoint, Endpoint) else None
        return until is not None and trio.current_time() < until

    def add(self, endpoint: Endpoint) -> None:
        """It did not answer in time."""
        self._until.pop(endpoint, None)
        self._until[endpoint] = trio.current_time() + self._remembered_s
        if len(self._until) > self._most:
            del self._until[next(iter(self._until))]

    def clear(self, endpoint: Endpoint) -> None:
        """It answered."""
        if self._until:
            self._until.pop(endpoint, None)
