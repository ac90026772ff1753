"""Labels: what a name of a figure or a parameter says to a reader.

Owns the grammar of names (words, then the unit, then the statistic). Refuses to know
what is drawn.
"""

import re
from typing import Final, NamedTuple

_UNITS: Final = {
    "s": "s",
    "ms": "ms",
    "us": "µs",
    "min": "min",
    "h": "h",
    "hours": "h",
    "days": "d",
    "bytes": "B",
    "B": "B",
    "kB": "kB",
    "MB": "MB",
    "GB": "GB",
    "share": "share",
    "percent": "%",
}
_SHARES: Final = frozenset(["rate", "success"])
"""Words that are shares without saying so."""
_STATISTIC: Final = re.compile(r"mean|median|min|max|sd|se|total|p\d+")
_WHOLE_DIGITS: Final = 1e6
"""Whole numbers below are written out."""


class Label(NamedTuple):
    """What stands at an axis; an empty unit is that of a count."""

    words: str
    unit: str = ""

    @property
    def text(self) -> str:
        """Words with the unit in parentheses."""
        return f"{self.words} ({self.unit})" if self.unit else self.words


def label(name: str) -> Label:
    """Read a name such as `lookup_s_median`, `p99_s_healed` or `sent_B_per_s`."""
    tokens = name.replace(".", "_").split("_")
    statistic = ""
    if len(tokens) > 1 and _STATISTIC.fullmatch(tokens[-1]):
        statistic = tokens.pop()
    words, unit = _split_unit(tokens)
    said = " ".join(words)
    return Label(f"{said}, {statistic}" if statistic else said, unit)


def _split_unit(tokens: list[str]) -> tuple[list[str], str]:
    """Take the last unit out of the words; what has none stays whole."""
    if "per" in tokens:
        return _split_quotient(tokens)
    for at in range(len(tokens) - 1, 0, -1):
        if unit := _UNITS.get(tokens[at]):
            return tokens[:at] + tokens[at + 1 :], unit
    is_share = not _SHARES.isdisjoint(tokens)
    return tokens, _UNITS["share"] if is_share else ""


def _split_quotient(tokens: list[str]) -> tuple[list[str], str]:
    """`B_per_s` at the end; `bytes_per_user` says by itself what it is."""
    at = tokens.index("per")
    words, below = tokens[:at], tokens[at + 1 :]
    if len(words) > 1 and words[-1] in _UNITS and below:
        under = " ".join(_UNITS.get(token, token) for token in below)
        return words[:-1], f"{_UNITS[words[-1]]}/{under}"
    return tokens, ""


def number(value: float) -> str:
    """Write a number as briefly as three to four digits allow."""
    if float(value).is_integer() and abs(value) < _WHOLE_DIGITS:
        return str(int(value))
    mantissa, e, exponent = f"{value:.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
