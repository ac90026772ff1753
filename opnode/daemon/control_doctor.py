"""The verb `doctor`: an examination as events, for a running node and for a trial one.

Owns how findings are sent and counted. Refuses to judge anything.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import Event
from opnode.daemon.diagnosis import ExaminedNode, examine
from opnode.daemon.judgement import Finding, Health

Send = Callable[[Event], Awaitable[None]]


async def report_findings(
    node: ExaminedNode, records: Path | None, send: Send
) -> messages.Diagnosis:
    """Examine a node; sends a `Check` for each finding, then the `Diagnosis`.

    Args:
        node: joined or not.
        records: the file of records; None for a node in memory.
        send: takes an event.
    """
    counts: Counter[Health] = Counter()

    async def report(finding: Finding) -> None:
        counts[finding.health] += 1
        await send(
            messages.Check(
                name=finding.name,
                verdict=finding.health.value,
                finding=finding.text,
                advice=finding.advice,
                facts=dict(finding.facts),
            )
        )

    await examine(node, records, report)
    diagnosis = messages.Diagnosis(
        ok=counts[Health.OK],
        warn=counts[Health.WARN],
        bad=counts[Health.BAD],
        unknown=counts[Health.UNKNOWN],
    )
    await send(diagnosis)
    return diagnosis
