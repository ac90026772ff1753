"""Values from outside become a scenario, or one clear line."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.errors import ConfigError
from simulations.parameters import build, command_of, parameters_of, values_of
from simulations.scenario import Backend
from tests.unit.simulations.sample import SampleScenario


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        ({"nodes": "0"}, "--nodes", "a whole number from 1 to 1000"),
        ({"nodes": 1001}, "--nodes", "a whole number from 1 to 1000"),
        ({"nodes": "many"}, "--nodes", "a whole number from 1 to 1000"),
        ({"nodes": 1.5}, "--nodes", "a whole number from 1 to 1000"),
        ({"share": "nan"}, "--share", "a number from 0 to 1"),
        ({"share": math.inf}, "--share", "a number from 0 to 1"),
        ({"seed": ""}, "--seed", "a whole number"),
        ({"loud": "perhaps"}, "--loud", "yes or no"),
        ({"backend": "real"}, "--backend", "event or vector"),
        ({"backend": "quantum"}, "--backend", "one of real, event, vector"),
        ({"node": 5}, "node", "'nodes'?"),
        ({"nodes": 1, "share": 1.0}, "--share", "somebody to be left"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_was_expected(
    values, field, expected
):
    with pytest.raises(ConfigError) as caught:
        build(SampleScenario, values)
    assert (caught.value.field, caught.value.expected) == (field, expected)


def test_text_becomes_the_type_of_the_field():
    values = {"nodes": "7", "share": "1e-1", "loud": "true", "backend": "vector"}
    assert build(SampleScenario, values) == SampleScenario(
        nodes=7, share=0.1, loud=True, backend=Backend.VECTOR
    )


@given(
    nodes=st.integers(1, 1000),
    share=st.floats(0, 0.99),
    loud=st.booleans(),
    backend=st.sampled_from(SampleScenario.backends),
)
def test_the_values_of_a_scenario_make_it_again(nodes, share, loud, backend):
    scenario = SampleScenario(nodes=nodes, share=share, loud=loud, backend=backend)
    assert build(SampleScenario, values_of(scenario)) == scenario


def test_the_command_names_sizes_the_seed_and_whatever_is_not_the_default():
    scenario = SampleScenario(share=0.25, loud=True)
    words = "python -m simulations run sample --nodes 10 --seed 1 --share 0.25 --loud"
    assert command_of(scenario) == words


def test_parameters_are_documented():
    nodes = next(one for one in parameters_of(SampleScenario) if one.name == "nodes")
    assert (nodes.about, nodes.low, nodes.high, nodes.default) == (
        "How many are drawn",
        1,
        1000,
        10,
    )
