"""Searches that had their answer and are finished in the background.

Owns how many may wait and how slowly they go. Refuses to know what they look for.
"""

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.search import Search


class Finishing:
    """The background task of one node."""

    def __init__(self, config: DhtConfig, may_ask: Callable[[], bool]) -> None:
        """``may_ask``: whether a question that nobody waits for may be sent now."""
        self._config = config.finishing
        self._deadline_s = config.lookup_deadline_s
        self._may_ask = may_ask
        self._waiting: deque[tuple[Search, Callable[[], Awaitable[None]]]] = deque()
        self._news: trio.Event | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more search would be finished."""
        return self._news is not None and len(self._waiting) < self._config.waiting

    def take(self, search: Search, at_end: Callable[[], Awaitable[None]]) -> None:
        """Finish a search later, then call; ``has_room`` says whether it may come."""
        assert self._news is not None
        self._waiting.append((search, at_end))
        self._news.set()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Finish one search after the other, until cancelled."""
        self._news = trio.Event()
        task_status.started()
        try:
            while True:
                await self._news.wait()
                while self._waiting:
                    await trio.sleep(self._config.delay_s)
                    search, at_end = self._waiting.popleft()
                    await self._finish(search)
                    await at_end()
                self._news = trio.Event()
        finally:
            self._news = None
            for search, _ in self._waiting:
                search.close()
            self._waiting.clear()

    async def _finish(self, search: Search) -> None:
        try:
            with trio.move_on_after(self._deadline_s):
                search.resume()
                while not search.is_done:
                    if self._may_ask():
                        search.step()
                    await trio.sleep(self._config.pace_s)
        finally:
            search.close()
