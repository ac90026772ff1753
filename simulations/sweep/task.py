"""What a worker does with a job: a process runs it while the worker waits.

Owns that process. Refuses to know the other jobs. Workers may have as many threads as
their machine has cores.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Final

from distributed import get_worker

from simulations.sweep.code import ROOT
from simulations.sweep.errors import ProcessLost, RunAbandoned
from simulations.sweep.job import MAX_ANSWER

_LOOK_S: Final = 0.1
"""How long a run goes on at most that nobody waits for."""
_SAID: Final = 2000
"""Bytes at the end of what a lost process said, to find the last line in."""
_ONE_THREAD: Final = dict.fromkeys(
    (
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "POLARS_MAX_THREADS",
    ),
    "1",
)
"""There is a run for each core already."""


def perform(job: bytes) -> bytes:
    """Run a job on the worker that calls this.

    Raises:
        ProcessLost: Its process ended without an answer.
        RunAbandoned: The answer is not wanted any more.
    """
    return attend(job, _abandonment())


def attend(job: bytes, abandoned: Callable[[], bool]) -> bytes:
    """Run a job and wait for its answer, or until it is abandoned.

    Raises:
        ProcessLost: Its process ended without an answer.
        RunAbandoned: The answer is not wanted any more.
    """
    # Files without names: whatever ends us, nothing is left behind.
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        process = _start(answer, said)
        try:
            _wait(process, job, abandoned)
        finally:
            process.kill()
            process.communicate()
        size = os.fstat(answer.fileno()).st_size
        if process.returncode or not size:
            raise ProcessLost(_fate(process.returncode, said))
        if size > MAX_ANSWER:
            raise ProcessLost(
                f"found an answer of {size:,} bytes, at most {MAX_ANSWER:,}"
            )
        answer.seek(0)
        return answer.read()


def _start(answer: IO[bytes], said: IO[bytes]) -> subprocess.Popen[bytes]:
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    return subprocess.Popen(
        [sys.executable, "-m", "simulations.sweep.child"],
        stdin=subprocess.PIPE,
        stdout=answer,
        stderr=said,
        env=_ONE_THREAD | os.environ | {"PYTHONPATH": path},
        # Ctrl-C is for us; our end is its end.
        start_new_session=True,
    )


def _wait(
    process: subprocess.Popen[bytes], job: bytes, abandoned: Callable[[], bool]
) -> None:
    """Wait for the end; its input stays open, which tells it that we are there."""
    assert process.stdin is not None
    try:
        process.stdin.write(job + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        process.wait()
        return
    while True:
        try:
            process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            if abandoned():
                raise RunAbandoned("nobody waits for this run") from None
        else:
            return


def _fate(code: int, said: IO[bytes]) -> str:
    """How a process ended, and its last words."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID))
    words = said.read().decode("utf-8", "replace").strip().splitlines()
    last = f": {words[-1]}" if words else ""
    if code >= 0:
        return f"the process of the run ended with code {code}{last}"
    name = signal.Signals(-code).name
    hint = ", which may be for want of memory" if name == "SIGKILL" else ""
    return f"the process of the run was ended by {name}{hint}{last}"


def _abandonment() -> Callable[[], bool]:
    """Whether this thread's task was cancelled, or its worker closes."""
    worker = get_worker()
    key = worker.get_current_task()

    def abandoned() -> bool:
        task = worker.state.tasks.get(key)
        closing = worker.status.name in ("closing", "closed", "failed")
        return closing or task is None or task.state == "cancelled"

    return abandoned
