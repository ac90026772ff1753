"""Noticing that the node is not where it was: woke from sleep, or in another network.

Owns the look at the clocks and the list of those who want to hear of it. Refuses to
know what they do about it: they register anew, restart ICE, try UDP again.
"""

import enum
import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from opnode.drivers.clock import WallClock
from opnode.drivers.network.network import Network

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
"""How soon after waking a sleep is noticed. An idle node wakes up as often anyway."""

SLEPT_S: Final = 10.0
"""A longer gap in the clocks is a sleep; shorter ones are a busy machine. No mapping of
a NAT is forgotten so soon (RFC 4787 section 4.3; 20 s are the least ever measured)."""


class NetworkChange(enum.Enum):
    """What was noticed.

    Attributes:
        ADDRESSES: an address of this host came or went, or its default route changed.
        RESUMED: the machine, or the process, slept: mappings of NATs and registrations
            may be gone, connections may have ended at the other side.
        SEEN_ELSEWHERE: other nodes see us at another address than before, while ours
            are the same: the NAT in front of us changed its mind.
    """

    ADDRESSES = "addresses"
    RESUMED = "resumed"
    SEEN_ELSEWHERE = "seen elsewhere"


ChangeListener = Callable[[NetworkChange], None]
"""Called at once, within the watch's task: must be quick and must not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWatchStatistics:
    """How often each change was noticed, and the last one with its age in seconds."""

    changes: dict[NetworkChange, int]
    last: NetworkChange | None
    last_age_s: float | None


class NetworkWatch:
    """Tells its subscribers of each `NetworkChange`."""

    def __init__(self, network: Network, wall_clock: WallClock) -> None:
        self._network = network
        self._wall_clock = wall_clock
        self._listeners: list[ChangeListener] = []
        self._counts: Counter[NetworkChange] = Counter()
        self._elsewhere_at = -math.inf
        self._last: tuple[NetworkChange, float] | None = None

    def subscribe(self, listener: ChangeListener) -> None:
        """Have ``listener`` called for each change, after those before it."""
        self._listeners.append(listener)

    def seen_elsewhere(self) -> None:
        """Other nodes agree that our address is another one now.

        Told once in ten seconds: where two addresses take turns, that is no news.
        """
        now = trio.current_time()
        if now >= self._elsewhere_at + SLEPT_S:
            self._elsewhere_at = now
            self._tell(NetworkChange.SEEN_ELSEWHERE)

    def statistics(self) -> NetworkWatchStatistics:
        """Read the counters."""
        last, at = self._last or (None, None)
        return NetworkWatchStatistics(
            changes=dict(self._counts),
            last=last,
            last_age_s=None if at is None else trio.current_time() - at,
        )

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_addresses)
            nursery.start_soon(self._watch_clocks)
            task_status.started()

    async def _watch_addresses(self) -> None:
        known = self._network.interface_addresses()
        while True:
            known = await self._network.wait_changed(known)
            self._tell(NetworkChange.ADDRESSES)

    async def _watch_clocks(self) -> None:
        """Notice a gap: either clock may stand still in a sleep, hardly both.

        Linux and macOS stop the clock that timers use, so the calendar jumps ahead;
        Windows goes on with it, so a timer ends late, as it does for a process that
        was stopped. A calendar that somebody sets ahead costs a registration.
        """
        while True:
            slept_at, calendar = trio.current_time(), self._wall_clock()
            await trio.sleep(LOOK_EVERY_S)
            late_s = trio.current_time() - slept_at - LOOK_EVERY_S
            jump_s = self._wall_clock() - calendar - LOOK_EVERY_S
            if max(late_s, jump_s) > SLEPT_S:
                self._tell(NetworkChange.RESUMED)

    def _tell(self, change: NetworkChange) -> None:
        self._counts[change] += 1
        self._last = change, trio.current_time()
        logger.info("network changed: %s", change.value)
        for listener in self._listeners:
            listener(change)
