"""A group of commands with one for every scenario, loaded when it is asked for.

Owns the names. Refuses to know what is done with a scenario.
"""

import abc

import click

from simulations.parameters import AnyScenario
from simulations.registry import SCENARIOS, load


class ScenarioGroup(click.Group, abc.ABC):
    """Every scenario is a command."""

    @abc.abstractmethod
    def command_for(self, kind: type[AnyScenario]) -> click.Command:
        """The command of this kind of scenario."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        del ctx
        return list(SCENARIOS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of this name; unknown ones are an error of one line."""
        del ctx
        return self.command_for(load(cmd_name))

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Name them only: what each asks is in `list`."""
        del ctx
        with formatter.section("Scenarios"):
            formatter.write_text(", ".join(SCENARIOS))
