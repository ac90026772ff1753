"""Greedy paths: each node hands on to its contact that is nearest to the target.

Owns how many hops that takes. Refuses to know lookups that ask several at once.
"""

import numpy as np

from simulations.backends.vector.tables import Tables
from simulations.model.arrays import Places


def hops_of(tables: Tables, starts: Places, targets: Places) -> Places:
    """How many hops it is from each start to its target, the target's own included.

    Args:
        tables: of the population.
        starts: places of nodes.
        targets: places of nodes: who lives at the id that is looked for.

    Returns:
        One count for each; 0 where a start is its target.
    """
    keys = tables.population.ids[targets]
    here = starts.copy()
    hops = np.zeros(len(starts), dtype=np.int64)
    under_way = np.flatnonzero(here != targets)
    while under_way.size:
        # Never nobody: the target itself is in the range of the bucket.
        here[under_way] = tables.toward(here[under_way], keys[under_way])
        hops[under_way] += 1
        under_way = under_way[here[under_way] != targets[under_way]]
    return hops
