"""`opnode doctor`: findings, advice, exit code; with a running node and without."""

import json

import pytest

from opnode.cli.doctor import summary
from opnode.daemon import control_messages as messages

WELL = messages.Check(name="clock", verdict="ok", finding="it agrees")
ILL = messages.Check(
    name="seed", verdict="bad", finding="h:1: no answer", advice="try another"
)


def answer(*checks):
    bad = sum(check.verdict == "bad" for check in checks)
    end = messages.Diagnosis(ok=len(checks) - bad, warn=0, bad=bad, unknown=0)
    return [*checks, end]


def test_findings_have_a_verdict_and_advice_below(opnode, node, tmp_path):
    node.answers[messages.Doctor] = answer(WELL, ILL)
    ended = opnode("doctor", "--data", tmp_path)
    assert ended.out == (
        "examining the running node\n"
        "     ok  clock: it agrees\n"
        "    bad  seed: h:1: no answer\n"
        "         -> try another\n"
        "of 2 checks: 1 bad\n"
    )
    assert (ended.code, ended.err) == (1, "")


def test_a_node_that_is_well_ends_with_0(opnode, node, tmp_path):
    node.answers[messages.Doctor] = answer(WELL)
    ended = opnode("doctor", "--data", tmp_path)
    assert ended.code == 0
    assert ended.out.endswith("all 1 checks are well\n")


def test_programs_get_every_finding_and_the_same_code(opnode, node, tmp_path):
    node.answers[messages.Doctor] = answer(WELL, ILL)
    ended = opnode("doctor", "--json", "--data", tmp_path)
    events = [json.loads(line) for line in ended.out.splitlines()]
    assert [e["event"] for e in events] == ["examining", "check", "check", "diagnosis"]
    assert events[0]["running"] is True
    assert events[2]["advice"] == "try another"
    assert ended.code == 1


def test_entries_given_for_a_trial_node_are_not_passed_over_in_silence(
    opnode, node, tmp_path
):
    node.answers[messages.Doctor] = answer(WELL)
    out = opnode("doctor", "--bootstrap", "192.0.2.1:1", "--data", tmp_path).out
    assert "its own entries are probed" in out


def test_an_examination_without_an_end_is_not_called_well(opnode, node, tmp_path):
    node.answers[messages.Doctor] = [WELL]
    ended = opnode("doctor", "--data", tmp_path)
    assert ended.code == 1
    assert "trial" not in ended.out


def test_without_a_running_node_a_trial_node_is_examined(opnode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = opnode("doctor", "--json", "--data", tmp_path / "none")
    events = [json.loads(line) for line in ended.out.splitlines()]
    assert events[0] == {"event": "examining", "running": False}
    by_name = {event["name"]: event for event in events[1:-1]}
    assert by_name["joined"]["verdict"] == "bad"
    assert by_name["storage"]["finding"] == "holds 0 records, in memory alone"
    assert ended.code == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((9, 0, 0, 0), "all 9 checks are well"),
        ((5, 2, 1, 1), "of 9 checks: 1 bad, 2 to look at, 1 not known"),
        ((8, 0, 0, 1), "of 9 checks: 1 not known"),
    ],
)
def test_the_last_line_counts_what_is_not_well(counts, text):
    ok, warn, bad, unknown = counts
    diagnosis = messages.Diagnosis(ok=ok, warn=warn, bad=bad, unknown=unknown)
    assert summary(diagnosis)[0] == text


def test_a_wrong_entry_is_wrong_use(opnode, tmp_path):
    ended = opnode("doctor", "--bootstrap", "nowhere", "--data", tmp_path)
    assert ended.code == 2
    assert "expected opnode://KEY@HOST:PORT" in ended.err
