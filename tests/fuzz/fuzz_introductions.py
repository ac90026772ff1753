"""Atheris entry: ``python -m tests.fuzz.fuzz_introductions [CORPUS] [OPTIONS]``.

The invariant: whatever the bytes, only the named refusals escape, and the genuine
message still works afterwards. The first byte chooses the target.
"""

import sys

import atheris

with atheris.instrument_imports(include=["opnode"]):
    from tests.fuzz.introduction_targets import TARGETS


def one_input(data: bytes) -> None:
    """Run one input."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
