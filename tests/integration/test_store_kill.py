"""What a node acknowledged is on disk, whenever it is killed and whatever breaks.

Owns: writers that are real processes and die by SIGKILL at random points, their
start-up and the middle of a put included; files damaged at random places. Refuses to
know: power cuts, which lose what the kernel had not written yet (dht §4.11).
"""

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from opnode.drivers.store import RecordStore
from opnode.testing.keys import seeded_signing_key

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("store_writer.py")
NOW = 1_800_000_000
OWNERS = 400
LONGEST_S = 0.05
"""A writer opens the store in about 3 ms and then puts one record in 0.3 ms."""


class Writers:
    """Writers on one file, one after the other; remembers what they acknowledged."""

    def __init__(self, path):
        self.acknowledged = {}
        self.opened = 0
        self._program = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(PROGRAM), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._rest = b""

    def run_and_kill(self, seed, after_s):
        """Start a writer and kill it that long after it came to life."""
        self._program.stdin.write(f"{seed}\n".encode())
        pid = int(self._lines_until("pid")[-1].split()[1])
        # Not read meanwhile: a full pipe would stop the writer at the same place.
        select.select([], [], [], after_s)
        os.kill(pid, signal.SIGKILL)
        lines = self._lines_until("gone")
        self.opened += "open" in lines
        for line in lines:
            if line.startswith("held"):
                _, owner, seq = line.split()
                self.acknowledged[int(owner)] = int(seq)

    def close(self):
        self._program.stdin.close()
        self._program.stdout.close()
        self._program.wait(10)

    def _lines_until(self, word):
        lines = []
        while not (lines and lines[-1].startswith(word)):
            while b"\n" not in self._rest:
                part = self._program.stdout.read(65536)
                assert part, "the program of the writers ended"
                self._rest += part
            line, _, self._rest = self._rest.partition(b"\n")
            lines.append(line.decode())
        return lines


def lost(path, acknowledged):
    """The owners whose record is gone, or older than what was acknowledged."""
    with contextlib.closing(RecordStore(path)) as store:
        missing = []
        for owner, seq in acknowledged.items():
            key = seeded_signing_key(f"owner {owner}").public
            held = [r.seq for r in store.records(key[:20], NOW) if r.owner == key]
            if not held or held[0] < seq:
                missing.append((owner, seq, held))
        return missing


def kill_writers(path, times):
    rng = random.Random(times)
    with contextlib.closing(Writers(path)) as writers:
        for turn in range(times):
            writers.run_and_kill(turn, rng.uniform(0, LONGEST_S))
            # Not after each: closing the file would tidy up after the dead, which the
            # next writer has to bear.
            if turn % 5 == 0 or turn == times - 1:
                assert lost(path, writers.acknowledged) == []
    return writers


def test_no_acknowledged_record_is_lost_by_200_kills(tmp_path, caplog):
    path = tmp_path / "records.sqlite3"
    writers = kill_writers(path, 200)
    assert len(writers.acknowledged) > OWNERS / 2
    assert 0 < writers.opened < 200, "some are killed while they open the store"
    assert list(tmp_path.glob("*.corrupt-*")) == []
    assert caplog.records == []


def test_a_file_damaged_anywhere_is_no_obstacle_to_starting(tmp_path, caplog):
    path = tmp_path / "records.sqlite3"
    kill_writers(path, 5)
    whole = {file: file.read_bytes() for file in tmp_path.iterdir()}
    rng = random.Random(2)
    for _ in range(100):
        for file in tmp_path.iterdir():
            file.unlink()
        for file, content in whole.items():
            file.write_bytes(content)
        _damage(rng.choice(list(whole)), rng)
        caplog.clear()
        with contextlib.closing(RecordStore(path)) as store:
            for owner in range(50):
                store.records(seeded_signing_key(f"owner {owner}").public[:20], NOW)
        told = [r for r in caplog.records if "set aside" in r.getMessage()]
        assert len(told) == len(list(tmp_path.glob("*.corrupt-*"))) <= 1


def _damage(file, rng):
    """Overwrite a stretch, or cut the end off."""
    content = bytearray(file.read_bytes())
    start = rng.randrange(len(content))
    if rng.random() < 0.3:
        del content[start:]
    else:
        stretch = rng.randbytes(rng.randrange(1, 5000))
        content[start : start + len(stretch)] = stretch
    file.write_bytes(bytes(content))
