"""Options of a node that passes on datagrams for others.

Owns their names, help texts and how a rate is written. Refuses to know what a relay
does with its limits.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Final

import click

from opnode.protocols.relay import RelayConfig

_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kMG]?)B(?:/s)?", re.IGNORECASE)
_UNITS: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_LEAST: Final = RelayConfig().least_bytes_per_s
_MOST: Final = 1e10


class RateType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """Bytes a second, as people write them: 500kB, 1MB, 2.5MB."""

    name = "RATE"

    def __init__(self, least: float = _LEAST) -> None:
        self._least = least

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Parse it, or fail with what was expected."""
        if isinstance(value, float):
            return value
        text = str(value)
        match = _RATE.fullmatch(text.strip())
        expected = "expected bytes a second as 500kB, 1MB or 2.5MB"
        if match is None:
            self.fail(f"found {text[:32]!r}, {expected}", param, ctx)
        rate = float(match[1]) * _UNITS[match[2].lower()]
        if not self._least <= rate <= _MOST:
            limits = f"from {self._least / 1e3:.0f}kB to {_MOST / 1e9:.0f}GB"
            self.fail(f"found {text[:32]!r}, {expected}, {limits}", param, ctx)
        return rate


def relay_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--relay`` and ``--relay-rate``, as one argument ``relay``."""
    usual = RelayConfig()

    @click.option(
        "--relay",
        "is_relay",
        is_flag=True,
        help="Pass on sealed packets for others who find no direct path.",
    )
    @click.option(
        "--relay-rate",
        type=RateType(),
        metavar="RATE",
        show_default=f"{usual.total_bytes_per_s / 1e6:.0f}MB",
        help="With --relay: at most this much a second for all of them together.",
    )
    @functools.wraps(command)
    def with_relay(
        *, is_relay: bool, relay_rate: float | None, **others: object
    ) -> None:
        if relay_rate is not None and not is_relay:
            raise click.UsageError("--relay-rate needs --relay")
        relay = usual if is_relay else None
        if relay is not None and relay_rate is not None:
            relay = dataclasses.replace(relay, total_bytes_per_s=relay_rate)
        command(relay=relay, **others)

    return with_relay
