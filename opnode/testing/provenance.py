"""Where a figure comes from: the commit measured and the versions beneath it.

Owns what makes two results comparable. Refuses to know what was measured.
"""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from opnode.version import __version__

LIBRARIES = ("aioice", "cryptography", "kademlia", "msgspec", "pynacl", "trio")


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Versions of everything that can move a figure."""
    found = {
        "opnode": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processors": str(os.cpu_count()),
    }
    for library in libraries:
        found[library] = importlib.metadata.version(library)
    return found


def commit() -> str:
    """The revision measured, "+changes" when files differ from it, "" outside git."""
    root = Path(__file__).resolve().parent.parent.parent
    revision = _git(root, "rev-parse", "--short=12", "HEAD")
    if not revision:
        return ""
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{revision}+changes" if changed else revision


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - only our own words
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is on the PATH
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
