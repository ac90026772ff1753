"""Every scenario says what it asks; its options have bounds that hold."""

import pytest

from opnode.core.errors import ConfigError
from simulations.parameters import build, parameters_of
from simulations.registry import SCENARIOS, load


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_documents_itself(name):
    kind = load(name)
    assert kind.name == name
    assert kind.question.endswith("?")
    assert kind.expected.endswith(".")
    scenario = build(kind, {})
    assert scenario.backend is kind.backends[0]
    for one in parameters_of(kind):
        assert one.about, f"{name} {one.option} says nothing"


def test_a_name_that_nobody_has_gets_the_nearest_one():
    with pytest.raises(ConfigError, match="'lookup'\\?"):
        load("lokup")
