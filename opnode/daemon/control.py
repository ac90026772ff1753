"""The control socket: terminals of the same user talk to the running node.

Owns the Unix socket (mode 0600), one conversation per client, and the way of errors to
them. Refuses to know what the verbs do.
"""

import errno
import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from opnode.core.errors import OpnodeError, StorageError
from opnode.daemon.control_messages import (
    Done,
    Event,
    Failed,
    JsonLines,
    Request,
    RequestError,
    parse_request_untrusted,
)
from opnode.daemon.control_verbs import LOST, Verbs, describe
from opnode.node.data_directory import prepare_socket_directory

logger = logging.getLogger(__name__)

BACKLOG: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """Limits of the control socket.

    ``max_clients``: terminals at once; every one of them is a person or a script of
    the same user. ``max_queued``: lines read ahead of the verb. ``first_line_s``: how
    long a client may stay silent before it names a verb.
    """

    max_clients: int = 64
    max_queued: int = 16
    first_line_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ControlStatistics:
    """Counts since the start."""

    clients: int
    failures: int


class ControlServer:
    """Serves verbs on a Unix socket."""

    def __init__(self, verbs: Verbs, config: ControlConfig | None = None) -> None:
        """Nothing is bound before ``run``."""
        self._verbs = verbs
        self._config = config or ControlConfig()
        self._clients = self._failures = 0

    async def run(
        self, path: Path, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve at ``path`` until cancelled; the socket file goes when this ends.

        The caller holds the lock of the data directory: a socket file that is already
        there was left by a process that died.

        Where there are no Unix sockets, the node goes on without control.

        Raises:
            StorageError: the socket cannot be made.
        """
        if not hasattr(socket, "AF_UNIX"):
            logger.warning("no Unix sockets here: this node cannot be controlled")
            task_status.started()
            return
        with _listener(path) as listener:
            async with trio.open_nursery() as nursery:
                task_status.started()
                await self._accept_clients(listener, nursery)

    async def _accept_clients(
        self, listener: trio.socket.SocketType, nursery: trio.Nursery
    ) -> None:
        while True:
            stream = await _accept(listener)
            if len(nursery.child_tasks) >= self._config.max_clients:
                await stream.aclose()
                continue
            nursery.start_soon(self.serve, stream)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one client until its verb ends or it hangs up."""
        self._clients += 1
        lines = JsonLines[Event](stream)
        try:
            async with stream:
                ending = await self._converse(lines)
                await lines.send(ending)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("a control client hung up")

    def statistics(self) -> ControlStatistics:
        """How many clients came, and how many verbs failed."""
        return ControlStatistics(self._clients, self._failures)

    async def _converse(self, lines: JsonLines[Event]) -> Event:
        try:
            with trio.fail_after(self._config.first_line_s):
                line = await lines.receive_line_untrusted()
            if line is None:
                raise trio.BrokenResourceError("hung up before naming a verb")
            request = parse_request_untrusted(line)
        except (RequestError, trio.TooSlowError) as error:
            self._failures += 1
            return _failure(error)
        conversation = _Conversation(lines, self._config.max_queued)
        ending = await conversation.run(self._verbs, request)
        self._failures += isinstance(ending, Failed)
        return ending


class _Conversation:
    """One client and its verb; the verb is cancelled when the client hangs up."""

    def __init__(self, lines: JsonLines[Event], max_queued: int) -> None:
        self._lines = lines
        self._queue = trio.open_memory_channel[Request](max_queued)
        self._ending: Event = Done()

    async def send(self, event: Event) -> None:
        """Report an event to the client."""
        await self._lines.send(event)

    async def receive(self) -> Request:
        """Wait for a line that follows the request."""
        return await self._queue[1].receive()

    async def run(self, verbs: Verbs, request: Request) -> Event:
        """Run the verb; returns the event that ends the conversation."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, nursery.cancel_scope)
            nursery.start_soon(self._run_verb, verbs, request, nursery.cancel_scope)
        return self._ending

    async def _run_verb(
        self, verbs: Verbs, request: Request, scope: trio.CancelScope
    ) -> None:
        try:
            await verbs.run(request, self)
        except* (OpnodeError, *LOST) as group:
            # A plain exception arrives here as a group of one.
            self._ending = _failure(group)
        scope.cancel()

    async def _read(self, scope: trio.CancelScope) -> None:
        """Queue the lines that follow; the end of them ends the verb."""
        try:
            while (line := await self._lines.receive_line_untrusted()) is not None:
                await self._queue[0].send(parse_request_untrusted(line))
        except RequestError as error:
            self._ending = _failure(error)
        except trio.BrokenResourceError:
            logger.debug("a control client broke off")
        scope.cancel()


def _failure(error: BaseException) -> Failed:
    """Name the first cause of what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    code = error.code if isinstance(error, RequestError) else type(error).__name__
    return Failed(code=code, message=describe(error))


@contextmanager
def _listener(path: Path) -> Generator[trio.socket.SocketType, None, None]:
    prepare_socket_directory(path)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with trio.socket.from_stdlib_socket(plain) as listener:
        try:
            path.unlink(missing_ok=True)
            _bind_for_owner(plain, path)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from None
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _bind_for_owner(plain: socket.socket, path: Path) -> None:
    """Bind without a moment at which other users could connect.

    The mask counts for the whole process, so nothing may run in between: trio's own
    bind would hand over to a thread.
    """
    before = os.umask(0o177)
    try:
        plain.bind(os.fspath(path))
    finally:
        os.umask(before)
    plain.listen(BACKLOG)


async def _accept(listener: trio.socket.SocketType) -> trio.SocketStream:
    while True:
        try:
            accepted, _ = await listener.accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED):
                raise
            logger.warning("cannot accept a control client: %s", error.strerror)
            await trio.sleep(0.1)
            continue
        return trio.SocketStream(accepted)
