"""What of a year works: messages on connections that stand, and new introductions?

Two halves. Connections that stand (`simulations.people.standing`): loss bursts, moves
of either end and of both, NATs that show another port, relays that die, each as often
as the options say; a probe is a message at a random moment, and fails when its
connection ends. New introductions (`simulations.people.rolling`): servers and users
come and go, a tenth of the servers dies within a minute of each hour, routers restart;
a probe is a call of a random user by a stranger, tried up to three times, and a try
succeeds when the presence is found and one of the introducers that it names lives and
gets through.

Parameters measured on the real code: gaps of moves and relays (the commands are in
`standing`), the interval of keep-alives (the shipped search, run for each NAT timer),
periods and counts (the shipped constants). All simplifications are told in the two
modules; theory/year.md derives what to expect.
"""

from typing import Annotated, ClassVar, Final

import numpy as np

from opnode.core.errors import ConfigError
from simulations.model.durations import DAY_S, HOUR_S
from simulations.people.limits import Share, share_of
from simulations.people.rolling import TRIES, TRY_S, Called, Churn, Rolling
from simulations.people.standing import (
    Standing,
    Weather,
    stand,
)
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

_FIRST_TRY: Final = 0.999
_THREE_TRIES: Final = 0.99999
_SLICES: Final = 50


class YearFigures(Figures, frozen=True, kw_only=True):
    """``established``: messages; ``first_try`` and ``three_tries``: calls.

    ``wait_s_*``: of messages, for the end of a silence. ``connections_ended``: of those
    that stand. ``replaced``: introducers, in ``server_deaths``.
    """

    established: Share
    wait_s_p9999: float
    wait_s_max: float
    silences: int
    moves_of_both: int
    connections_ended: int
    first_try: Share
    three_tries: Share
    server_deaths: int
    replaced: int


class YearScenario(Scenario[YearFigures], frozen=True, kw_only=True):
    """``probes`` of each kind, spread over ``days``."""

    name: ClassVar[str] = "year"
    question: ClassVar[str] = (
        "What of a year works: messages on connections that stand, new introductions?"
    )
    expected: ClassVar[str] = (
        "No message is lost, as connections need no server; of new introductions less "
        "than one in 10^5 fails at the first try, as three introducers die at once "
        "before a turn of keep-alives only when chance or an operator kills them."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.EVENT,)

    backend: Backend = Backend.EVENT
    days: Annotated[float, parameter("How long", unit="d", low=0.1, high=3650)] = 365.0
    probes: Annotated[int, parameter("Of each kind", low=1, high=10**8)] = 300_000
    servers: Annotated[int, parameter("At any time", low=10, high=10**6)] = 100
    users: Annotated[int, parameter("At any time", low=1, high=10**6)] = 100
    connections: Annotated[
        int, parameter("That stand all the time", low=1, high=100_000)
    ] = 100
    server_median_h: Annotated[
        float,
        parameter(
            "Session of a server",
            unit="h",
            low=0.01,
            high=8760,
            drawn="median of a Weibull",
        ),
    ] = 1.0
    user_median_min: Annotated[
        float,
        parameter(
            "Session of a user",
            unit="min",
            low=1,
            high=525_600,
            drawn="median of a Weibull",
        ),
    ] = 10.0
    roll_every_h: Annotated[
        float,
        parameter(
            "So often some servers die within a minute", unit="h", low=0, high=8760
        ),
    ] = 1.0
    roll_share: Annotated[
        float, parameter("Of the servers, each time", unit="share", low=0, high=0.9)
    ] = 0.1
    rebindings_per_day: Annotated[
        float,
        parameter(
            "A NAT forgets all and tells nobody",
            unit="1/d",
            low=0,
            high=86_400,
            drawn="Poisson",
        ),
    ] = 0.03
    moves_per_day: Annotated[
        float,
        parameter(
            "Of each end of a connection",
            unit="1/d",
            low=0,
            high=86_400,
            drawn="Poisson",
        ),
    ] = 10.0
    bursts_per_day: Annotated[
        float,
        parameter(
            "Nothing passes for a while",
            unit="1/d",
            low=0,
            high=86_400,
            drawn="Poisson",
        ),
    ] = 24.0
    burst_median_s: Annotated[
        float,
        parameter(
            "Of such a while", unit="s", low=0, high=3600, drawn="log-normal, sigma 1"
        ),
    ] = 1.0
    relayed: Annotated[
        float, parameter("Connections by relay", unit="share", low=0, high=1)
    ] = 0.1

    def check(self) -> None:
        """See `Scenario.check`."""
        if self.probes > self.days * DAY_S:
            limit = f"at most one a second: {self.days * DAY_S:.0f}"
            raise ConfigError("--probes", str(self.probes), limit)
        if self.days * DAY_S <= TRIES * TRY_S:
            raise ConfigError("--days", str(self.days), "longer than three tries")

    def perform(self, run: Run) -> Measured[YearFigures]:
        """See `Scenario.perform`."""
        rolling = Rolling(self._churn(), run)
        called = self._run_rolling(rolling, run)
        first = share_of(called.tried, called.failed_first)
        standing = self._stand(first, run)
        run.fold(rolling.loop.digest())
        run.fold(standing.waits_s.tobytes())
        figures = self._figures(called, standing)
        events = rolling.loop.count + standing.gaps + self.probes
        return Measured(figures, events, self.days * DAY_S)

    def _run_rolling(self, rolling: Rolling, run: Run) -> Called:
        until_s = self.days * DAY_S
        rolling.begin(until_s, self.probes)
        called = rolling.called()
        for part in range(1, _SLICES + 1):
            rolling.loop.run_until(until_s * part / _SLICES)
            called = rolling.called()
            run.row("calls", day=self.days * part / _SLICES, **called._asdict())
            run.progress(part * self.days / _SLICES, self.days, "days")
        return called

    def _stand(self, first: Share, run: Run) -> Standing:
        weather = Weather(
            days=self.days,
            bursts=self.bursts_per_day,
            burst_median_s=self.burst_median_s,
            burst_sigma=1.0,
            moves=self.moves_per_day,
            rebindings=self.rebindings_per_day,
            relayed=self.relayed,
            relay_deaths=DAY_S / HOUR_S / self.server_median_h,
            lost_introducers=first.failure_limit,
        )
        return stand(self.connections, self.probes, weather, run.generator)

    def _churn(self) -> Churn:
        return Churn(
            servers=self.servers,
            users=self.users,
            server_median_s=self.server_median_h * HOUR_S,
            user_median_s=self.user_median_min * 60.0,
            roll_every_s=self.roll_every_h * HOUR_S,
            roll_share=self.roll_share,
            rebindings=self.rebindings_per_day,
        )

    def _figures(self, called: Called, standing: Standing) -> YearFigures:
        waits = standing.waits_s
        first = share_of(called.tried, called.failed_first)
        three = share_of(called.tried, called.failed_all)
        return YearFigures(
            met=standing.failed == 0
            and first.success >= _FIRST_TRY
            and three.success >= _THREE_TRIES,
            established=share_of(len(waits), standing.failed),
            wait_s_p9999=float(np.quantile(waits, 0.9999)),
            wait_s_max=float(waits.max()),
            silences=standing.gaps,
            moves_of_both=standing.met_both,
            connections_ended=standing.ended,
            first_try=first,
            three_tries=three,
            server_deaths=called.deaths,
            replaced=called.replaced,
        )
