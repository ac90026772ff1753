"""`calls`: what it counts, on a network small enough for a test."""

import pytest

from benchmarks.call_network import CallPlan, Found, LongCall, SetUp, measure_long_calls
from benchmarks.calls import report_of
from opnode.testing.clock import run_deterministic
from opnode.testing.seeded_secrets import seeded_secrets


def set_up(setup_s, failure=None, *, is_hopeless=False):
    steps = (setup_s, 0.1, 0.1, 0.1, setup_s - 0.3)
    return SetUp("port sym", is_hopeless, failure, "direct", *steps)


def test_failures_are_counted_and_are_in_no_percentile():
    made = [set_up(n / 100) for n in range(31, 131)]
    failed = [set_up(0, "IceFailed: x", is_hopeless=True), set_up(0, "TooSlowError: y")]
    found = Found(set_ups={"one_by_one": made + failed})
    report = report_of(CallPlan(), [found])
    assert report.measures["one_by_one_setup_s"].n == 100
    assert report.measures["one_by_one_setup_s"].max == 1.3
    assert report.facts["one_by_one_setup_p95_s"] == 1.25
    assert report.facts["one_by_one_failed"] == 2
    assert report.facts["one_by_one_failed_hopeless"] == 1


def test_calls_that_dropped_are_counted_with_a_reason():
    calls = [
        LongCall("full moved, port", "silence", 120.0, 120.0),
        LongCall("port moved, full", None, 1.0, 1.0),
    ]
    report = report_of(CallPlan(), [Found(set_ups={}, long_calls=calls)])
    assert report.facts["long_calls_dropped"] == 1
    assert report.facts["long_calls_with_gap_over_3_s"] == 1
    assert report.facts["first_dropped"] == "full moved, port: silence"
    assert report.measures["gap_s"].n == 2


@pytest.mark.slow
def test_a_call_of_an_hour_is_measured_to_its_end():
    plan = CallPlan(nodes=3, users=6, long_calls=1)
    with seeded_secrets(1):
        found = run_deterministic(measure_long_calls, 1, plan, 1)
    [call] = found.long_calls
    assert call.dropped is not None or call.gap_s < 60
