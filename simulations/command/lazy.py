"""Commands that are imported when they are used, and errors of one line.

Owns how a group of commands loads them. Refuses to know what they do.
"""

import importlib
from collections.abc import Mapping

import click

from opnode.core.errors import OpnodeError


class LazyGroup(click.Group):
    """A group that knows its commands as ``module:attribute``."""

    places: Mapping[str, str] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order in which they were written down."""
        del ctx
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        del ctx
        place = self.places.get(cmd_name)
        if place is None:
            return None
        module, attribute = place.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what went wrong is shown as one line."""
        try:
            return super().invoke(ctx)
        except OpnodeError as error:
            raise _UsageError(str(error)) from None


class _UsageError(click.ClickException):
    """One line, and the exit code of a command that was not understood."""

    exit_code = 2
