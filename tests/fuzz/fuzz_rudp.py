"""Atheris entry: ``python -m tests.fuzz.fuzz_rudp [CORPUS] [OPTIONS]``.

The invariant: whatever the bytes, nothing escapes from a connection, and without the
keys nothing changes. The first byte chooses the target.
"""

import sys

import atheris

with atheris.instrument_imports(include=["opnode"]):
    from tests.fuzz.rudp_targets import TARGETS


def one_input(data: bytes) -> None:
    """Run one input."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
