"""How many calls succeed, and how many directly, behind which mix of NATs?

On `vector` pairs are drawn from the mix and judged by the law of which NATs find each
other, with the chances that `real` measured for each pair of kinds; on `real` whole
nodes behind such NATs call each other, with one relay among the servers. The default
mix is that of the ancestors' comparison (40 % port-restricted, 30 % full cone, 15 %
symmetric, 15 % open). libp2p's hole punching (DCUtR) became direct in 70 ± 7.1 % of 4.4
million attempts in the field: ``direct_behind_nat`` is to be held against it, as there
both ends could not be reached.

Simplified: a NAT behaves as its kind says, one NAT in front of everybody (no carrier's
behind a home's), and UDP blocked means that only a relay by WebSocket helps.
"""

import random
from typing import Annotated, ClassVar, Final

import msgspec
import numpy as np

from opnode.core.errors import ConfigError
from opnode.node.config import NodeConfig
from opnode.protocols.relay import RelayConfig
from opnode.testing.overlay import Overlay
from opnode.testing.virtual_network import Link
from simulations.backends.real import OverlayScenario
from simulations.quantiles import quantile
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, parameter
from simulations.scenarios.nat_mix.calls import Crowd
from simulations.scenarios.nat_mix.law import KINDS, chance_of_direct

_SUCCESS: Final = 0.999
_SUCCESS_ALONE: Final = 0.97
"""Without a relay, of the calls that have a direct path in principle."""
_REACHABLE: Final = frozenset({"open", "full"})
"""Kinds that a stranger reaches: nobody would punch a hole for them."""


class PairFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Calls from one kind to another."""

    tried: int
    direct: int
    relayed: int


class NatMixFigures(Figures, frozen=True, kw_only=True):
    """Shares of all calls; ``pairs`` by "caller callee".

    Attributes:
        success: calls that got some path.
        direct: calls that got a direct one, at last; ``relayed``: only by a relay.
        hopeless: calls between NATs that allow no direct path.
        direct_behind_nat: direct ones of those whose ends both let no stranger in.
        s_median: until the first path, of those that succeeded; 0 on `vector`.
    """

    calls: int
    success: float
    direct: float
    relayed: float
    hopeless: float
    direct_behind_nat: float
    s_median: float
    s_p99: float
    pairs: dict[str, PairFigures]


class NatMixScenario(OverlayScenario[NatMixFigures], frozen=True, kw_only=True):
    """Shares are weights: they need not sum up to one."""

    name: ClassVar[str] = "nat-mix"
    question: ClassVar[str] = (
        "How many calls succeed, and how many directly, behind which mix of NATs?"
    )
    expected: ClassVar[str] = (
        "All succeed with a relay; direct are all but those of a random symmetric NAT"
        " with another or with a port-restricted one: 1 - s (s + 2 p)."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.VECTOR, Backend.REAL)
    link: ClassVar[Link] = Link(latency_s=(0.0, 0.005), distance_s=(0.01, 0.07))

    backend: Backend = Backend.VECTOR
    open: Annotated[
        float, parameter("Share without a NAT", unit="weight", low=0, high=1000)
    ] = 0.15
    full: Annotated[
        float, parameter("Share behind full cones", unit="weight", low=0, high=1000)
    ] = 0.30
    addr: Annotated[
        float,
        parameter("Share behind address-restricted", unit="weight", low=0, high=1000),
    ] = 0.0
    port: Annotated[
        float,
        parameter("Share behind port-restricted", unit="weight", low=0, high=1000),
    ] = 0.40
    sym: Annotated[
        float, parameter("Share behind symmetric", unit="weight", low=0, high=1000)
    ] = 0.15
    seq: Annotated[
        float,
        parameter(
            "Share behind symmetric with ports in a row",
            unit="weight",
            low=0,
            high=1000,
        ),
    ] = 0.0
    block: Annotated[
        float, parameter("Share without UDP", unit="weight", low=0, high=1000)
    ] = 0.0
    no_relay: Annotated[bool, parameter("Nobody passes packets on")] = False
    servers: Annotated[int, parameter("Servers, on real", low=3, high=1000)] = 12
    users: Annotated[int, parameter("Users, on real", low=2, high=1000)] = 40
    calls: Annotated[
        int, parameter("Calls; pairs drawn on vector", low=1, high=100_000_000)
    ] = 200

    def check(self) -> None:
        """See `Scenario.check`."""
        if not sum(self._weights().values()):
            raise ConfigError("mix", "every share is 0", "at least one above 0")
        if self.backend is Backend.REAL and self.block:
            raise ConfigError(
                "block", f"{self.block:g}", "0 on `real`: use the NAT lab"
            )

    def perform(self, run: Run) -> Measured[NatMixFigures]:
        """See `Scenario.perform`."""
        if self.backend is Backend.REAL:
            # Named, as classes made anew for their slots have no way up of their own.
            return OverlayScenario.perform(self, run)
        return Measured(self._draw(run), self.calls, 0.0)

    def server_config(self) -> NodeConfig:
        """See `OverlayScenario.server_config`: all of them relay, or none."""
        return NodeConfig(relay=None if self.no_relay else RelayConfig())

    async def measure(self, overlay: Overlay, run: Run) -> NatMixFigures:
        """Open the users, let them call, look at their paths."""
        crowd = Crowd(overlay, run)
        await crowd.open(self._kinds(run.rng))
        calls = await crowd.call(self.calls)
        counts: dict[tuple[str, str], list[int]] = {}
        for call in calls:
            count = counts.setdefault((call.caller, call.callee), [0, 0, 0])
            count[0] += 1
            count[1] += call.path == "direct"
            count[2] += call.path not in ("", "direct")
        return self._figures(counts, [call.seconds for call in calls if call.path])

    def _weights(self) -> dict[str, float]:
        return {kind: getattr(self, kind) for kind in KINDS}

    def _kinds(self, rng: random.Random) -> list[str]:
        """What each user is behind: the shares as exactly as whole users allow."""
        weights = self._weights()
        total = sum(weights.values())
        exact = {kind: self.users * share / total for kind, share in weights.items()}
        kinds = [kind for kind, many in exact.items() for _ in range(int(many))]
        rest = sorted(exact, key=lambda kind: int(exact[kind]) - exact[kind])
        kinds += rest[: self.users - len(kinds)]
        rng.shuffle(kinds)
        return kinds

    def _draw(self, run: Run) -> NatMixFigures:
        """Judge so many random pairs, by how many each pair of kinds gets."""
        weights = self._weights()
        total = sum(weights.values())
        pairs = [(one, other) for one in KINDS for other in KINDS]
        shares = [weights[one] * weights[other] / total**2 for one, other in pairs]
        tried = run.generator.multinomial(self.calls, shares)
        chances = np.array([chance_of_direct(*pair) for pair in pairs])
        direct = run.generator.binomial(tried, chances)
        run.fold(tried.tobytes())
        run.fold(direct.tobytes())
        counts = {
            pair: [int(many), int(good), 0 if self.no_relay else int(many - good)]
            for pair, many, good in zip(pairs, tried, direct, strict=True)
            if many
        }
        return self._figures(counts, [])

    def _figures(
        self, counts: dict[tuple[str, str], list[int]], seconds: list[float]
    ) -> NatMixFigures:
        calls = sum(tried for tried, _, _ in counts.values())
        direct = sum(good for _, good, _ in counts.values())
        relayed = sum(helped for _, _, helped in counts.values())
        hopeless = sum(
            tried
            for pair, (tried, _, _) in counts.items()
            if not chance_of_direct(*pair)
        )
        filtered = [
            count for pair, count in counts.items() if not _REACHABLE.intersection(pair)
        ]
        success = (direct + relayed) / calls
        least = _SUCCESS
        if self.no_relay:
            least = _SUCCESS_ALONE * (1 - hopeless / calls)
        return NatMixFigures(
            met=success >= least,
            calls=calls,
            success=success,
            direct=direct / calls,
            relayed=relayed / calls,
            hopeless=hopeless / calls,
            direct_behind_nat=sum(good for _, good, _ in filtered)
            / max(1, sum(tried for tried, _, _ in filtered)),
            s_median=quantile(seconds, 0.5),
            s_p99=quantile(seconds, 0.99),
            pairs={
                f"{one} {other}": PairFigures(tried=tried, direct=good, relayed=helped)
                for (one, other), (tried, good, helped) in sorted(counts.items())
            },
        )
