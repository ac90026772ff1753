"""Network namespaces: made, entered, swept, removed; the only file that runs ``ip``.

Owns the commands of iproute2, nftables and conntrack, and the processes that live in a
namespace. Refuses to know what a lab looks like.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from opnode.core.errors import OpnodeError

NETNS: Final = Path("/run/netns")
TOOLS: Final = ("ip", "nft", "tc", "conntrack")
PREFIX: Final = "natlab-"
_OWNED: Final = re.compile(rf"{PREFIX}p(\d+)n\d+-")
_CLONE_NEWNET: Final = 0x4000_0000
_SIOCGIFFLAGS: Final = 0x8913
_IFF_RUNNING: Final = 0x40
_RUNNING_TRIES: Final = 500
_RUNNING_PAUSE_S: Final = 0.005
_PAUSE: Final = threading.Event()
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

Result = TypeVar("Result")


class LabFailed(OpnodeError):  # noqa: N818 - named as in opnode.core.errors
    """A lab cannot be built or asked; the text holds what the system said."""


def obstacle() -> str | None:
    """Why no lab can be built here, in one line; None where one can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return (
            f"no NAT lab: {', '.join(missing)} not found (Debian: apt-get install "
            "iproute2 nftables conntrack)"
        )
    if os.geteuid() != 0:
        return "no NAT lab: network namespaces need root"
    name = f"{PREFIX}p{os.getpid()}n0-try"
    try:
        batch([f"netns add {name}"])
        in_namespace(name, lambda: run(["nft", "add", "table", "ip", "natlab"]))
    except (LabFailed, OSError) as error:
        return f"no NAT lab: network namespaces are not allowed here ({error})"
    finally:
        remove([name])
    return None


def run(words: Sequence[str], given: str = "") -> str:
    """Run a program of the system; returns what it wrote.

    Raises:
        LabFailed: it did not succeed.
    """
    done = subprocess.run(  # noqa: S603 - our own words
        words, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = done.stderr.strip() or f"exit code {done.returncode}"
        raise LabFailed(f"{' '.join(words)}: {'; '.join(why.splitlines())}")
    return done.stdout


def batch(lines: Iterable[str]) -> None:
    """Run many commands of ``ip`` at once; those that begin with ``-6`` come last.

    Raises:
        LabFailed: one did not succeed.
    """
    chosen = list(lines)
    for family in ("", "-6 "):
        ours = [one for one in chosen if one.startswith("-6 ") == bool(family)]
        if ours:
            text = "\n".join(one.removeprefix(family) for one in ours)
            run(["ip", *family.split(), "-batch", "-"], text + "\n")


def in_namespace(name: str, work: Callable[[], Result]) -> Result:
    """Do something in a namespace: on a thread, as only a thread can enter one.

    Programs that ``work`` starts are in the namespace, too.
    """
    results: list[Result] = []
    errors: list[Exception] = []

    def enter() -> None:
        try:
            _enter(name)
            results.append(work())
        except (LabFailed, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(name: str) -> None:
    with (NETNS / name).open("rb") as file:
        if _LIBC.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")


def in_namespaces(works: dict[str, Callable[[], None]]) -> None:
    """Do something in each of many namespaces, at the same time."""
    errors: list[Exception] = []

    def one(name: str, work: Callable[[], None]) -> None:
        try:
            in_namespace(name, work)
        except (LabFailed, OSError) as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=item) for item in works.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def set_kernel(values: dict[str, str]) -> None:
    """Set what ``sysctl`` sets, in the namespace that this thread is in.

    A setting that this kernel does not have is left out: it is a switch of a part that
    is not there.
    """
    for name, value in values.items():
        path = Path("/proc/sys", *name.split("."))
        if path.exists():
            path.write_text(value, encoding="ascii")


def wait_running() -> None:
    """Wait until every interface of this thread's namespace passes packets.

    The kernel brings an interface up behind our back, and drops what comes before.

    Raises:
        LabFailed: one does not, or its other end is missing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _ in range(_RUNNING_TRIES):
            names = [name for _, name in socket.if_nameindex()]
            idle = [name for name in names if not _is_running(asked, name)]
            if not idle:
                return
            _PAUSE.wait(_RUNNING_PAUSE_S)
    raise LabFailed(f"no packets pass {', '.join(idle)}")


def _is_running(asked: socket.socket, name: str) -> bool:
    request = struct.pack("16sH14x", name.encode(), 0)
    answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, request)
    return bool(struct.unpack("16xH14x", answer)[0] & _IFF_RUNNING)


def existing(prefix: str) -> list[str]:
    """The namespaces whose names begin so."""
    if not NETNS.is_dir():
        return []
    return sorted(one.name for one in NETNS.iterdir() if one.name.startswith(prefix))


def abandoned() -> list[str]:
    """The namespaces of labs whose process is gone."""
    found = []
    for name in existing(PREFIX):
        owner = _OWNED.match(name)
        if owner and not Path("/proc", owner[1]).exists():
            found.append(name)
    return found


def remove(names: Sequence[str]) -> None:
    """Kill what runs in the namespaces and remove them; what is not there is fine."""
    present = [name for name in names if (NETNS / name).exists()]
    for pid in processes_in(present):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for name in present:
        with contextlib.suppress(LabFailed):
            run(["ip", "netns", "delete", name])


def processes_in(names: Sequence[str]) -> list[int]:
    """The processes that live in any of the namespaces, this one never."""
    inodes = set()
    for name in names:
        with contextlib.suppress(OSError):
            inodes.add((NETNS / name).stat().st_ino)
    found = []
    for entry in Path("/proc").iterdir() if inodes else ():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in inodes:
                    found.append(int(entry.name))
    return found
