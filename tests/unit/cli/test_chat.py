import json

import pytest
import trio

from opnode.cli import chat as chat_module
from opnode.core.errors import PeerUnreachable
from opnode.daemon import control_messages as messages

READY = messages.ChatReady(peer_id="op1abcdefgh", name="ann")


def conversation(*, heard=(), receipts=True, fails=False):
    """A peer that says ``heard`` and shows, or not, what it is told."""

    async def run(client):
        await client.send(READY)
        for number, text in enumerate(heard, 1):
            await client.send(messages.ChatLine(number=number, text=text))
        unshown = set(range(1, len(heard) + 1))
        while True:
            line = await client.receive()
            if isinstance(line, messages.MarkShown):
                unshown.remove(line.number)
            elif receipts:
                await client.send(messages.Delivered(number=line.number))
            if fails and not unshown:
                raise PeerUnreachable("the peer ended the chat")

    return run


def test_lines_are_said_and_marked_as_delivered(opnode, node, tmp_path):
    node.answers[messages.Chat] = conversation()
    ended = opnode("chat", "ann", "--data", tmp_path, typed="hello\n\nbye\n")
    assert ended.code == 0
    assert "(line 1 delivered)" in ended.out
    assert "(line 2 delivered)" in ended.out
    assert "line 3" not in ended.out


def test_the_peers_lines_are_shown_with_their_name(opnode, node, tmp_path):
    node.answers[messages.Chat] = conversation(heard=["hi\x1b[2J"])
    ended = opnode("chat", "ann", "--data", tmp_path, typed="x\n")
    assert "ann: hi\N{REPLACEMENT CHARACTER}[2J\n" in ended.out


def test_programs_get_every_event(opnode, node, tmp_path):
    node.answers[messages.Chat] = conversation(heard=["hi"])
    ended = opnode("chat", "ann", "--data", tmp_path, "--json", typed="x\n")
    events = [json.loads(line)["event"] for line in ended.out.splitlines()]
    assert events[0] == "chatting"
    assert sorted(events[1:]) == ["delivered", "line"]


def test_lines_that_nobody_saw_are_a_failure(opnode, node, tmp_path, monkeypatch):
    monkeypatch.setattr(chat_module, "LAST_RECEIPTS_S", 0.05)
    node.answers[messages.Chat] = conversation(receipts=False)
    ended = opnode("chat", "ann", "--data", tmp_path, typed="1\n2\n")
    assert (ended.code, ended.err) == (1, "opnode: 2 lines were not delivered\n")
    assert "(line 1 not delivered, as far as we know: 1)" in ended.out
    assert "(line 2 not delivered, as far as we know: 2)" in ended.out


def test_a_chat_that_breaks_names_the_lines_without_a_receipt(opnode, node, tmp_path):
    async def break_off(client):
        await client.send(READY)
        await client.receive()
        await client.send(messages.Delivered(number=1))
        await client.receive()
        raise PeerUnreachable("closed by peer")

    node.answers[messages.Chat] = break_off
    ended = opnode("chat", "ann", "--data", tmp_path, typed="one\ntwo\n")
    assert (ended.code, ended.err) == (1, "opnode: closed by peer\n")
    assert "(line 2 not delivered, as far as we know: two)" in ended.out
    assert "line 1 not" not in ended.out
    ended = opnode("chat", "ann", "--data", tmp_path, "--json", typed="one\ntwo\n")
    told, last = map(json.loads, ended.out.splitlines()[-2:])
    assert told == {"event": "not delivered", "number": 2, "text": "two"}
    assert (last["event"], last["code"]) == ("error", "peer_unreachable")


def test_the_end_of_the_peer_ends_the_chat(opnode, node, tmp_path):
    node.answers[messages.Chat] = conversation(
        heard=["bye"], receipts=False, fails=True
    )
    ended = opnode("chat", "ann", "--data", tmp_path, typed="x\n")
    assert (ended.code, ended.err) == (1, "opnode: the peer ended the chat\n")


def test_a_line_too_long_is_not_said(opnode, node, tmp_path):
    node.answers[messages.Chat] = conversation()
    ended = opnode("chat", "ann", "--data", tmp_path, typed="x" * 5000 + "\nok\n")
    assert "too long" in ended.out
    assert "(line 1 delivered)" in ended.out


@pytest.mark.parametrize(
    "error", [PeerUnreachable("nobody there"), trio.TooSlowError()]
)
def test_a_peer_that_cannot_be_reached_is_said(opnode, node, tmp_path, error):
    node.answers[messages.Chat] = [error]
    ended = opnode("chat", "ann", "--data", tmp_path, typed="x\n")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
