"""What do dead contacts in the tables cost a lookup, a naive one and the shipped one?

All tables are full, and a share of all nodes is gone without a word. Lookups of random
ids by random living nodes run one by one. The naive lookup is the one of textbooks:
a fixed alpha, and two seconds for everybody. The shipped one is the machine that nodes
run, with their adaptive timers, and ends either when the closest nodes are known, as
for a put, or at the first that has what is looked for.
"""

import math
from typing import Annotated, ClassVar, Final, NamedTuple

import numpy as np

from simulations.backends.event.lookups import (
    Found,
    Memory,
    NaiveConfig,
    NaiveLookup,
    ShippedLookup,
)
from simulations.backends.event.loop import EventLoop
from simulations.backends.event.network import Network
from simulations.backends.event.population import Nodes, Population
from simulations.backends.event.tables import Living, Tables, depths_for
from simulations.model.ids import ID_BITS
from simulations.model.round_trips import LogNormalRoundTrips
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

_K: Final = 20
_TOLERANCE: Final = 0.1
_GAIN: Final = 10.0
_SHARES: Final = (0.0, 0.1, 0.3, 0.5)
_WARM: Final = 20
"""Round trips that an asker has seen before, as after minutes of its life."""
_TABLE_NODES: Final = 100_000


class Expected(NamedTuple):
    """One cell of the table that a naive lookup must reproduce.

    Attributes:
        median_s, p95_s: of what lookups take.
        messages: requests of a lookup.
    """

    median_s: float
    p95_s: float
    messages: float


NAIVE: Final = {
    (20, 1, 0.0): Expected(2.4, 2.9, 21),
    (20, 1, 0.1): Expected(6.5, 13.1, 24),
    (20, 1, 0.3): Expected(20.5, 36.7, 32),
    (20, 1, 0.5): Expected(47.6, 78.7, 47),
    (20, 3, 0.0): Expected(0.98, 1.2, 24),
    (20, 3, 0.1): Expected(3.1, 6.5, 27),
    (20, 3, 0.3): Expected(8.8, 14.9, 34),
    (20, 3, 0.5): Expected(18.0, 29.0, 48),
    (20, 10, 0.0): Expected(0.50, 0.68, 35),
    (20, 10, 0.1): Expected(2.4, 4.5, 37),
    (20, 10, 0.3): Expected(6.1, 10.1, 42),
    (20, 10, 0.5): Expected(10.3, 16.6, 56),
    (8, 3, 0.0): Expected(0.59, 0.77, 15),
    (8, 3, 0.1): Expected(2.3, 4.4, 15),
    (8, 3, 0.3): Expected(4.8, 10.3, 18),
}
"""By k, alpha and share of dead nodes; N = 100 000, round trips log-normal with median
100 ms and sigma 0.5, 300 lookups."""


class StaleFigures(Figures, frozen=True, kw_only=True):
    """All of k = 20 where 30 % are dead, naive ones with alpha = 3, unless it says so.

    Attributes:
        median_error_max: of the naive medians against the table, all cells; 0 where the
            size is another than the table's. A median is anything that another sample
            may have for one: timeouts come in twos, so it jumps.
        median_raw_error_max: the same with the medians as they are.
        p95_error_max, messages_error_max: the same of p95 and of requests.
        naive_s_median: until a naive lookup knows the k closest.
        naive_first_s_median: until the first of them answered it.
        shipped_s_median, shipped_s_p95: until a shipped one knows them.
        shipped_first_s_median, shipped_first_s_p95: until one that looks for a record
            heard of the first.
        shipped_messages_mean: requests of those that look for all.
        gain, first_gain: the naive median, of all, by either.
        exact: of the truly closest, how many the shipped lookups ended with.
    """

    median_error_max: float
    median_raw_error_max: float
    p95_error_max: float
    messages_error_max: float
    naive_s_median: float
    naive_first_s_median: float
    shipped_s_median: float
    shipped_s_p95: float
    shipped_first_s_median: float
    shipped_first_s_p95: float
    shipped_messages_mean: float
    gain: float
    first_gain: float
    exact: float


