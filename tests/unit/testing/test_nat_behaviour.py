"""`nat_behaviour`: the seven types, and what cannot be."""

import pytest

from opnode.core.errors import ConfigError
from opnode.testing.nat_behaviour import PRESETS, NatBehaviour


def test_the_seven_types_have_names():
    assert list(PRESETS) == ["open", "full", "addr", "port", "sym", "seq", "block"]
    assert len(set(PRESETS.values())) == 7


@pytest.mark.parametrize("field", ["timeout_s", "max_sessions"])
def test_a_box_that_remembers_nothing_is_refused(field):
    with pytest.raises(ConfigError, match=field):
        NatBehaviour(**{field: 0})
