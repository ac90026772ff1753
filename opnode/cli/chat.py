"""`opnode chat`: lines between this terminal and a peer.

Owns reading the keyboard, numbering what was said, and showing what was delivered.
Refuses to know how lines travel.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

from contextlib import aclosing
from pathlib import Path
from typing import Final

import click
import trio

from opnode.cli.client import ControlClient, VerbFailed, open_client
from opnode.cli.options import common_options, peer_argument
from opnode.cli.output import Output, set_up_logging
from opnode.cli.talk import run_or_raise
from opnode.cli.terminal import stdin_lines
from opnode.core.errors import PeerUnreachable
from opnode.core.text import printable
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import Event, Request

LAST_RECEIPTS_S: Final = 10.0
"""How long the end of the input waits for the receipts that are still out."""

MAX_LINE: Final = 4096
"""Bytes of a line; the protocol's limit."""


@click.command()
@peer_argument
@common_options
def chat(peer: str, *, data: Path | None, is_json: bool, is_verbose: bool) -> None:
    """Exchange lines with PEER until Ctrl-D.

    PEER is a peer id (op1...) or the name of a contact. A line is marked as delivered
    once PEER's terminal has shown it.

    \b
    Examples:
        opnode chat ann
        echo "are you there?" | opnode chat ann
    """
    set_up_logging(is_verbose=is_verbose)
    output = Output(is_json=is_json)

    async def converse() -> None:
        async with open_client(data) as client:
            await Chat(client, output).run(messages.Chat(peer=peer))

    run_or_raise(converse)


class Chat:
    """One chat at this terminal."""

    def __init__(self, client: ControlClient, output: Output) -> None:
        """Nothing is said yet."""
        self._client = client
        self._output = output
        self._undelivered: dict[int, str] = {}
        self._said = 0
        self._name = ""
        self._changed = trio.Event()
        self._failure: Exception | None = None

    async def run(self, request: Request) -> None:
        """Chat until the input ends or the peer does.

        Raises:
            PeerUnreachable: lines are left that the peer has not seen.
            VerbFailed: the peer cannot be reached, or has ended the chat.
        """
        await self._client.send(request)
        first = await self._client.receive()
        if first is not None:
            self._show_ready(first)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, nursery.cancel_scope)
                await self._say_lines()
                with trio.move_on_after(LAST_RECEIPTS_S):
                    await self._wait_delivered()
                nursery.cancel_scope.cancel()
        finally:
            self._tell_undelivered()
        if self._failure is not None:
            raise self._failure
        if self._undelivered:
            count = len(self._undelivered)
            lines = "1 line was" if count == 1 else f"{count} lines were"
            raise PeerUnreachable(f"{lines} not delivered")

    async def _say_lines(self) -> None:
        async with aclosing(stdin_lines()) as lines:
            async for line in lines:
                if not line.strip():
                    continue
                if len(line.encode()) > MAX_LINE:
                    self._output.text(
                        f"too long: a line has at most {MAX_LINE} bytes", style="red"
                    )
                    continue
                self._said += 1
                self._undelivered[self._said] = line
                await self._client.send(messages.Say(number=self._said, text=line))

    async def _listen(self, scope: trio.CancelScope) -> None:
        try:
            while (event := await self._client.receive()) is not None:
                await self._show(event)
        except VerbFailed as failure:
            self._failure = failure
        scope.cancel()

    async def _show(self, event: Event) -> None:
        self._output.event(event)
        match event:
            case messages.ChatLine(number=number, text=text):
                self._output.text(f"{self._name}: {printable(text)}")
                await self._client.send(messages.MarkShown(number=number))
            case messages.Delivered(number=number):
                self._undelivered.pop(number, None)
                self._output.text(f"  (line {number} delivered)", style="dim")
                self._changed.set()
                self._changed = trio.Event()

    def _show_ready(self, event: Event) -> None:
        self._output.event(event)
        if isinstance(event, messages.ChatReady):
            self._name = event.name or event.peer_id[:11]
            self._output.text(f"chatting with {self._name}; Ctrl-D ends", style="dim")

    def _tell_undelivered(self) -> None:
        """Name each line that has no receipt, however the chat ended.

        None is sent again by itself: a receipt can be lost, too, and the peer would see
        the line twice. Whoever wrote it knows whether that matters.
        """
        for number, text in self._undelivered.items():
            self._output.event(
                {"event": "not delivered", "number": number, "text": text}
            )
            told = f"  (line {number} not delivered, as far as we know: {text})"
            self._output.text(told, style="yellow")

    async def _wait_delivered(self) -> None:
        while self._undelivered:
            await self._changed.wait()
