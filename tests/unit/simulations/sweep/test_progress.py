"""Progress is shown to people only."""

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
