"""When a dead contact is found out: at the first check after its end.

    law = CheckLaw(RoutingConfig(), horizon_s=86_400.0)
    found_at = law.found_at(since, ends, jitter)    # arrays of seconds
    checks = law.checks(spans, jitter)              # asked so often in so long

Owns the schedule of checks that the shipped table has, worked out once for a contact
that always answers: only the check after its end needs to be an event then. Refuses to
know whose contacts they are. That a contact also asks us, and that lookups find some
of the dead sooner, is left out: both make shares of dead contacts smaller, not larger.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from opnode.drivers.dht.config import DhtConfig
from opnode.protocols.routing import RoutingConfig
from opnode.protocols.rpc.transactions import TransactionConfig
from simulations.backends.event.population import Nodes, Seconds

JITTERS: Final = 256
_JITTER_SPAN: Final = 1024
"""Pauses differ by a quarter, as in `protocols.routing.table`."""
MEAN_PACE: Final = 1 + JITTERS / 2 / _JITTER_SPAN
"""By which pauses are longer than the policy's own, on average."""


def confirming_s() -> float:
    """From the moment that a check is due until the contact is dropped, on average.

    It waits for the next round of maintenance, is given up, asked again in the round
    after, and given up again.
    """
    timers = TransactionConfig()
    given_up_s = timers.initial_timeout_s * (2.0 ** (timers.retransmissions + 1) - 1)
    return 1.5 * DhtConfig().tick_s + 2 * given_up_s


class CheckLaw:
    """The checks of contacts, for each of the 256 paces that pairs of nodes have."""

    def __init__(
        self,
        config: RoutingConfig | None = None,
        *,
        horizon_s: float,
        fixed_s: float | None = None,
    ) -> None:
        """Work the schedules out.

        Args:
            config: pauses by age.
            horizon_s: no contact is followed for longer than this.
            fixed_s: the mean pause whatever the age, in place of the shipped ones.
        """
        config = config or RoutingConfig()
        rows = []
        for jitter in range(JITTERS):
            # A fixed pause is that on average, so that policies can be compared.
            middle = 0.0 if fixed_s is None else JITTERS / 2
            pace = 1 + (jitter - middle) / _JITTER_SPAN
            times = [0.0]
            while times[-1] < horizon_s:
                pause_s = config.pause_s(times[-1]) if fixed_s is None else fixed_s
                times.append(times[-1] + pace * pause_s)
            rows.append(times)
        # One search over all schedules: each lies in a stretch of numbers of its own.
        self._stretch = 2 * max(times[-1] for times in rows)
        starts = self._stretch * np.arange(JITTERS)
        self._times: Seconds = np.concatenate(
            [start + np.array(times) for start, times in zip(starts, rows, strict=True)]
        )
        lengths = [len(times) for times in rows]
        self._first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self._confirming_s = confirming_s()

    def found_at(self, since: Seconds, ends: Seconds, jitter: Nodes) -> Seconds:
        """When contacts known since then are dropped that end at these moments.

        All three have one shape; ends no later than the horizon after ``since``, at
        which jitters are below `JITTERS`. One that is dead already when it is met is
        asked at once, before it is given its place for good.
        """
        spans = np.maximum(ends - since, 0.0)
        at = np.searchsorted(self._times, spans + self._stretch * jitter)
        found: Seconds = self._times[at] - self._stretch * jitter
        return since + found + self._confirming_s

    def checks(self, spans: Seconds, jitter: Nodes) -> npt.NDArray[np.int64]:
        """How often a contact is asked that is known for so long."""
        at = np.searchsorted(self._times, spans + self._stretch * jitter, side="right")
        asked: npt.NDArray[np.int64] = np.maximum(at - 1 - self._first[jitter], 0)
        return asked
