"""`opnode demo`: two nodes meet on this machine, and the seed dies on the way.

Owns the story, its measured figures and the way it is told. Refuses to know protocols:
it starts the same programs that people use and watches them.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import click
import msgspec
import trio

from opnode.cli.client import ControlClient, open_client
from opnode.cli.demo_program import DemoFailed, Program
from opnode.cli.options import json_option, qlog_option, verbose_option
from opnode.cli.output import Output, ms_text, set_up_logging, size_text
from opnode.cli.progress import TransferBar
from opnode.cli.signals import run_until_signal
from opnode.core.crypto import random_bytes
from opnode.core.errors import OpnodeError
from opnode.daemon import control_messages as messages

GENERATED_SIZE: Final = 64 << 20
LOOPBACK: Final = "127.0.0.1:0"

SMALL: Final = 8 << 20
"""A smaller file can be through before anybody sees its half: 8 reports of 1 MiB."""

STEP_S: Final = 20.0
"""No step but the transfer takes longer, on the slowest machine."""

TRANSFER_S: Final = 600.0
CHUNK: Final = 1 << 20
GREETING: Final = "hello, can you hear me?"


class Result(msgspec.Struct, kw_only=True):
    """The figures, all of them measured; ``None`` where the demo did not get to."""

    ok: bool = False
    lookup_ms: float | None = None
    introduce_ms: float | None = None
    ice_ms: float | None = None
    first_byte_ms: float | None = None
    bytes: int | None = None
    seconds: float | None = None
    MBps: float | None = None
    sha256_match: bool | None = None
    path: str | None = None
    seed_killed_at_byte: int | None = None
    error: str | None = None


@click.command()
@click.argument(
    "file",
    required=False,
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
)
@qlog_option
@json_option
@verbose_option
def demo(
    file: Path | None, *, qlog: Path | None, is_json: bool, is_verbose: bool
) -> None:
    """Watch two nodes find each other and exchange FILE, on this machine.

    Starts a seed and two nodes as programs of their own, on loopback, with fresh keys
    in a temporary directory. One looks the other up by its id, is introduced, connects,
    says hello and sends FILE (64 MiB of random bytes if none is named). Half-way the
    seed is killed: the transfer goes on, because nothing is in between the two.

    \b
    Examples:
        opnode demo
        opnode demo holiday.jpg
        opnode demo --json
        opnode demo --qlog /tmp/logs
    """
    set_up_logging(is_verbose=is_verbose)
    output = Output(is_json=is_json)
    directory = Path(tempfile.mkdtemp(prefix="opnode-demo-"))
    story = Story(output, directory, file, qlog=qlog)
    try:
        interrupted = run_until_signal(story.run, on_hard_exit=story.end_at_once)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if interrupted:
        raise KeyboardInterrupt
    output.event(story.result)
    if not story.result.ok:
        raise DemoFailed(story.result.error or "the demo failed")


class Story:
    """One demonstration."""

    def __init__(
        self,
        output: Output,
        directory: Path,
        file: Path | None,
        *,
        qlog: Path | None = None,
    ) -> None:
        """Nothing is started yet."""
        self._logging = () if qlog is None else ("--qlog", str(qlog))
        self.result = Result()
        self._output = output
        self._directory = directory
        self._file = file
        self._seed = Program("seed", directory)
        self._callee = Program("callee", directory)
        self._caller = Program("caller", directory)
        self._started_at = 0.0

    async def run(self) -> None:
        """Tell the story; how it went is in ``result`` afterwards."""
        self._started_at = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                await self._tell(nursery)
                nursery.cancel_scope.cancel()
        except* (OpnodeError, trio.TooSlowError, OSError) as group:
            self.result.ok = False
            self.result.error = _first_text(group)

    def end_at_once(self) -> None:
        """Kill the programs and remove the directory: the second Ctrl-C."""
        for program in (self._seed, self._callee, self._caller):
            if program.process_id is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(program.process_id, signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _tell(self, nursery: trio.Nursery) -> None:
        with _step("starting the nodes"):
            callee_id = await self._start(nursery)
        async with open_client(self._caller.data) as client:
            with _step("meeting the callee"):
                await self._meet(client, callee_id)
        async with open_client(self._caller.data) as client:
            with _step("saying hello"):
                await self._say_hello(client, callee_id)
        source = await self._source()
        sent = await self._send(callee_id, source)
        with _step("comparing the files"):
            await self._compare(source, sent)

    async def _start(self, nursery: trio.Nursery) -> str:
        await self._seed.start(nursery, "seed", "--listen", LOOPBACK)
        invite = str((await self._seed.wait_event("ready"))["invite"])
        self._line("the seed is up: the one node that the others know")
        common = ("up", "--listen", LOOPBACK, "--bootstrap", invite, *self._logging)
        inbox = str(self._directory / "inbox")
        accept = ("--accept", "contacts", "--inbox", inbox)
        await self._callee.start(nursery, *common, *accept)
        await self._caller.start(nursery, *common)
        joined = await self._callee.wait_event("bootstrap")
        self._line(f"the callee joined: it knows {joined['contacts']} node so far")
        callee = await self._callee.wait_event("ready")
        self._line("the callee published who it is and who introduces to it")
        caller = await self._caller.wait_event("ready")
        self._line("the caller joined, too; all it has is the callee's peer id")
        async with open_client(self._callee.data) as client:
            name = messages.AddContact(name="caller", peer=str(caller["peer_id"]))
            await _drain(client, name)
        return str(callee["peer_id"])

    async def _meet(self, client: ControlClient, callee_id: str) -> None:
        request = messages.Ping(peer=callee_id, count=1)
        async with aclosing(client.events(request)) as events:
            async for event in events:
                if isinstance(event, messages.Connected):
                    self._note_meeting(event)
                elif isinstance(event, messages.RoundTrip) and event.ms is not None:
                    self._line(f"a round trip between the two takes {event.ms:.2f} ms")

    def _note_meeting(self, met: messages.Connected) -> None:
        result = self.result
        result.lookup_ms = met.lookup_ms
        result.introduce_ms = met.introduce_ms
        result.ice_ms = met.ice_ms
        result.first_byte_ms = met.first_byte_ms
        result.path = met.path
        self._line(f"lookup: found by the id in {ms_text(met.lookup_ms)}")
        self._line(
            f"introduction: offer and answer, sealed, through the seed in"
            f" {ms_text(met.introduce_ms)}"
        )
        self._line(f"ICE: found a {met.path} path in {ms_text(met.ice_ms)}")
        self._line(
            f"first byte there and back {met.first_byte_ms or 0:.1f} ms after the"
            " lookup began, encrypted end to end"
        )

    async def _say_hello(self, client: ControlClient, callee_id: str) -> None:
        request = messages.Chat(peer=callee_id)
        async with aclosing(client.events(request)) as events:
            async for event in events:
                if isinstance(event, messages.ChatReady):
                    await client.send(messages.Say(number=1, text=GREETING))
                elif isinstance(event, messages.Delivered):
                    break
        heard = await self._callee.wait_event("chat")
        if heard["text"] != GREETING:
            raise DemoFailed("the callee heard something else than was said")
        self._line(f'message delivered: "{GREETING}"')

    async def _source(self) -> Path:
        if self._file is not None:
            return self._file.absolute()
        path = self._directory / "random.bin"
        await trio.to_thread.run_sync(_generate, path)
        return path

    async def _send(self, callee_id: str, source: Path) -> messages.Sent:
        size = (await trio.Path(source).stat()).st_size
        request = messages.Send(peer=callee_id, path=str(source))
        self._line(f"sending {source.name}, {size_text(size)}")
        if size < SMALL:
            await self._kill_seed(0, size)
        started_at = trio.current_time()
        with _step("sending the file", TRANSFER_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._kill_seed_at_half, size)
                sent = await self._follow(request, source)
                nursery.cancel_scope.cancel()
        self._note_sent(sent, trio.current_time() - started_at)
        return sent

    async def _follow(self, request: messages.Send, source: Path) -> messages.Sent:
        async with (
            open_client(self._caller.data) as client,
            aclosing(client.events(request)) as events,
        ):
            with self._bar(source) as bar:
                async for event in events:
                    if isinstance(event, messages.TransferProgress):
                        bar.show(event, self._output)
                    elif isinstance(event, messages.Sent):
                        return event
        raise DemoFailed("the transfer ended without a receipt")

    def _bar(self, source: Path) -> TransferBar:
        return TransferBar(self._output, source.name)

    async def _kill_seed_at_half(self, size: int) -> None:
        """Half of the bytes are written at the callee, not just under way."""
        done = await self._callee.wait_received((size + 1) // 2)
        if self.result.seed_killed_at_byte is None:
            await self._kill_seed(done, size)

    async def _kill_seed(self, done: int, size: int) -> None:
        self.result.seed_killed_at_byte = done
        await self._seed.kill()
        percent = done * 100 // max(size, 1)
        self._line(f"the seed was killed at {percent} %; the two go on alone", "yellow")

    def _note_sent(self, sent: messages.Sent, seconds: float) -> None:
        self.result.bytes = sent.size
        self.result.seconds = round(seconds, 3)
        self.result.MBps = round(sent.size / seconds / 1e6, 1)
        self._line(
            f"file delivered: {size_text(sent.size)} in {seconds:.2f} s,"
            f" {self.result.MBps:.0f} MB/s, path {self.result.path}"
        )

    async def _compare(self, source: Path, sent: messages.Sent) -> None:
        arrived = await self._callee.wait_event("file arrived")
        ours = await trio.to_thread.run_sync(_sha256, source)
        theirs = await trio.to_thread.run_sync(_sha256, Path(str(arrived["path"])))
        match = ours == theirs == sent.sha256
        self.result.sha256_match = match
        if not match:
            raise DemoFailed("the files differ")
        if self.result.seed_killed_at_byte is None:
            raise DemoFailed("the file was through before the seed could be killed")
        self._line("both files have the same SHA-256: the demo worked", "bold green")
        self.result.ok = True

    def _line(self, text: str, style: str = "") -> None:
        elapsed = trio.current_time() - self._started_at
        self._output.text(f"{elapsed:7.3f} s  {text}", style=style)


@contextlib.contextmanager
def _step(name: str, limit_s: float = STEP_S) -> Generator[None, None, None]:
    try:
        with trio.fail_after(limit_s):
            yield
    except trio.TooSlowError:
        raise DemoFailed(f"{name} took longer than {limit_s:.0f} s") from None


async def _drain(client: ControlClient, request: messages.Request) -> None:
    async with aclosing(client.events(request)) as events:
        async for _ in events:
            continue


def _first_text(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _generate(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(GENERATED_SIZE // CHUNK):
            file.write(random_bytes(CHUNK))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
