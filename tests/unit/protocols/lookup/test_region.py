"""`region`: what is inside, and points whose neighbours are spread all over it."""

import random

from opnode.core.ids import distance
from opnode.protocols.lookup.region import Region

TARGET = bytes(range(20))


def test_without_an_estimate_only_the_target_is_asked_for():
    for radius in (None, 0, 1):
        region = Region(TARGET, radius, points=4, rng=random.Random(1))
        assert region.points == (TARGET,)


def test_each_point_lies_in_its_own_ring_of_the_region():
    for seed in range(50):
        rng = random.Random(seed)
        radius = rng.randrange(2**100, 2**160)
        region = Region(TARGET, radius, points=4, rng=rng)
        assert region.points[0] == TARGET
        away = [distance(point, TARGET) for point in region.points[1:]]
        assert [d.bit_length() for d in away] == [
            (radius - 1).bit_length() - ring for ring in range(3)
        ]
        assert all(d < radius for d in away)


def test_others_cannot_tell_the_points_in_advance():
    one = Region(TARGET, 2**150, points=4, rng=random.Random(1))
    two = Region(TARGET, 2**150, points=4, rng=random.Random(2))
    assert not set(one.points[1:]) & set(two.points[1:])


def test_a_region_of_a_few_ids_has_no_more_points_than_ids():
    for radius in range(2, 9):
        region = Region(TARGET, radius, points=20, rng=random.Random(1))
        assert len(set(region.points)) == len(region.points)
        assert all(distance(point, TARGET) < radius for point in region.points)


def test_a_radius_beyond_the_space_is_the_whole_space():
    assert Region(TARGET, 2**170).radius == 2**160
