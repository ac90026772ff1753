"""The progress bar of a transfer.

Owns what people see while a file is on its way. Refuses to know the node.
"""

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from opnode.cli.output import Output, rate_text, size_text
from opnode.core.text import printable
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import Event


class TransferBar:
    """Shows the events of one `send`; the bar itself only at a terminal."""

    def __init__(self, output: Output, name: str) -> None:
        """The bar appears with the first progress."""
        self._output = output
        self._name = name
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=output.console,
            disable=output.is_json or not output.console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(printable(name), total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, event: Event, output: Output) -> None:
        """Show one event."""
        match event:
            case messages.TransferProgress(done=done, size=size):
                self._progress.update(
                    self._task, completed=done, total=size, visible=True
                )
            case messages.Connected(path=path, endpoint=endpoint):
                output.text(f"connected: path {path}, {endpoint}")
            case messages.Interrupted(reason=reason, retry_in_s=wait_s):
                output.text(
                    f"interrupted: {reason}; going on in {wait_s:.1f} s", style="yellow"
                )
            case messages.Sent():
                self._progress.update(self._task, visible=False)
                output.text(sent_text(event, self._name), style="green")


def sent_text(sent: messages.Sent, name: str) -> str:
    """One line about a file that arrived, for people."""
    new = sent.size - sent.resumed_at
    kept = f" as {sent.name}" if sent.name != name else ""
    resumed = f", {size_text(sent.resumed_at)} before" if sent.resumed_at else ""
    rate = f" at {rate_text(new, sent.seconds)}" if new else ""
    return f"sent {name}{kept}: {size_text(sent.size)}{rate}{resumed}, verified"
