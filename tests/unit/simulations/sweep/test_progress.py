"""Progress is shown to people only."""

import re

from simulations.sweep.progress import shown_sweep


def test_nothing_is_shown_where_nobody_looks(capsys):
    with shown_sweep("sample", 2) as advance:
        advance(0)
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_how_many_are_over_and_how_many_failed(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with shown_sweep("sample", 2) as advance:
        advance(0)
        advance(1)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "1 failed" in shown


def test_the_time_left_is_told_from_the_pace_of_all_that_are_over(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with shown_sweep("sample", 2):
        pass
    assert "left -:--:--" in plain(capsys.readouterr().err)
    with shown_sweep("sample", 1) as advance:
        advance(0)
    assert "left 0:00:00" in plain(capsys.readouterr().err)


def plain(shown):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
