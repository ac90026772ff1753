"""RangeSet against a plain set of integers that does the same."""

from hypothesis import given
from hypothesis import strategies as st

from opnode.core.ranges import RangeSet

# Small numbers, so that ranges meet, touch and overlap all the time.
NUMBERS = st.integers(0, 60)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "prune"]), NUMBERS, st.integers(-2, 12)
    ),
    max_size=60,
)
LIMITS = st.sampled_from([1, 2, 3, 5, 1000])


class Model:
    """A set of integers with a floor and a limit of runs."""

    def __init__(self, max_ranges: int) -> None:
        self.numbers: set[int] = set()
        self.floor = -1
        self.max_ranges = max_ranges

    def runs(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for number in sorted(self.numbers):
            if found and found[-1][1] == number:
                found[-1] = (found[-1][0], number + 1)
            else:
                found.append((number, number + 1))
        return found

    def apply(self, step: str, start: int, length: int) -> bool:
        span = set(range(start, start + length))
        fresh = {number for number in span - self.numbers if number >= self.floor}
        if step == "add":
            self.numbers |= fresh
        elif step == "remove":
            self.numbers -= span
        else:
            self.prune(start)
        while len(self.runs()) > self.max_ranges:
            self.prune(self.runs()[0][1])
        return bool(fresh)

    def prune(self, floor: int) -> None:
        self.floor = max(self.floor, floor)
        self.numbers = {number for number in self.numbers if number >= self.floor}


def play(ranges: RangeSet, step: str, start: int, length: int) -> bool | None:
    if step == "add":
        return ranges.add(start, start + length)
    if step == "remove":
        ranges.remove(start, start + length)
    else:
        ranges.prune_below(start)
    return None


@given(STEPS, LIMITS)
def test_every_sequence_of_steps_gives_what_a_set_of_integers_gives(
    steps: list[tuple[str, int, int]], max_ranges: int
):
    ranges, model = RangeSet(max_ranges=max_ranges), Model(max_ranges)
    for step, start, length in steps:
        fresh = model.apply(step, start, length)
        answer = play(ranges, step, start, length)
        assert step != "add" or answer == fresh
        assert list(ranges) == model.runs()
        assert ranges.total == len(model.numbers)
        assert ranges.largest == max(model.numbers, default=None)
        assert ranges.smallest == min(model.numbers, default=None)


@given(STEPS, NUMBERS, NUMBERS)
def test_questions_are_answered_as_a_set_of_integers_answers_them(
    steps: list[tuple[str, int, int]], start: int, stop: int
):
    ranges, model = RangeSet(), Model(1024)
    for step in steps:
        model.apply(*step)
        play(ranges, *step)
    asked = set(range(start, stop))
    missing = {n for low, high in ranges.missing(start, stop) for n in range(low, high)}
    assert missing == asked - model.numbers
    assert ranges.covers(start, stop) == (asked <= model.numbers)
    assert {number for number in range(-2, 75) if number in ranges} == model.numbers


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30))
def test_the_order_of_additions_does_not_matter(pairs: list[tuple[int, int]]):
    assert RangeSet(pairs) == RangeSet(reversed(pairs)) == RangeSet(sorted(pairs))
