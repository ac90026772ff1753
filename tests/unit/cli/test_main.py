import json
import shlex
import subprocess
import sys

import click
import pytest

from opnode.cli import main as main_module
from opnode.cli.client import VerbFailed
from opnode.cli.main import COMMANDS, cli
from opnode.core.errors import (
    DataDirectoryInUse,
    IceFailed,
    IntroductionRefused,
    PeerUnreachable,
    RefusalCode,
)
from opnode.version import __version__

HEAVY = ("trio", "msgspec", "cryptography", "nacl", "rich", "aioice", "sqlite3")


def raising(monkeypatch, error):
    def fail(**options):
        raise error

    monkeypatch.setattr(main_module, "cli", fail)


def test_every_command_in_the_table_can_be_imported():
    context = click.Context(cli)
    for name in cli.list_commands(context):
        assert isinstance(cli.get_command(context, name), click.Command)
    assert cli.get_command(context, "dance") is None


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_teaches_by_example(opnode, name):
    ended = opnode(name, "--help")
    assert ended.code == 0
    assert f"opnode {name}" in ended.out
    assert "Examples:" in ended.out or "opnode contacts add" in ended.out


def test_the_help_lists_every_command(opnode):
    ended = opnode("--help")
    assert all(f"  {name} " in ended.out for name in COMMANDS)


def test_version_imports_nothing_heavy():
    code = """
import sys
from opnode.cli.main import main
sys.argv = ["opnode", "--version"]
try:
    main()
except SystemExit:
    pass
print(*sys.modules, sep="\\n")
"""
    result = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    assert lines[0] == f"opnode, version {__version__}"
    assert not set(HEAVY) & set(lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["ping"],
        ["ping", "op1abc"],
        ["up", "--listen", "x"],
        ["send", "a", "/n"],
    ],
)
def test_wrong_use_exits_with_2(opnode, arguments):
    ended = opnode(*arguments)
    assert ended.code == 2
    assert "Error" in ended.err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PeerUnreachable("nobody there"), "opnode: nobody there\n"),
        (
            PeerUnreachable("\x1b[2Jno\n"),
            "opnode: \N{REPLACEMENT CHARACTER}[2Jno\N{REPLACEMENT CHARACTER}\n",
        ),
        (KeyboardInterrupt(), "opnode: interrupted\n"),
        (click.Abort(), "opnode: interrupted\n"),
        (
            ExceptionGroup("a", [ExceptionGroup("b", [PeerUnreachable("deep")])]),
            "opnode: deep\n",
        ),
        (BaseExceptionGroup("a", [KeyboardInterrupt()]), "opnode: interrupted\n"),
    ],
)
def test_a_failure_is_one_line_and_exits_with_1(opnode, monkeypatch, error, text):
    raising(monkeypatch, error)
    ended = opnode()
    assert (ended.code, ended.err) == (1, text)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PeerUnreachable("a\x1b\n"), "peer_unreachable", "a\ufffd\ufffd"),
        (IceFailed("no way"), "ice_failed", "no way"),
        (
            IntroductionRefused(RefusalCode.DECLINED),
            "introduction_refused",
            "the peer declined",
        ),
        (VerbFailed("RequestTimeout", "late"), "request_timeout", "late"),
        (KeyboardInterrupt(), "interrupted", "interrupted"),
        (
            ExceptionGroup("a", [DataDirectoryInUse("busy")]),
            "data_directory_in_use",
            "busy",
        ),
    ],
)
def test_a_failure_is_one_line_of_json_with_its_code(
    opnode, monkeypatch, error, code, message
):
    raising(monkeypatch, error)
    ended = opnode("id", "--json")
    assert (ended.code, ended.err) == (1, "")
    assert len(ended.out.splitlines()) == 1
    expected = {"event": "error", "code": code, "message": message}
    assert json.loads(ended.out) == expected


def test_wrong_use_is_a_line_of_json_too_where_it_was_asked_for(opnode):
    ended = opnode("ping", "--json")
    assert (ended.code, ended.err) == (2, "")
    event = json.loads(ended.out)
    assert (event["event"], event["code"]) == ("error", "missing_parameter")
    assert "PEER" in event["message"]
    named = opnode("contacts", "--", "--json")
    assert (named.code, named.out) == (2, "")


def test_a_bug_is_shown_whole(opnode, monkeypatch):
    bug = ExceptionGroup("a", [PeerUnreachable("x"), ZeroDivisionError()])
    raising(monkeypatch, bug)
    with pytest.raises(ExceptionGroup):
        opnode()


def test_a_reader_that_goes_away_is_no_error_text():
    command = f"{shlex.quote(sys.executable)} -m opnode --help | true"
    result = subprocess.run(  # noqa: S602 - a pipe is what is tested
        command, shell=True, capture_output=True, text=True, check=False
    )
    assert result.stderr == ""


def test_a_reader_that_goes_away_in_the_midst_of_a_task_is_no_error_text(
    opnode, monkeypatch
):
    dropped = []
    monkeypatch.setattr(main_module, "_drop_output", lambda: dropped.append(1))
    raising(monkeypatch, ExceptionGroup("a", [BrokenPipeError()]))
    ended = opnode()
    assert (ended.code, ended.out, ended.err) == (1, "", "")
    assert dropped == [1]
