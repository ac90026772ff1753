"""Which ports a sequential NAT will give to the next addresses that we talk to.

Owns the arithmetic of a row of ports. Refuses to know who was asked and how.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

FIRST_PORT: Final = 1024
"""NATs give no port below it to one that is above it inside (RFC 4787 §4.2.2)."""

_PORTS: Final = 1 << 16
# Ports further apart were not given one after the other.
_LIMIT: Final = 16


def next_ports(
    newest: int, step: int, probes: Sequence[int | None], count: int
) -> tuple[int, ...]:
    """The ports that the next ``count`` new addresses will see, the likeliest first.

    Args:
        newest: the port that was given last, as far as was known before the probes.
        step: from one port to the next, above 0.
        probes: what addresses saw that our NAT had given no port for, in the order in
            which they were asked; None for one that did not answer.
        count: how many are wanted.
    """
    last = newest
    for place, port in enumerate(probes):
        # An old mapping, which somebody still had, says nothing of the row's end.
        if port is not None and 0 < (port - last) % _PORTS < _PORTS // 2:
            # Whoever was asked later and did not answer took a port all the same.
            silent = sum(later is None for later in probes[place + 1 :])
            last = port + step * silent
    return tuple(_in_range(last + step * (place + 1)) for place in range(count))


def usual_step(probes: Sequence[int | None], otherwise: int) -> int:
    """From one port to the next, as neighbours among the probes saw it."""
    steps = Counter(
        after - before
        for before, after in pairwise(probes)
        if before is not None and after is not None and 0 < after - before <= _LIMIT
    )
    return steps.most_common(1)[0][0] if steps else otherwise


def _in_range(port: int) -> int:
    return FIRST_PORT + (port - FIRST_PORT) % (_PORTS - FIRST_PORT)
