import logging

import pytest

from opnode.cli.output import Output, rate_text, set_up_logging, size_text
from opnode.node.control_messages import RoundTrip


def test_programs_get_lines_of_json_and_nothing_else(capsys):
    output = Output(is_json=True)
    output.event(RoundTrip(number=1, ms=0.5))
    output.event({"event": "x"})
    output.text("for people")
    output.table("title", {"a": 1})
    expected = '{"event":"round trip","number":1,"ms":0.5}\n{"event":"x"}\n'
    assert capsys.readouterr().out == expected


def test_people_get_text_and_no_json(capsys):
    output = Output(is_json=False)
    output.event({"event": "x"})
    output.text("[bold]as it is[/bold]", style="green")
    output.table("", {"na[me]": "[1]"})
    out = capsys.readouterr().out
    assert "[bold]as it is[/bold]\n" in out
    assert "na[me]" in out
    assert "event" not in out


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1234567, "1.2 MB"), (5e18, "5000.0 PB")],
)
def test_sizes_are_readable(count, text):
    assert size_text(count) == text


def test_rates_are_readable():
    assert rate_text(2_000_000, 2.0) == "1.0 MB/s"
    assert rate_text(5, 0.0) == "at once"


@pytest.mark.parametrize(
    ("is_verbose", "level"), [(True, logging.INFO), (False, logging.WARNING)]
)
def test_verbose_lowers_the_level(monkeypatch, is_verbose, level):
    seen = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **options: seen.update(options))
    set_up_logging(is_verbose=is_verbose)
    assert seen["level"] == level
