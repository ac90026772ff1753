"""Does a flood of ids push out of a node's table whom it knew, or fill its memory?

Two floods in a row: ids whose addresses are forged, and ids that prove theirs once and
go away. The node keeps up its periodic work; the network around it lives on.
"""

import gc
import sys
import types
from typing import Annotated, ClassVar, Final

import trio

from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.flooding import flood_forged, flood_fresh
from opnode.testing.virtual_network import VirtualNetwork
from simulations.backends.real import DhtScenario
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_SETTLE_S: Final = 1200.0
"""Long enough for every silent contact to be pinged, twice, and dropped."""
_LOST: Final = 0.01
_GROWTH_KB: Final = 8000
"""What full caches of tokens and round trips may take; 80 bytes an id of 10^5."""


class FloodFigures(Figures, frozen=True, kw_only=True):
    """Of the flooded node; sizes are kB of its own objects.

    Attributes:
        established: contacts before; ``lost`` of them were in the table no more, at
            the worst moment looked at.
        intruders: contacts in the table at the end who were not before.
    """

    established: int
    lost: float
    intruders: int
    before_kb: int
    forged_half_kb: int
    forged_kb: int
    fresh_half_kb: int
    fresh_kb: int


class FloodScenario(DhtScenario[FloodFigures], frozen=True, kw_only=True):
    """``ids``: of each of the two floods."""

    name: ClassVar[str] = "flood"
    question: ClassVar[str] = (
        "Does a flood of ids push out whom a node knew, or fill its memory?"
    )
    expected: ClassVar[str] = (
        "No established contact is lost and the memory stays bounded."
    )
    maintained: ClassVar[bool] = True

    ids: Annotated[int, parameter("Ids in each of the two floods", low=2)] = 2000

    async def measure(self, network: DhtNetwork, run: Run) -> FloodFigures:
        """Let the network settle, flood, look; settle again, look again."""
        await trio.sleep(_SETTLE_S)
        victim = network.rng.choice(network.nodes)
        established = {contact.node_id for contact in victim.dht.contacts()}
        sizes = [_size_kb(victim)]
        left = [established]
        for flood in (flood_forged, flood_fresh):
            run.progress(len(sizes) // 2, 2, "floods")
            for _ in range(2):
                await flood(network, victim, self.ids // 2)
                sizes.append(_size_kb(victim))
                left.append({contact.node_id for contact in victim.dht.contacts()})
            await trio.sleep(_SETTLE_S)
            left.append({contact.node_id for contact in victim.dht.contacts()})
        lost = max(len(established - ids) for ids in left) / max(1, len(established))
        before, forged_half, forged, fresh_half, fresh = sizes
        return FloodFigures(
            met=lost <= _LOST and max(sizes) - before <= _GROWTH_KB,
            established=len(established),
            lost=lost,
            intruders=len(left[-1] - established),
            before_kb=before,
            forged_half_kb=forged_half,
            forged_kb=forged,
            fresh_half_kb=fresh_half,
            fresh_kb=fresh,
        )


_NOT_OURS: Final = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    VirtualNetwork,
    trio.CancelScope,
)


def _size_kb(node: DhtNode) -> int:
    """Kilobytes of the objects that a node alone holds on to."""
    seen: set[int] = set()
    waiting: list[object] = [node.rpc, node.dht, node.store]
    size = 0
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, _NOT_OURS):
            continue
        seen.add(id(found))
        size += sys.getsizeof(found)
        waiting += gc.get_referents(found)
    return size // 1000
