"""The code that a process runs: what has to be equal for two runs to be equal.

Owns the fingerprint and what two of them differ in. Refuses to know where processes
are.
"""

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
"""Where the packages are imported from."""
_PACKAGES: Final = ("opnode", "simulations")
_LIBRARIES: Final = ("kademlia", "msgspec", "numpy", "trio")
"""Their random numbers, orders and bytes reach the figures."""


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """Sources, interpreter and libraries of a process."""

    sources: str
    python: str
    libraries: dict[str, str]

    @classmethod
    def here(cls, module: str = "") -> Self:
        """That of this process, read from the disk as it is now.

        Args:
            module: of the scenario, which counts too where it is none of ours. What it
                imports besides does not.
        """
        return cls(
            sources=_sources(module),
            # Generators and containers keep their ways within a minor version.
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            libraries=dict(_versions()),
        )

    def differences(self, other: Self) -> list[str]:
        """What the other one has that this one has not, in words; empty when equal."""
        found = []
        if self.python != other.python:
            found.append(f"Python {other.python} instead of {self.python}")
        if self.sources != other.sources:
            found.append(f"other sources ({other.sources} instead of {self.sources})")
        for name, version in self.libraries.items():
            there = other.libraries.get(name, "none")
            if there != version:
                found.append(f"{name} {there} instead of {version}")
        return found


def is_ours(module: str) -> bool:
    """Whether a module belongs to the packages, whose commit tells what is in it."""
    return module.partition(".")[0] in _PACKAGES


def _sources(module: str) -> str:
    """A digest of every file of the packages that Python reads, names included."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    if module and not is_ours(module):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:12]


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "none"
