"""Options of a node that passes introductions on, as every server does.

Owns their names and help texts. Refuses to know what an introducer does with limits.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Final

import click

from opnode.cli.relay_options import RateType
from opnode.protocols.introductions.introducer import IntroducerConfig

_LEAST: Final = 1000.0
"""Below a kilobyte a second the first offer of a minute would be the last."""


def introducer_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--introduce-rate``, as an argument ``introducer``."""
    usual = IntroducerConfig()

    @click.option(
        "--introduce-rate",
        type=RateType(_LEAST),
        metavar="RATE",
        show_default=f"{usual.bytes_per_s / 1e3:.0f}kB",
        help="Pass on at most this much a second of strangers' introductions.",
    )
    @functools.wraps(command)
    def with_introducer(*, introduce_rate: float | None, **others: object) -> None:
        introducer = usual
        if introduce_rate is not None:
            # What may come at once lasts for as long as usual.
            burst = usual.bytes_burst / usual.bytes_per_s * introduce_rate
            introducer = dataclasses.replace(
                usual, bytes_per_s=introduce_rate, bytes_burst=burst
            )
        command(introducer=introducer, **others)

    return with_introducer
