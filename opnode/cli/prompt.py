"""Questions to the user of `opnode up` about files that peers offer.

Owns the wording and what counts as yes. Refuses to know the policy.
"""

from contextlib import aclosing

from opnode.cli.output import Output, size_text
from opnode.cli.terminal import stdin_lines
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon.file_names import safe_file_name_untrusted
from opnode.daemon.transfer import Offer


class TerminalPrompt:
    """Asks at the terminal; one question at a time, cancelled with its task."""

    def __init__(self, output: Output) -> None:
        """The questions go where the other lines go."""
        self._output = output

    async def ask(self, peer_id: PeerId, offer: Offer) -> bool:
        """Whether the user wants the file; no answer is a no."""
        name = safe_file_name_untrusted(offer.name)
        who = format_peer_id(peer_id)
        size = size_text(offer.size)
        self._output.text(f"{who} offers {name} ({size}). Take it? [y/N]", style="bold")
        async with aclosing(stdin_lines()) as lines:
            async for line in lines:
                return line.strip().lower() in ("y", "yes")
        return False
