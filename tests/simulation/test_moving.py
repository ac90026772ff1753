"""A transfer goes on when one end gets another address."""

import pytest

from simulations.runs import run
from simulations.scenarios.moving import MovingScenario

pytestmark = pytest.mark.slow


def test_a_transfer_goes_on_whatever_the_boxes_are(checked):
    checked(MovingScenario(servers=6, kinds="full,port"))


def test_a_transfer_goes_on_although_the_host_saw_nothing_of_the_change():
    outcome = run(MovingScenario(servers=6, kinds="port", how="new-address"))
    figures = outcome.figures
    assert figures.kept == figures.tried == 2, f"{outcome.command}: {figures}"


def test_a_transfer_goes_on_after_seconds_without_coverage(checked):
    checked(MovingScenario(servers=6, kinds="port", away_s=5.0))
