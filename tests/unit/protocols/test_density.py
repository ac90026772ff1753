"""`density`: the size of a network from a few lookups, and crowds next to a key."""

import random
import statistics

import pytest

from opnode.protocols.density import Density, DensityConfig

SPACE = 2**160
K = 20


def closest(rng, size, target=bytes(20), count=K):
    """The ids nearest to a target in a network of so many: a Poisson process."""
    wish = int.from_bytes(target, "big")
    away, ids = 0.0, []
    for _ in range(count):
        away += rng.expovariate(1.0) / size
        ids.append((min(int(away * SPACE), SPACE - 1) ^ wish).to_bytes(20, "big"))
    return ids


def taught(rng, size, lookups):
    density = Density()
    for _ in range(lookups):
        target = rng.randbytes(20)
        density.add(target, closest(rng, size, target))
    return density


def test_two_million_nodes_are_estimated_like_the_published_estimator_does():
    rng = random.Random(1)
    sizes = [taught(rng, 2_000_000, 16).size for _ in range(500)]
    mean = statistics.fmean(sizes)
    assert 2_100_000 <= mean <= 2_150_000
    assert statistics.stdev(sizes) / mean <= 0.07


def test_a_closest_set_drawn_from_real_ids_gives_the_size_of_their_network():
    rng = random.Random(2)
    ids = [rng.randbytes(20) for _ in range(3000)]
    density = Density()
    for _ in range(32):
        target = rng.randbytes(20)
        wish = int.from_bytes(target, "big")
        ids.sort(key=lambda i: int.from_bytes(i, "big") ^ wish)
        density.add(target, ids[:K])
    assert density.size == pytest.approx(3000, rel=0.15)


@pytest.mark.parametrize("count", [20, 40])
def test_the_radius_holds_as_many_nodes_as_it_is_for(count):
    rng = random.Random(3)
    held = []
    for _ in range(300):
        radius = taught(rng, 50_000, 16).radius(count)
        away = (int.from_bytes(i, "big") for i in closest(rng, 50_000, count=120))
        held.append(sum(distance <= radius for distance in away))
    assert statistics.fmean(held) == pytest.approx(count, rel=0.03)


@pytest.mark.parametrize("sybils", [20, 40, 80])
def test_ids_ground_next_to_a_key_raise_the_alarm(sybils):
    rng = random.Random(4)
    seen = 0
    for _ in range(1000):
        density = taught(rng, 10_000, 8)
        nearest_honest = rng.expovariate(1.0) / 10_000
        ids = [
            int(rng.uniform(0, nearest_honest) * SPACE).to_bytes(20, "big")
            for _ in range(sybils)
        ]
        seen += density.alarm(bytes(20), sorted(ids)[:K]) is not None
    assert seen >= 990


@pytest.mark.parametrize("lookups", [4, 16])
@pytest.mark.parametrize("count", [20, 40])
def test_honest_neighbourhoods_raise_it_in_one_of_a_hundred_lookups_at_most(
    lookups, count
):
    rng = random.Random(5)
    false = 0
    for _ in range(1500):
        density = taught(rng, 10_000, lookups)
        false += density.alarm(bytes(20), closest(rng, 10_000, count=count)) is not None
    assert false <= 15


def test_a_few_attacked_keys_do_not_move_the_estimate():
    rng = random.Random(6)
    density = taught(rng, 10_000, 24)
    honest = density.size
    for number in range(8):
        density.add(number.to_bytes(20, "big"), closest(rng, 10_000_000))
    assert density.size == pytest.approx(honest, rel=0.05)


def test_twice_as_many_attacked_keys_as_others_do_not_move_it_either():
    rng = random.Random(6)
    density = taught(rng, 10_000, 10)
    honest = density.size
    for number in range(20):
        density.add(number.to_bytes(20, "big"), closest(rng, 10_000_000))
    assert density.size == pytest.approx(honest, rel=0.1)


def test_one_low_sample_of_few_does_not_decide():
    rng = random.Random(6)
    density = taught(rng, 10_000, 8)
    density.add(bytes(20), closest(rng, 100))
    assert density.size == pytest.approx(10_000, rel=0.3)


def test_one_key_looked_up_again_and_again_counts_once():
    rng = random.Random(7)
    density = taught(rng, 10_000, 3)
    for _ in range(100):
        density.add(b"k" * 20, closest(rng, 10_000_000))
    assert len(density) == 4
    assert density.size == pytest.approx(10_000, rel=0.5)


def test_a_network_smaller_than_a_closest_set_is_counted():
    rng = random.Random(8)
    density = Density()
    target = rng.randbytes(20)
    density.add(target, [rng.randbytes(20) for _ in range(7)])
    assert density.size == 7
    assert density.radius(20) == SPACE - 1


def test_nothing_is_claimed_before_the_first_lookup():
    density = Density()
    density.add(bytes(20), [])
    assert density.size is None
    assert density.radius(20) is None
    assert density.alarm(bytes(20), [bytes(19) + b"\1"] * 30) is None


def test_the_alarm_waits_for_enough_lookups():
    rng = random.Random(9)
    density = taught(rng, 10_000, 3)
    crowd = [number.to_bytes(20, "big") for number in range(1, 21)]
    assert density.alarm(bytes(20), crowd) is None
    density.add(b"4" * 20, closest(rng, 10_000, b"4" * 20))
    assert density.alarm(bytes(20), crowd).found == 20


def test_an_id_named_twice_or_equal_to_the_target_is_no_crowd():
    rng = random.Random(10)
    density = taught(rng, 10_000, 8)
    same = [bytes(19) + b"\1"] * 20 + [bytes(20)] * 20
    assert density.alarm(bytes(20), same) is None


def test_an_alarm_says_what_was_found_and_what_is_normal():
    rng = random.Random(11)
    density = taught(rng, 10_000, 8)
    # Twenty ids in a thousandth of the space, where ten in 10 000 are normal.
    step = SPACE // 10_000 // 20
    crowd = [(step * n).to_bytes(20, "big") for n in range(1, 21)]
    alarm = density.alarm(bytes(20), crowd)
    assert alarm.found == 20
    assert alarm.expected == pytest.approx(1.0, rel=0.3)
    assert 0 < alarm.chance < 1e-10
    assert str(alarm).startswith("20 nodes where ")


def test_the_window_is_bounded_and_follows_a_network_that_grows():
    rng = random.Random(12)
    density = taught(rng, 1000, 32)
    for _ in range(32):
        target = rng.randbytes(20)
        density.add(target, closest(rng, 100_000, target))
    assert len(density) == DensityConfig().window
    assert density.size == pytest.approx(100_000, rel=0.25)
