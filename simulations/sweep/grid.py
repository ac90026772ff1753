"""The grid of a sweep: every combination of the values that vary, for every seed.

Owns the words that name values on the command line, and how many combinations there may
be. Refuses to know what is done with them.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from opnode.core.errors import ConfigError

_NUMBER: Final = r"-?\d+(?:\.\d+)?"
_RANGE: Final = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")


class GridConfig(NamedTuple):
    """Bounds of a sweep."""

    most_runs: int = 100_000
    """A day's work for a cluster of a thousand cores, and 100 MB of results. More is a
    mistyped range."""


class Axis(NamedTuple):
    """One parameter and the words of its values, in the order of the command line."""

    name: str
    words: tuple[str, ...]


def axis(text: str, config: GridConfig) -> Axis:
    """Read `name=a,b,c`, `name=1..5` or `name=0..0.5..0.1`; ends are included.

    Where a value has commas of its own, semicolons stand between them.

    Raises:
        ConfigError: No name, no values, the same value twice, or too many.
    """
    expected = "NAME=VALUE,VALUE,... or NAME=FIRST..LAST[..STEP]"
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not _NAME.fullmatch(name):
        raise ConfigError("--vary", repr(text), expected)
    words = tuple(
        itertools.islice(_words(f"--vary {name}", values), config.most_runs + 1)
    )
    if len(words) > config.most_runs:
        raise ConfigError(
            f"--vary {name}", values, f"at most {config.most_runs} values"
        )
    if twice := _twice(words):
        raise ConfigError(f"--vary {name}", f"{twice} twice", "every value once")
    return Axis(name, words)


def seeds(text: str, config: GridConfig) -> tuple[int, ...]:
    """Read seeds as `1,2,3` or `1..20`.

    Raises:
        ConfigError: One is no whole number from 0, or they are too many.
    """
    words = itertools.islice(_words("--seeds", text), config.most_runs + 1)
    found = []
    for word in words:
        if not word.isdecimal():
            raise ConfigError("--seeds", repr(word), "whole numbers from 0")
        found.append(int(word))
    if len(found) > config.most_runs:
        raise ConfigError("--seeds", text, f"at most {config.most_runs} seeds")
    if twice := _twice(found):
        raise ConfigError("--seeds", f"{twice} twice", "every seed once")
    return tuple(found)


def _words(field: str, text: str) -> Iterator[str]:
    for part in text.split(";" if ";" in text else ","):
        word = part.strip()
        if not word:
            raise ConfigError(
                field, repr(text), "at least one value, none of them empty"
            )
        if match := _RANGE.fullmatch(word):
            yield from _range(field, word, match)
        else:
            yield word


def _range(field: str, word: str, match: re.Match[str]) -> Iterator[str]:
    # Decimals, so that a tenth is one.
    first, last, step = Decimal(match[1]), Decimal(match[2]), Decimal(match[3] or 1)
    if last < first or step <= 0:
        raise ConfigError(field, word, "FIRST..LAST[..STEP], upwards")
    for number in range(int((last - first) / step) + 1):
        yield str(first + number * step)


def _twice(words: Sequence[object]) -> str:
    seen: set[object] = set()
    for word in words:
        if word in seen:
            return str(word)
        seen.add(word)
    return ""


def combinations(
    axes: Sequence[Axis], seeds: Sequence[int], config: GridConfig
) -> list[tuple[Mapping[str, str], int]]:
    """Every combination with every seed; seeds change fastest.

    Raises:
        ConfigError: A parameter varies twice, or there are too many runs.
    """
    if twice := _twice([one.name for one in axes]):
        raise ConfigError("--vary", f"{twice} twice", "every parameter once")
    runs = len(seeds)
    for one in axes:
        runs *= len(one.words)
    if runs > config.most_runs:
        raise ConfigError(
            "--vary", f"{runs} runs", f"at most {config.most_runs}, seeds included"
        )
    return [
        (dict(zip((one.name for one in axes), words, strict=True)), seed)
        for words in itertools.product(*(one.words for one in axes))
        for seed in seeds
    ]