class StaleScenario(Scenario[StaleFigures], frozen=True, kw_only=True):
    """Lookups among the dead; series ``rows``: a line for each k, alpha and share."""

    name: ClassVar[str] = "stale"
    question: ClassVar[str] = "What do dead contacts in the tables cost a lookup?"
    expected: ClassVar[str] = (
        "Naive: timeouts, not hops, are the latency, 8.8 s at 30 % dead. The shipped"
        " lookup should take a tenth of that, but waits for those who step in for the"
        " dead: it takes a sixth, so the bar is missed."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.EVENT,)

    backend: Backend = Backend.EVENT
    nodes: Annotated[
        int, parameter("Nodes, dead ones too", low=100, high=1_000_000)
    ] = _TABLE_NODES
    lookups: Annotated[int, parameter("Lookups of a row", low=10, high=100_000)] = 300
    rtt_ms: Annotated[
        float,
        parameter(
            "Median round trip",
            unit="ms",
            low=1,
            high=2000,
            drawn="log-normal, sigma 0.5",
        ),
    ] = 100.0

    def perform(self, run: Run) -> Measured[StaleFigures]:
        """Run all rows, least dead first."""
        rows: dict[tuple[int, str, float], _Row] = {}
        events, virtual_s = 0, 0.0
        total = len(NAIVE) + 2 * len(_SHARES)
        for k in (_K, 8):
            world = _World(self, run, k)
            for share in _SHARES:
                world.kill(share)
                for kind in world.kinds(share):
                    row = rows[k, kind, share] = world.row(kind)
                    run.row("rows", k=k, kind=kind, stale=share, **row._asdict())
                    run.progress(len(rows), total, "rows")
            events += world.loop.count
            virtual_s += world.loop.now
            run.fold(world.loop.digest())
        return Measured(self._judge(rows), events, virtual_s)

    def _judge(self, rows: "dict[tuple[int, str, float], _Row]") -> StaleFigures:
        worst = _worst_errors(rows)
        is_other = self.nodes != _TABLE_NODES
        if is_other:
            worst = Expected(0.0, 0.0, 0.0)
        naive = rows[_K, "naive 3", 0.3]
        closest, first = rows[_K, "shipped", 0.3], rows[_K, "shipped first", 0.3]
        gain = naive.median_s / closest.median_s
        return StaleFigures(
            met=max(worst.median_s, worst.messages) <= _TOLERANCE and gain >= _GAIN,
            median_error_max=worst.median_s,
            median_raw_error_max=0.0 if is_other else _worst_raw(rows),
            p95_error_max=worst.p95_s,
            messages_error_max=worst.messages,
            naive_s_median=naive.median_s,
            naive_first_s_median=naive.first_s_median,
            shipped_s_median=closest.median_s,
            shipped_s_p95=closest.p95_s,
            shipped_first_s_median=first.median_s,
            shipped_first_s_p95=first.p95_s,
            shipped_messages_mean=closest.messages,
            gain=gain,
            first_gain=naive.median_s / first.median_s,
            exact=closest.exact,
        )


class _Row(NamedTuple):
    """What the lookups of one row took.

    Attributes:
        median_low_s, median_high_s: between them lies the median of 95 % of samples.
        exact: of the truly closest nodes, how many were found.
    """

    median_s: float
    median_low_s: float
    median_high_s: float
    p95_s: float
    messages: float
    first_s_median: float
    exact: float


