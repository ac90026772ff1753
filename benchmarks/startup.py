"""What starting the program costs: processor and wall time of ``opnode --version``.

A new process each time, files in the system's cache after the first, which is thrown
away. CPU seconds are user and system of that process alone.
"""

import os
import subprocess
import sys
import time

import trio

from benchmarks.figures import BenchmarkError, Report, measure


async def run(*, runs: int = 20) -> Report:
    """Measure in a worker thread, because waiting for a process blocks."""
    took = await trio.to_thread.run_sync(lambda: [_start() for _ in range(runs + 1)])
    return Report(
        figure="startup",
        measures={
            "cpu_s": measure([cpu_s for cpu_s, _ in took[1:]]),
            "wall_s": measure([wall_s for _, wall_s in took[1:]]),
        },
        facts={"runs": runs},
    )


def _start() -> tuple[float, float]:
    """CPU and wall seconds of one start."""
    began_at = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "opnode", "--version"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began_at
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise BenchmarkError(f"opnode --version ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, wall_s
