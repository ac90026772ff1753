"""All scenarios by name.

Owns the list. Modules are loaded when their scenario is asked for, so that ``list`` and
``--help`` need not import every engine.
"""

import difflib
import importlib
from typing import Final

from opnode.core.errors import ConfigError
from simulations.scenario import Figures, Scenario

SCENARIOS: Final = {
    # Lookups and routing
    "lookup": "simulations.scenarios.lookup:LookupScenario",
    "hops": "simulations.scenarios.hops.scenario:HopsScenario",
    "size": "simulations.scenarios.size:SizeScenario",
    "fill": "simulations.scenarios.fill:FillScenario",
    "stale": "simulations.scenarios.stale:StaleScenario",
    "churn": "simulations.scenarios.churn.scenario:ChurnScenario",
    # Records
    "survival": "simulations.scenarios.survival:SurvivalScenario",
    "mass-failure": "simulations.scenarios.mass_failure.scenario:MassFailureScenario",
    "partition": "simulations.scenarios.partition:PartitionScenario",
    "flash-crowd": "simulations.scenarios.flash_crowd:FlashCrowdScenario",
    "clock-skew": "simulations.scenarios.clock_skew:ClockSkewScenario",
    # Adversaries
    "liars": "simulations.scenarios.liars:LiarsScenario",
    "disjoint": "simulations.scenarios.disjoint:DisjointScenario",
    "sybil": "simulations.scenarios.sybil.scenario:SybilScenario",
    "crowd": "simulations.scenarios.crowd:CrowdScenario",
    "eclipse": "simulations.scenarios.eclipse:EclipseScenario",
    "flood": "simulations.scenarios.flood:FloodScenario",
    "one-bad-node": "simulations.scenarios.one_bad_node:OneBadNodeScenario",
    # People and NATs
    "nat-timers": "simulations.scenarios.nat_timers:NatTimersScenario",
    "nat-table": "simulations.scenarios.nat_table:NatTableScenario",
    "nat-mix": "simulations.scenarios.nat_mix.scenario:NatMixScenario",
    "moving": "simulations.scenarios.moving:MovingScenario",
    "ratio": "simulations.scenarios.ratio:RatioScenario",
    "volunteers": "simulations.scenarios.volunteers:VolunteersScenario",
    "cascade": "simulations.scenarios.cascade:CascadeScenario",
    "year": "simulations.scenarios.year:YearScenario",
    # Rivals
    "chord": "simulations.scenarios.chord.scenario:ChordScenario",
}
"""In the order of `list`: by subject, as in README.md."""


def load(name: str) -> type[Scenario[Figures]]:
    """The scenario of this name, or one of your own as ``module:Class``.

    The ``name`` of your own is its place too, so that commands, sweeps and traces find
    it again.

    Raises:
        ConfigError: there is none.
    """
    place = name if ":" in name else SCENARIOS.get(name)
    if place is None:
        near = difflib.get_close_matches(name, SCENARIOS, n=1)
        expected = f"{near[0]!r}?" if near else "a name that `list` shows"
        raise ConfigError("scenario", repr(name), expected)
    module, _, attribute = place.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError("scenario", f"{name!r} ({error})", "module:Class") from error
    if not (isinstance(kind, type) and issubclass(kind, Scenario)):
        raise ConfigError("scenario", repr(name), "a class derived from Scenario")
    if kind.name != name:
        raise ConfigError("name of the scenario", repr(kind.name), repr(name))
    return kind
