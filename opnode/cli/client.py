"""The client of the control socket: how a command talks to the running node.

Owns finding the socket and reading its events. Refuses to know what they mean.
"""

# ruff: noqa: N818 - errors are named as in opnode.core.errors.

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from opnode.core.errors import OpnodeError, RemoteProtocolError
from opnode.daemon.control_messages import (
    EVENTS,
    Done,
    Event,
    Failed,
    JsonLines,
    Request,
)
from opnode.node.data_directory import control_socket_path, default_data_directory


class NodeNotRunning(OpnodeError):
    """No node answers in the data directory. Start one."""


class VerbFailed(OpnodeError):
    """The running node could not do what was asked; ``code`` names its error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlClient:
    """One conversation with a running node."""

    def __init__(self, lines: JsonLines[Request]) -> None:
        """Use ``open_client``."""
        self._lines = lines

    async def send(self, request: Request) -> None:
        """Send a request, or a line that follows one.

        A node that is gone is reported by ``receive``, which may have its reason.
        """
        with contextlib.suppress(trio.BrokenResourceError):
            await self._lines.send(request)

    async def receive(self) -> Event | None:
        """Wait for the next event; ``None`` when the verb has ended well.

        Raises:
            VerbFailed: the verb has failed.
            NodeNotRunning: the node ended meanwhile.
            RemoteProtocolError: a node of another version.
        """
        try:
            line = await self._lines.receive_line_untrusted()
        except trio.BrokenResourceError:
            line = None
        if line is None:
            raise NodeNotRunning("the node ended before it had answered")
        try:
            event = EVENTS.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RemoteProtocolError(
                f"the running node speaks another version: {error}"
            ) from None
        if isinstance(event, Failed):
            raise VerbFailed(event.code, event.message)
        return None if isinstance(event, Done) else event

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        """Send a request and yield its events until it has ended.

        Raises:
            VerbFailed: the verb has failed.
            NodeNotRunning: the node ended meanwhile.
        """
        await self.send(request)
        while (event := await self.receive()) is not None:
            yield event


@asynccontextmanager
async def open_client(data: Path | None) -> AsyncGenerator[ControlClient, None]:
    """Reach the node that runs on ``data``, the user's own by default.

    Raises:
        NodeNotRunning: says which directory was looked at and how to start a node.
    """
    directory = data or default_data_directory()
    try:
        stream = await trio.open_unix_socket(control_socket_path(directory))
    except (OSError, RuntimeError):
        option = f" --data {data}" if data else ""
        raise NodeNotRunning(
            f"no node runs on {directory}; start one with: opnode up{option}"
        ) from None
    async with stream:
        yield ControlClient(JsonLines(stream))
