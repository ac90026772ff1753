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
# So many distances in a row show the direction.
_PROOF: Final = 2


def next_ports(
    newest: int, step: int, probes: Sequence[int | None], count: int
) -> tuple[int, ...]:
    """The ports that the next ``count`` new addresses will see, the likeliest first.

    Args:
        newest: the port that was given last, as far as was known before the probes.
        step: from one port to the next; not 0.
        probes: what addresses saw that we had not talked to lately, in the order in
            which they were asked; None for one that did not answer.
        count: how many are wanted.
    """
    assert step
    told = [port for port in probes if port is not None]
    if len(told) > _PROOF and all(0 < a - b <= _LIMIT for a, b in pairwise(told)):
        # Asked in this very order, and they all fall.
        step = -abs(step)
    step = _usual_step(told, step)
    last = newest
    for place, port in enumerate(probes):
        # An old mapping, which somebody still had, says nothing of the row's end.
        if port is not None and _is_ahead(port, last, step):
            # Whoever was asked later and did not answer took a port all the same.
            silent = sum(later is None for later in probes[place + 1 :])
            last = port + step * silent
    return tuple(_in_range(last + step * (place + 1)) for place in range(count))


def _usual_step(ports: Sequence[int], step: int) -> int:
    """The most usual distance in the direction of ``step``, else ``step`` itself."""
    sign = 1 if step > 0 else -1
    limit = max(_LIMIT, abs(step))
    distances = Counter(
        after - before
        for before, after in pairwise(ports)
        if 0 < sign * (after - before) <= limit
    )
    return distances.most_common(1)[0][0] if distances else step


def _is_ahead(port: int, last: int, step: int) -> bool:
    """Whether a port comes after another one, in the shorter way around."""
    distance = (port - last) % _PORTS if step > 0 else (last - port) % _PORTS
    return 0 < distance < _PORTS // 2


def _in_range(port: int) -> int:
    return FIRST_PORT + (port - FIRST_PORT) % (_PORTS - FIRST_PORT)
