"""The load on shipped nodes."""

import pytest

from simulations.people.load_real import Plan, load_real
from simulations.run_context import Run


@pytest.mark.slow
def test_real_users_load_real_servers():
    found = load_real(Plan(3, 3, 1 / 60, 120.0), Run(1))
    assert found.load.registrations.tolist() == [3, 3, 3]
    assert found.load.introductions > 0
    assert 10 < found.load.user_bytes_per_s < 2000
