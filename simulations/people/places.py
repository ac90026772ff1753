"""Which introducers users hold when each asks the nearest first and each has a cap.

Owns the assignment: the nearest three that agree (rule P-1), others beyond the nearest
when those are full. Refuses to know what serving a user costs.

Simplified: servers lie alone in their networks, so the rule that asks for three
networks never binds; a full server's alternates are servers met by chance, which is how
the shipped ones are chosen (those that answered last).
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opnode.node.presence.introducers import INTRODUCERS, MAX_ASKED
from simulations.model.arrays import Ids, Places
from simulations.model.ids import nearest_places

NOBODY: Final = -1
_NEAR: Final = 8
"""So many of the nearest are ranked; full ones among them are rare."""


class Assignment(NamedTuple):
    """Who introduces whom.

    Attributes:
        held: for each user its introducers, as places; `NOBODY` where there is none.
        registrations: of each server.
        asked: servers that a user asked on average.
        refused: of these, how many had no room.
    """

    held: Places
    registrations: npt.NDArray[np.int64]
    asked: float
    refused: int


def assign(
    servers: Ids,
    users: Ids,
    caps: npt.NDArray[np.int64],
    generator: np.random.Generator,
) -> Assignment:
    """Let each user ask until three agree, or `MAX_ASKED` were asked.

    Args:
        servers: sorted ids.
        users: the keys of their presences.
        caps: registrations that each server takes.
        generator: who comes first, and whom busy servers name.
    """
    near = min(_NEAR, len(servers))
    ranked = nearest_places(servers, users, near)
    wanted = min(INTRODUCERS, len(servers))
    held = np.full((len(users), INTRODUCERS), NOBODY, dtype=np.int64)
    count = np.zeros(len(users), dtype=np.int64)
    registrations = np.zeros(len(servers), dtype=np.int64)
    asked = refused = 0
    rounds = near if len(servers) == near else MAX_ASKED
    for turn in range(rounds):
        waiting = np.flatnonzero(count < wanted)
        if not len(waiting):
            break
        # Who comes first is chance, and another chance in each round.
        waiting = generator.permutation(waiting)
        if turn < near:
            choice = ranked[waiting, turn]
        else:
            choice = generator.integers(0, len(servers), size=len(waiting))
        is_new = (held[waiting] != choice[:, None]).all(axis=1)
        waiting, choice = waiting[is_new], choice[is_new]
        is_taken = _admit(choice, caps - registrations)
        asked += len(waiting)
        refused += int((~is_taken).sum())
        waiting, choice = waiting[is_taken], choice[is_taken]
        held[waiting, count[waiting]] = choice
        count[waiting] += 1
        registrations += np.bincount(choice, minlength=len(servers))
    return Assignment(held, registrations, asked / max(len(users), 1), refused)


def _admit(choice: Places, room: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether there is room for each, the first in order first."""
    order = np.argsort(choice, kind="stable")
    ordered = choice[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    rank = np.arange(len(ordered)) - starts
    is_taken = np.empty(len(choice), dtype=np.bool_)
    is_taken[order] = rank < room[ordered]
    return is_taken
