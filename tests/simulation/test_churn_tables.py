"""Tables under churn: few contacts are dead, and who stayed long stays."""

from pathlib import Path

import numpy as np
import pytest

from opnode.core.errors import ConfigError
from simulations.backends.event.population import Population
from simulations.backends.event.upkeep import Prefer
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions
from simulations.parameters import build
from simulations.runs import run
from simulations.scenario import Backend
from simulations.scenarios.churn.on_event import (
    TablesFigures,
    law_of_staying,
    stay_shares,
)
from simulations.scenarios.churn.scenario import ChurnScenario


def _figures(**options: object) -> TablesFigures:
    scenario = build(ChurnScenario, {"backend": "event", **options})  # type: ignore[dict-item, arg-type]  # cells of all types
    figures = run(scenario).figures
    assert isinstance(figures, TablesFigures)
    return figures


def test_few_contacts_are_dead_after_hours_of_churn() -> None:
    figures = _figures(nodes=1000, hours=4.0)
    assert figures.met
    assert figures.left > 500
    assert figures.nodes_mean == 1000
    assert figures.filled_mean > 19.9


def test_the_longer_nodes_are_up_the_likelier_they_stay_an_hour_more() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    horizon_s = 26 * HOUR_S
    people = Population.renewing(30_000, horizon_s, Sessions(), generator)
    stay = stay_shares(people, horizon_s)
    for age_h, published in ((0, 0.635), (2, 0.824), (8, 0.887), (24, 0.924)):
        assert law_of_staying(age_h) == pytest.approx(published, abs=0.001)
        assert stay[age_h].share == pytest.approx(published, abs=5 * stay[age_h].error)
    shares = [stayed.share for stayed in stay.values()]
    assert shares == sorted(shares)


def test_sessions_come_from_a_file(tmp_path: Path) -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    starts = generator.uniform(0, 7200, 800)
    lines = [
        f"{s:.3f},{s + e:.3f}"
        for s, e in zip(starts, generator.uniform(600, 5400, 800), strict=True)
    ]
    path = tmp_path / "sessions.csv"
    path.write_text("start,end\n" + "\n".join(lines), encoding="utf-8")
    figures = _figures(sessions=str(path), hours=2.0)
    ends = np.array([float(line.split(",")[1]) for line in lines])
    assert figures.left <= int((ends <= 7200).sum())
    assert figures.left >= 0.97 * int((ends <= 7200).sum())
    assert figures.stay_error_max is None


def test_what_only_one_backend_knows_is_refused_by_the_other() -> None:
    with pytest.raises(ConfigError, match="prefer"):
        build(ChurnScenario, {"prefer": "new"})
    with pytest.raises(ConfigError, match="nodes"):
        build(ChurnScenario, {"nodes": 100_000})
    with pytest.raises(ConfigError, match="hours"):
        run(ChurnScenario(backend=Backend.EVENT, hours=0.0))


def test_another_policy_gives_other_figures() -> None:
    old = _figures(nodes=500, hours=2.0, check_s=3600.0)
    new = _figures(nodes=500, hours=2.0, check_s=3600.0, prefer=Prefer.NEW.value)
    assert old.stale_full != new.stale_full
