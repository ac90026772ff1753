"""Every scenario says what it asks; its options have bounds that hold."""

import pytest

from opnode.core.errors import ConfigError
from simulations.parameters import build, parameters_of
from simulations.registry import SCENARIOS, load
from tests.unit.simulations.sample import SampleScenario


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


class OwnScenario(SampleScenario, frozen=True, kw_only=True):
    name = f"{__name__}:OwnScenario"


def test_a_scenario_of_ones_own_is_found_by_its_place():
    assert load(OwnScenario.name).name == OwnScenario.name


def test_a_scenario_that_calls_itself_something_else_is_told():
    with pytest.raises(ConfigError, match="found 'sample', expected 'tests"):
        load("tests.unit.simulations.sample:SampleScenario")


@pytest.mark.parametrize(
    "name", ["nowhere.at.all:Any", "json:none", "json:loads", ":", "json:", "a b:c"]
)
def test_a_place_without_a_scenario_is_named(name):
    with pytest.raises(ConfigError, match="scenario: found"):
        load(name)
