import io
import json
import logging
import os

import pytest
from rich.console import Console

from opnode.cli.output import (
    Output,
    PrintableFormatter,
    rate_text,
    set_up_logging,
    size_text,
)
from opnode.daemon.control_messages import RoundTrip


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


def test_a_reader_that_went_away_is_an_error_like_others():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        output = Output(is_json=False)
        output.console.file = file
        with pytest.raises(BrokenPipeError):
            output.text("hello")
        # What is left in the buffer has nowhere to go when the file is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1234567, "1.2 MB"), (5e18, "5000.0 PB")],
)
def test_sizes_are_readable(count, text):
    assert size_text(count) == text


def test_rates_are_readable():
    assert rate_text(2_000_000, 2.0) == "1.0 MB/s"
    assert rate_text(5, 0.0) == "at once"


EVIL = "ä\x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\U000e0041\n"


def test_text_from_elsewhere_cannot_drive_a_terminal():
    written = io.StringIO()
    output = Output(is_json=False)
    output.console = Console(file=written, force_terminal=True, soft_wrap=True)
    output.text(EVIL)
    output.table(EVIL, {EVIL: EVIL})
    assert "pwned" in written.getvalue()
    assert "\x1b]" not in written.getvalue()
    assert "\x1b[2J" not in written.getvalue()
    assert "\x07" not in written.getvalue()
    assert "\x9b" not in written.getvalue()


def test_our_own_style_stays():
    written = io.StringIO()
    output = Output(is_json=False)
    output.console = Console(file=written, force_terminal=True, color_system="standard")
    output.text("done", style="green")
    assert written.getvalue() == "\x1b[32mdone\x1b[0m\n"


def test_programs_get_the_same_text_in_characters_that_print(capsys):
    Output(is_json=True).event({"text": EVIL})
    out = capsys.readouterr().out
    assert out.removesuffix("\n").isprintable()
    assert json.loads(out) == {"text": EVIL}


def test_a_log_line_stays_one_line_that_prints():
    formatter = PrintableFormatter("%(levelname)s %(message)s")
    record = logging.makeLogRecord({"msg": "x %s", "args": (EVIL,)})
    line = formatter.format(record)
    assert line.isprintable()


def test_the_log_of_a_bug_keeps_its_lines_and_no_escapes():
    formatter = PrintableFormatter("%(message)s")
    caught = (ValueError, ValueError(EVIL), None)
    record = logging.makeLogRecord({"msg": "bug", "exc_info": caught})
    lines = formatter.format(record).splitlines()
    assert len(lines) > 1
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("is_verbose", "level"), [(True, logging.INFO), (False, logging.WARNING)]
)
def test_verbose_lowers_the_level(monkeypatch, is_verbose, level):
    seen = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **options: seen.update(options))
    set_up_logging(is_verbose=is_verbose)
    assert seen["level"] == level
    assert isinstance(seen["handlers"][0].formatter, PrintableFormatter)
