import pytest

from benchmarks.link import FlowOutcome, Outcome, jain
from benchmarks.link_emulator import LinkSpec


def flow(*progress: tuple[float, int]) -> FlowOutcome:
    return FlowOutcome(transport="rudp", progress=progress)


def test_jain_s_index_is_one_for_equals_and_one_nth_for_one_that_has_all():
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([0, 9, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 0


def test_bytes_of_a_time_are_those_that_the_application_read_in_it():
    progress = flow((10.0, 0), (11.0, 100), (12.0, 300))
    assert progress.bytes_between(10.0, 12.0) == 300
    assert progress.bytes_between(10.5, 11.5) == pytest.approx(150)
    assert progress.bytes_between(5.0, 10.0) == 0
    assert progress.bytes_between(12.0, 99.0) == 0
    assert flow().bytes_between(0.0, 1.0) == 0


def test_an_outcome_counts_its_own_seconds_only():
    spec = LinkSpec(mbit=0.008, rtt_s=0.5)  # a thousand bytes a second
    outcome = Outcome(
        spec=spec,
        begins_at=10.0,
        ends_at=12.0,
        flows=(flow((9.0, 0), (10.0, 900), (12.0, 1900)),),
        trace=[(9.0, 5.0, 0), (10.0, 0.5, 800), (12.0, 0.25, 2600), (13.0, 5.0, 0)],
        account={},
    )
    assert outcome.goodputs_percent == [pytest.approx(50)]
    assert outcome.utilisation_percent == pytest.approx(90)
    assert outcome.queue_delays_rtt == [1.0, 0.5]
