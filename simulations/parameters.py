"""The parameters of a scenario: what they mean, and values parsed from outside.

Owns the one way in which options of the command line, values of a sweep and the heads
of traces become a scenario. Refuses to know where they come from.
"""

import difflib
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, get_args, get_origin

import msgspec

from opnode.core.errors import ConfigError
from simulations.run_context import Cell
from simulations.scenario import Figures, Scenario

AnyScenario = Scenario[Figures]

_ABOUT_ALL: Final = {
    "seed": "Everything that is drawn follows from it",
    "backend": "Which engine answers",
}
_KINDS: Final = {bool: "yes or no", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One field of a scenario, as people are told of it.

    Attributes:
        kind: ``bool``, ``int``, ``float``, ``str`` or an enum.
        low, high: bounds, both included; None where there is none.
        drawn: the distribution, where the value is the parameter of one.
    """

    name: str
    kind: type
    default: Cell
    about: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    drawn: str = ""

    @property
    def option(self) -> str:
        """As it is written on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def expected(self) -> str:
        """What a value must be, for errors and help."""
        if issubclass(self.kind, enum.Enum):
            return "one of " + ", ".join(str(one.value) for one in self.kind)
        words = _KINDS.get(self.kind, "a word")
        if self.low is not None and self.high is not None:
            return f"{words} from {self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"{words}, at least {self.low:g}"
        return words if self.high is None else f"{words}, at most {self.high:g}"


def parameters_of(kind: type[AnyScenario]) -> tuple[Parameter, ...]:
    """The parameters of a kind of scenario, in the order of their declaration."""
    return tuple(map(_parameter, msgspec.structs.fields(kind)))


def build(kind: type[AnyScenario], values: Mapping[str, Cell]) -> AnyScenario:
    """A scenario from named values; numbers may be written as text.

    Raises:
        ConfigError: an unknown name, a value out of bounds or of another type, a
            backend that does not know the scenario, or an impossible mix.
    """
    known = {one.name: one for one in parameters_of(kind)}
    for name in values:
        if name not in known:
            found = f"no parameter of {kind.name!r}"
            raise ConfigError(name, found, _suggestion(name, known))
    parsed = {name: _parse(known[name], value) for name, value in values.items()}
    scenario = msgspec.convert(parsed, kind)
    if scenario.backend not in kind.backends:
        possible = " or ".join(kind.backends)
        raise ConfigError("--backend", scenario.backend.value, possible)
    scenario.check()
    return scenario


def values_of(scenario: AnyScenario) -> dict[str, Cell]:
    """All parameters of a scenario by name; `build` makes it again from them."""
    values: dict[str, Cell] = msgspec.to_builtins(scenario)
    return values


def command_of(scenario: AnyScenario) -> str:
    """The command that repeats a run."""
    words = ["python -m simulations run", scenario.name]
    # Sizes first, then the seed, then the rest as it was declared.
    always = ("nodes", "servers", "users", "seed")
    for one in sorted(
        parameters_of(type(scenario)),
        key=lambda p: always.index(p.name) if p.name in always else len(always),
    ):
        value = getattr(scenario, one.name)
        if one.name in always or value != one.default:
            words.append(one.option if value is True else f"{one.option} {value}")
    return " ".join(words)


def _parameter(field: msgspec.structs.FieldInfo) -> Parameter:
    kind, meta = field.type, msgspec.Meta()
    if get_origin(kind) is Annotated:
        kind, meta = get_args(kind)
    extra = meta.extra or {}
    return Parameter(
        name=field.name,
        kind=kind,
        default=field.default,
        about=meta.description or _ABOUT_ALL.get(field.name, ""),
        unit=extra.get("unit", ""),
        low=meta.ge,
        high=meta.le,
        drawn=extra.get("drawn", ""),
    )


def _parse(known: Parameter, value: Cell) -> Cell:
    # Text is read leniently, as digits; everything else has to be of the type itself.
    strict = not isinstance(value, str)
    try:
        parsed: Cell = msgspec.convert(value, known.kind, strict=strict)
    except msgspec.ValidationError:
        raise ConfigError(known.option, repr(value), known.expected) from None
    if isinstance(parsed, (int, float)) and not _within(known, parsed):
        raise ConfigError(known.option, f"{parsed:g}", known.expected)
    return parsed


def _within(known: Parameter, value: float) -> bool:
    # Written so that NaN lies outside.
    low = known.low is None or value >= known.low
    return low and (known.high is None or value <= known.high)


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{near[0]!r}?" if near else "one of " + ", ".join(sorted(known))
