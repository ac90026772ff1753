"""Atheris entry: ``python -m tests.fuzz.fuzz_decoders [CORPUS] [OPTIONS]``.

The invariant: whatever the bytes, only the named errors escape, and what was
accepted is encoded to the same bytes. The first byte chooses the target.
"""

import sys

import atheris

with atheris.instrument_imports(include=["opnode"]):
    from tests.fuzz.decoder_targets import TARGETS


def one_input(data: bytes) -> None:
    """Run one input."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