class _World:
    """Full tables over nodes of which more and more are dead."""

    def __init__(self, scenario: StaleScenario, run: Run, k: int) -> None:
        self.loop = EventLoop(run.watch)
        self._scenario = scenario
        self._run = run
        self._k = k
        generator, count = run.generator, scenario.nodes
        self._people = Population.steady(count, generator)
        self._tables = Tables(self._people, generator, depths=depths_for(count), k=k)
        living = Living(self._people, 0.0)
        for nodes in np.array_split(np.arange(count), max(1, count // 8192)):
            self._tables.seat(nodes)
            self._tables.fill(nodes, 0.0, living)
        law = LogNormalRoundTrips(median_s=scenario.rtt_ms / 1000)
        self._network = Network(self.loop, self._people, law, generator)
        self._order: Nodes = generator.permutation(count)
        self._living = living
        self._pairs: list[tuple[int, int]] = []

    def kill(self, share: float) -> None:
        """Have this share dead, those of smaller shares among them; draw who asks."""
        count = self._scenario.nodes
        now = self.loop.now
        for node in self._order[: int(share * count)].tolist():
            if self._people.is_alive(node, now):
                self._people.end(node, now)
        self._living = Living(self._people, now)
        rng, alive = self._run.rng, self._living.nodes.tolist()
        self._pairs = [
            (alive[rng.randrange(len(alive))], rng.getrandbits(ID_BITS))
            for _ in range(self._scenario.lookups)
        ]

    def kinds(self, share: float) -> list[str]:
        """The rows of this share of dead nodes."""
        alphas = [a for k, a, s in NAIVE if (k, s) == (self._k, share)]
        kinds = [f"naive {alpha}" for alpha in alphas]
        return [*kinds, "shipped", "shipped first"] if self._k == _K else kinds

    def row(self, kind: str) -> _Row:
        """Run the lookups of one row, one by one."""
        found: list[Found] = []
        exact = 0
        for asker, target in self._pairs:
            closest = self._living.closest(target, self._k + 1)
            # Nobody names an asker to itself.
            holders = [node for node in closest if node != asker][: self._k]
            self._start(kind, asker, target, holders, found)
            self.loop.run()
            exact += len(set(holders) & set(found[-1].closest))
        took = np.array([one.took_s for one in found])
        # Two standard deviations of the rank that the true median has (binomial).
        reach = 1 / math.sqrt(len(found))
        return _Row(
            median_s=float(np.median(took)),
            median_low_s=float(np.quantile(took, max(0.0, 0.5 - reach))),
            median_high_s=float(np.quantile(took, min(1.0, 0.5 + reach))),
            p95_s=float(np.quantile(took, 0.95)),
            messages=float(np.mean([one.asked for one in found])),
            first_s_median=float(np.median([one.first_s for one in found])),
            exact=exact / (self._k * len(found)),
        )

    def _start(
        self, kind: str, asker: int, target: int, holders: list[int], to: list[Found]
    ) -> None:
        lookup: NaiveLookup | ShippedLookup
        which, _, rest = kind.partition(" ")
        if which == "naive":
            config = NaiveConfig(k=self._k, alpha=int(rest))
            lookup = NaiveLookup(
                self._network, self._tables, asker, target, to.append, config
            )
        else:
            memory = Memory(len(self._living.nodes))
            for _ in range(_WARM):
                memory.round_trips.add(self._network.draw_s())
            lookup = ShippedLookup(
                self._network, self._tables, asker, target, to.append, memory
            )
            lookup.ends_at_first = rest == "first"
        lookup.holders = holders
        lookup.start()


def _worst_errors(rows: dict[tuple[int, str, float], _Row]) -> Expected:
    """How far the naive rows are from the table, at most and relatively."""
    errors = [
        (
            _off(cell.median_s, row.median_low_s, row.median_high_s),
            abs(row.p95_s / cell.p95_s - 1),
            abs(row.messages / cell.messages - 1),
        )
        for (k, alpha, share), cell in NAIVE.items()
        for row in [rows[k, f"naive {alpha}", share]]
    ]
    return Expected(*(max(column) for column in zip(*errors, strict=True)))


def _worst_raw(rows: dict[tuple[int, str, float], _Row]) -> float:
    return max(
        abs(rows[k, f"naive {alpha}", share].median_s / cell.median_s - 1)
        for (k, alpha, share), cell in NAIVE.items()
    )


def _off(expected: float, low: float, high: float) -> float:
    """How far an interval is from a value, relatively; 0 where it is inside."""
    return max(0.0, low / expected - 1, 1 - high / expected)
