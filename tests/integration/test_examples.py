"""Every example runs as a reader would run it, and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parent.parent.parent
LINES = 50

PROMISES = {
    "datagrams.py": "POSITION 4",
    "echo.py": "Hello, Bob.",
    "publish_and_find.py": "introductions are passed on at 127.0.0.1:",
}


def run(name: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(ROOT / "examples" / name)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_example_has_a_promise_to_keep() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(PROMISES)


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_example_fits_on_one_screen(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_example_keeps_its_promise_and_says_nothing_on_stderr(
    name: str, tmp_path: Path
) -> None:
    done = run(name, tmp_path)
    assert done.stderr == ""
    assert done.returncode == 0
    assert PROMISES[name] in done.stdout
