import pytest
from trio.testing import memory_stream_pair

from opnode.cli.client import ControlClient, NodeNotRunning, VerbFailed, open_client
from opnode.core.errors import PeerUnreachable, RemoteProtocolError
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import JsonLines


async def test_events_come_until_the_verb_is_done(node, tmp_path):
    answer = [messages.RoundTrip(number=n, ms=1.0) for n in range(3)]
    node.answers[messages.Ping] = answer
    async with open_client(tmp_path) as client:
        request = messages.Ping(peer="ann")
        assert [event async for event in client.events(request)] == answer
    assert node.requests == [request]


async def test_a_failed_verb_raises_its_code_and_text(node, tmp_path):
    node.answers[messages.Ping] = [PeerUnreachable("nobody there")]
    async with open_client(tmp_path) as client:
        await client.send(messages.Ping(peer="ann"))
        with pytest.raises(VerbFailed, match="nobody there") as caught:
            await client.receive()
    assert caught.value.code == "PeerUnreachable"


async def test_no_running_node_is_one_line_with_directory_and_remedy(tmp_path):
    with pytest.raises(NodeNotRunning) as caught:
        async with open_client(tmp_path):
            pytest.fail("opened")
    assert str(tmp_path) in str(caught.value)
    assert f"opnode up --data {tmp_path}" in str(caught.value)


async def test_the_default_directory_is_looked_at_without_an_option(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(NodeNotRunning, match=r"opnode up$") as caught:
        async with open_client(None):
            pytest.fail("opened")
    assert str(tmp_path / "opnode") in str(caught.value)


async def test_a_node_that_ends_meanwhile_is_said():
    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(NodeNotRunning, match="ended before"):
        await ControlClient(JsonLines(ours)).receive()


async def test_a_node_of_another_version_is_said():
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b'{"event":"unheard of"}\n')
    with pytest.raises(RemoteProtocolError, match="another version"):
        await ControlClient(JsonLines(ours)).receive()
