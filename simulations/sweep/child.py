"""One run in a process of its own: a job comes in, its answer goes out.

    python -m simulations.sweep.child <JOB >ANSWER

A process of its own, because then a run's memory is its own too, a crash is only its
own, and runs that set up their whole process (`opnode.testing.seeded_secrets`) do not
meet.

Owns the process. Refuses to know who started it. It ends with whoever did: standard
input stays open as long as somebody waits for the answer.
"""

import os
import sys
import threading
from typing import BinaryIO

import msgspec

from simulations.results import parquet
from simulations.run_context import Run
from simulations.runs import attempt, prepare_process
from simulations.sweep.code import Code
from simulations.sweep.job import Answer, Job

_ABANDONED = 3


def main() -> None:
    """Read a job, run it, write the answer."""
    answers = _sole_output()
    with open(0, "rb", buffering=0, closefd=False) as asked:
        job = msgspec.json.decode(asked.readline(), type=Job)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with answers:
        answers.write(msgspec.msgpack.encode(answer(job)))


def answer(job: Job) -> Answer:
    """Run what is asked for, if this is the code that is asked for."""
    here = Code.here(job.place.partition(":")[0])
    if differs := job.code.differences(here):
        return Answer(differs=tuple(differs))
    scenario = job.scenario()
    prepare_process()
    context = Run(scenario.seed)
    outcome = attempt(scenario, context, catch=(Exception,))
    # A tree with changes that are in no commit is known by its sources.
    versions = outcome.versions | {"sources": here.sources}
    return Answer(
        line=msgspec.json.encode(msgspec.structs.replace(outcome, versions=versions)),
        series={name: parquet(rows) for name, rows in context.series.items()},
    )


def _sole_output() -> BinaryIO:
    """Standard output for answers alone; what others print goes to the errors."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _end_with_parent() -> None:
    # Nobody writes any more, so this returns when the other end is closed. Nothing is
    # left behind that would need cleaning up, and the run may be busy for hours.
    os.read(0, 1)
    os._exit(_ABANDONED)


if __name__ == "__main__":
    main()
    # Without taking apart ten million objects one by one.
    sys.stdout.flush()
    os._exit(0)
