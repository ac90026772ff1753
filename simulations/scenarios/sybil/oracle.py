"""A network of any size whose tables are drawn when they are looked at.

Every bucket of a table holds k members of its subtree, or all where there are fewer:
drawn by (seed, node, bucket), so that a node answers twice alike. Attackers are drawn
like everybody, also into the buckets around the attacked key, although the shipped
table would prefer the honest there, which it has known for longer.

Owns who there is and what honest nodes and attackers answer. Refuses to know lookups.
"""

import bisect
import random
from typing import Final

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId

ID_BITS: Final = 160
_PORT: Final = 4000
_HOST_BITS: Final = 24


class Oracle:
    """All nodes, sorted.

    Args:
        nodes: honest ones, at uniform ids.
        k: of a bucket and of an answer.
        seed: decides ids and tables.
    """

    def __init__(self, nodes: int, k: int, seed: int) -> None:
        rng = random.Random(f"{seed} ids")
        self._seed = rng.getrandbits(ID_BITS)
        self._k = k
        self._made = 0
        self._contacts: dict[int, Contact] = {}
        self._gang: dict[int, None] = {}
        self._tables: dict[int, list[int]] = {}
        self.honest = sorted(rng.getrandbits(ID_BITS) for _ in range(nodes))
        self._ids = list(self.honest)

    def plant(self, key: int, count: int, rng: random.Random) -> None:
        """Have attackers nearer to a key than anybody honest would be; others leave."""
        depth = len(self.honest).bit_length() + 2
        prefix = key >> (ID_BITS - depth) << (ID_BITS - depth)
        free = ID_BITS - depth
        self._gang = {prefix | rng.getrandbits(free): None for _ in range(count)}
        self._ids = sorted([*self.honest, *self._gang])
        self._tables.clear()

    def is_attacker(self, node: int) -> bool:
        """Whether a node is one of the gang."""
        return node in self._gang

    def contact(self, node: int) -> Contact:
        """A node as others know it; every host is private, so that no subnet counts."""
        held = self._contacts.get(node)
        if held is None:
            self._made += 1
            assert self._made < 1 << _HOST_BITS
            high, middle, low = self._made.to_bytes(3, "big")
            node_id = NodeId(node.to_bytes(ID_BITS // 8, "big"))
            held = Contact(node_id, Endpoint(f"10.{high}.{middle}.{low}", _PORT))
            self._contacts[node] = held
        return held

    def nearest(self, target: int, count: int) -> list[int]:
        """The exact nearest of all nodes."""
        total, bits = len(self._ids), ID_BITS
        low, high = 0, 0
        while high - low < min(count, total):
            bits -= 1
            low, high = self._range(target, bits)
        near = self._ids[low:high]
        near.sort(key=target.__xor__)
        return near[:count]

    def table(self, node: int) -> list[int]:
        """Whom an honest node knows."""
        known = self._tables.get(node)
        if known is None:
            known = self._tables[node] = self._draw(node)
        return known

    def answer(self, node: int, near: int) -> list[int]:
        """Whom an honest node names, or an attacker who names the gang alone."""
        known = list(self._gang) if self.is_attacker(node) else self.table(node)
        return sorted(known, key=near.__xor__)[: self._k]

    def _draw(self, node: int) -> list[int]:
        known: list[int] = []
        for depth in range(ID_BITS):
            low, high = self._range(node ^ (1 << ID_BITS - 1 - depth), depth + 1)
            if high - low <= self._k:
                known += self._ids[low:high]
            else:
                rng = random.Random(self._seed ^ node ^ depth)
                chosen = rng.sample(range(low, high), self._k)
                known += [self._ids[index] for index in chosen]
            inside = self._range(node, depth + 1)
            if inside[1] - inside[0] <= 1:
                break
        return known

    def _range(self, node: int, bits: int) -> tuple[int, int]:
        """Indices of those who share so many first bits with an id."""
        shift = ID_BITS - bits
        start = node >> shift << shift
        low = bisect.bisect_left(self._ids, start)
        return low, bisect.bisect_left(self._ids, start + (1 << shift), low)
