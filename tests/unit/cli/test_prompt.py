import os
import sys

import pytest

from opnode.cli.output import Output
from opnode.cli.prompt import TerminalPrompt
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon.transfer import Offer

ANN = PeerId(bytes([1]) * 32)


@pytest.mark.parametrize(
    ("typed", "accepted"),
    [("y\n", True), ("Yes \n", True), ("n\n", False), ("\n", False), ("", False)],
)
async def test_only_a_yes_is_a_yes(monkeypatch, capsys, typed, accepted):
    reader, writer = os.pipe()
    os.write(writer, typed.encode())
    os.close(writer)
    with os.fdopen(reader) as file:
        monkeypatch.setattr(sys, "stdin", file)
        prompt = TerminalPrompt(Output(is_json=False))
        offer = Offer("../a\x1b.txt", 1_500_000, bytes(16), 0.0)
        assert await prompt.ask(ANN, offer) is accepted
    out = capsys.readouterr().out.replace("\n", "")
    assert format_peer_id(ANN) in out
    assert "a.txt (1.5 MB)" in out
