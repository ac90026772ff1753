"""`doctor`: findings as events, counted at the end."""

from opnode.daemon import control_doctor
from opnode.daemon import control_messages as messages
from opnode.daemon.control_doctor import report_findings
from opnode.daemon.judgement import Finding, Health


async def test_findings_are_sent_one_by_one_and_counted(monkeypatch):
    findings = [
        Finding("joined", Health.OK, "in"),
        Finding("seed", Health.BAD, "silent", "look"),
        Finding("clock", Health.UNKNOWN, "?"),
        Finding("table", Health.WARN, "thin", "wait"),
        Finding("write", Health.OK, "fine"),
    ]
    sent = []

    async def examine(node, records, report):
        assert (node, records) == ("node", "file")
        for finding in findings:
            await report(finding)

    async def send(event):
        sent.append(event)

    monkeypatch.setattr(control_doctor, "examine", examine)
    diagnosis = await report_findings("node", "file", send)
    assert diagnosis == messages.Diagnosis(ok=2, warn=1, bad=1, unknown=1)
    assert sent[-1] == diagnosis
    assert sent[1] == messages.Check(
        name="seed", verdict="bad", finding="silent", advice="look"
    )
    assert len(sent) == 6
