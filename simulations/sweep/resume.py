"""What a directory already has of a sweep.

Owns when a kept result stands for a run. Refuses to know how the rest is run.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from opnode.testing import provenance
from simulations.parameters import AnyScenario, values_of
from simulations.results import Result, run_key, run_key_of
from simulations.runs import Status
from simulations.sweep.code import Code, is_ours

_CHANGED: Final = "+changes"


class Split(NamedTuple):
    """What is there of a sweep and what is not, each in the sweep's order."""

    there: list[Result]
    missing: list[AnyScenario]


def split(
    scenarios: Sequence[AnyScenario], results: Sequence[Result], code: Code
) -> Split:
    """Tell the runs that are there, complete and of this commit, from the others.

    A failed or interrupted run is run again. Where files differ from the commit, or
    there is none, or the scenario is not one of ours, the sources have to be the same.
    """
    commit = provenance.commit()
    exact = not commit or commit.endswith(_CHANGED)
    # No commit of ours tells what is in somebody else's module.
    exact = exact or not all(is_ours(type(one).__module__) for one in scenarios)
    done = {
        run_key(result): result
        for result in results
        if result.status is Status.COMPLETE
        and (not exact or result.versions.get("sources") == code.sources)
    }
    there, missing = [], []
    for scenario in scenarios:
        key = run_key_of(scenario.name, values_of(scenario), commit)
        if key in done:
            there.append(done[key])
        else:
            missing.append(scenario)
    return Split(there, missing)
