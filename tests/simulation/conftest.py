"""How a scenario is checked: a failure's message is the command that repeats it."""

import pytest

from simulations.runs import run


@pytest.fixture
def checked():
    def check(scenario):
        outcome = run(scenario)
        assert outcome.figures.met, f"{outcome.command}: {outcome.figures}"
        return outcome

    return check
