"""The region of a key: all ids so near that their nodes are asked, however many.

Owns which ids are inside, and the points of the region whose neighbours are asked for.
Refuses to know how the radius was estimated.
"""

import random
from typing import Final

_ID_BITS: Final = 160


class Region:
    """All ids within ``radius`` of a target, by XOR distance.

    Attributes:
        target: 160 bits.
        radius: distances below it are inside; 0 where no estimate is known.
        crowd_radius: a quarter of it, in which chance puts a quarter of the members.
        points: ids whose neighbours are asked for in turn: the target, then one in the
            farther half of the region, one in the farther half of what is left, and
            so on. Ids ground next to the target are the last that the neighbours of
            these points name, so honest members are named before them.
    """

    __slots__ = ("crowd_radius", "points", "radius", "target")

    def __init__(
        self,
        target: bytes,
        radius: int | None = None,
        *,
        points: int = 4,
        rng: random.Random | None = None,
    ) -> None:
        """Bound a region.

        Args:
            target: 20 bytes.
            radius: None where the size of the network is not known yet.
            points: how many different neighbourhoods to ask for.
            rng: hides from others where the points lie.
        """
        self.target = int.from_bytes(target, "big")
        self.radius = min(radius or 0, 1 << _ID_BITS)
        self.crowd_radius = self.radius >> 2
        self.points = (target, *self._spread(points - 1, rng))

    def _spread(self, count: int, rng: random.Random | None) -> list[bytes]:
        """One point in each ring: the region without the half nearest the target."""
        if self.radius <= 1:
            return []
        highest = (self.radius - 1).bit_length() - 1
        points: list[bytes] = []
        for bit in range(highest, max(-1, highest - count), -1):
            ring = 1 << bit
            span = min(ring, self.radius - ring)
            offset = ring + (rng.randrange(span) if rng is not None else 0)
            points.append((self.target ^ offset).to_bytes(_ID_BITS // 8, "big"))
        return points
