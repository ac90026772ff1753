"""A program that stores records and acknowledges each, until it is killed.

It forks one writer for every line of input, so that 200 writers need not import
everything 200 times; the one before must have been killed. A writer opens the store,
which is a start-up after a kill, and puts new and newer records for ever. Its output is
one line each: `pid N`, `open`, `held OWNER SEQ` once a put returned.
"""

import os
import random
import sys

from opnode.core.ids import StorageKey
from opnode.core.records import RecordKind, build_record
from opnode.drivers.store import RecordStore
from opnode.testing.keys import seeded_signing_key

NOW = 1_800_000_000
OWNERS = 400


def write(path: str, seed: str) -> None:
    """Put records until the process is killed."""
    say(f"pid {os.getpid()}")
    store = RecordStore(path)
    say("open")
    rng = random.Random(seed)
    seqs: dict[int, int] = {}
    turn = int(seed)
    while True:
        owner = rng.randrange(OWNERS)
        # Higher than any number of an earlier writer.
        seqs[owner] = seqs.get(owner, turn * 10_000_000) + 1
        key = seeded_signing_key(f"owner {owner}")
        record = build_record(
            key,
            kind=RecordKind.CLAIM,
            key=StorageKey(key.public[:20]),
            seq=seqs[owner],
            expires_at=NOW + 3600,
            payload=rng.randbytes(rng.randrange(1000)),
        )
        store.put_untrusted(record.wire, NOW, "127.0.0.1")
        say(f"held {owner} {record.seq}")


def say(line: str) -> None:
    """One line in one system call: a kill cannot cut it."""
    os.write(1, line.encode() + b"\n")


def main() -> None:
    """Fork a writer for every seed that comes in; wait until it is gone."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            write(sys.argv[1], line.strip())
        os.waitpid(child, 0)
        say("gone")


if __name__ == "__main__":
    main()
