"""What a mix of NATs does to calls, drawn and with whole nodes."""

import pytest

from opnode.core.errors import ConfigError
from opnode.testing.nat_behaviour import PRESETS
from simulations.scenario import Backend
from simulations.scenarios.nat_mix.law import KINDS, MEASURED, chance_of_direct
from simulations.scenarios.nat_mix.scenario import NatMixScenario


def test_the_law_knows_every_kind_of_box():
    assert set(KINDS) == set(PRESETS)


def test_direct_are_all_but_symmetric_with_symmetric_or_port_restricted(checked):
    figures = checked(NatMixScenario(calls=1_000_000)).figures
    assert figures.hopeless == pytest.approx(0.15 * (0.15 + 2 * 0.40), abs=0.002)
    assert figures.success == 1.0
    assert 1 - figures.direct >= figures.hopeless


def test_without_a_relay_what_is_not_direct_fails(checked):
    figures = checked(NatMixScenario(calls=1_000_000, no_relay=True)).figures
    assert figures.relayed == 0.0
    assert figures.success == figures.direct


def test_whole_nodes_reach_each_other_as_the_law_says(checked):
    scenario = NatMixScenario(
        backend=Backend.REAL, servers=5, users=10, calls=15, full=0.2, seq=0.1
    )
    for pair, count in checked(scenario).figures.pairs.items():
        is_hopeless = not chance_of_direct(*pair.split())
        assert not (is_hopeless and count.direct)
        assert count.direct + count.relayed == count.tried


def test_what_was_measured_is_of_pairs_that_have_a_chance():
    assert all(0 < seen.direct <= seen.tried for seen in MEASURED.values())
    assert all(chance_of_direct(*pair) > 0.3 for pair in MEASURED)


def test_a_mix_of_nobody_is_refused():
    nobody = NatMixScenario(open=0, full=0, port=0, sym=0)
    with pytest.raises(ConfigError, match="mix"):
        nobody.check()


def test_a_drawing_repeats_itself(checked):
    first, second = (checked(NatMixScenario(calls=1000)) for _ in range(2))
    assert first.digest == second.digest
