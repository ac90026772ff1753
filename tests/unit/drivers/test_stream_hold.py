"""The rest of a stream waits for more of it, and for nothing else."""

import pytest

from opnode.drivers.stream_hold import STREAMING_BURST, StreamHold


class Waiting:
    """Bytes that wait, counted in bursts."""

    def __init__(self) -> None:
        self.bursts = 0.5

    def has_less_than(self, bursts: int) -> bool:
        return self.bursts < bursts


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def streaming(waiting: Waiting) -> StreamHold:
    hold = StreamHold(waiting)
    hold.on_burst(STREAMING_BURST)
    return hold


def test_nothing_is_held_before_a_large_burst_or_after_a_small_one(waiting: Waiting):
    hold = StreamHold(waiting)
    assert not hold.is_on
    hold.on_burst(STREAMING_BURST)
    assert hold.is_on
    hold.on_burst(STREAMING_BURST - 1)
    assert not hold.is_on


def test_a_stream_goes_on_when_eight_bursts_wait_and_stops_at_its_rest(
    waiting: Waiting,
):
    hold = streaming(waiting)
    for waiting.bursts, is_on, is_rest in (
        (0.9, True, True),
        (7.9, True, False),
        (8.0, False, False),
    ):
        assert (hold.is_on, hold.is_rest) == (is_on, is_rest)


def test_two_turns_without_a_write_end_the_stream(waiting: Waiting):
    hold = streaming(waiting)
    for _ in range(10):
        hold.on_turn()
        hold.on_written()
        assert hold.is_on
    hold.on_turn()
    hold.on_turn()
    assert hold.is_on
    hold.on_turn()
    assert not hold.is_on
