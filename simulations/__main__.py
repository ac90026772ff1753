"""``python -m simulations``: see the commands that it lists."""

from collections.abc import Mapping
from typing import Final

import click

from simulations.command.lazy import LazyGroup

_COMMANDS: Final[Mapping[str, str]] = {
    "list": "simulations.command.listing:listing",
    "run": "simulations.command.run:run",
    "replay": "simulations.command.replay:replay",
    "sweep": "simulations.command.sweep:sweep",
    "plot": "simulations.command.plot:plot",
    "natlab": "simulations.natlab.command:natlab",
}


class _Commands(LazyGroup):
    places = _COMMANDS


@click.group(cls=_Commands)
def main() -> None:
    """Simulations: what happens if.

    The node's own code on a virtual network and clock (backend `real`), discrete events
    (`event`) and arrays (`vector`): from ten nodes to ten million.
    """


if __name__ == "__main__":
    main()
