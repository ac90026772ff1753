import contextlib
import socket
import stat

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.errors import PeerUnreachable, StorageError
from opnode.daemon import control_messages as messages
from opnode.daemon.control import ControlConfig, ControlServer
from opnode.daemon.control_messages import EVENTS, MAX_LINE, JsonLines


class FakeVerbs:
    def __init__(self):
        self.followed = []
        self.cancelled = 0

    async def run(self, request, client):
        match request:
            case messages.Id():
                await client.send(messages.Delivered(number=5))
            case messages.Lookup():
                raise PeerUnreachable("nobody there")
            case messages.Ping():
                raise trio.TooSlowError
            case messages.Send():
                raise ExceptionGroup(
                    "", [ExceptionGroup("", [PeerUnreachable("deep")])]
                )
            case messages.Chat():
                self.followed.append(await client.receive())
            case _:
                try:
                    await trio.sleep_forever()
                finally:
                    self.cancelled += 1


@pytest.fixture
def verbs():
    return FakeVerbs()


@pytest.fixture
def server(verbs):
    return ControlServer(verbs)


async def ask(server, *data):
    """Send lines; return the events that came back."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, theirs)
        for item in data:
            line = item if isinstance(item, bytes) else msgspec.json.encode(item)
            await ours.send_all(line + b"\n")
        lines = JsonLines(ours)
        events = []
        with contextlib.suppress(trio.BrokenResourceError):
            while (line := await lines.receive_line_untrusted()) is not None:
                events.append(EVENTS.decode(line))
    return events


async def test_a_verb_reports_and_then_is_done(server):
    events = await ask(server, messages.Id())
    assert events == [messages.Delivered(number=5), messages.Done()]


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (messages.Lookup(peer="a"), "PeerUnreachable", "nobody there"),
        (messages.Ping(peer="a"), "TooSlowError", "no answer in time"),
        (messages.Send(peer="a", path="/"), "PeerUnreachable", "deep"),
        (b"garbage", "MalformedRequest", "expected"),
        (b'{"version":1,"verb":"dance"}', "UnknownVerb", "dance"),
        (b'{"version":7,"verb":"id"}', "UnsupportedVersion", "7"),
        (b"x" * (MAX_LINE + 100), "MalformedRequest", "more than"),
    ],
)
async def test_k_3_a_failure_has_a_name_and_a_reason(server, request_, code, text):
    (failed,) = await ask(server, request_)
    assert failed.code == code
    assert text in failed.message
    assert server.statistics().failures == 1


async def test_lines_that_follow_reach_the_verb(server, verbs):
    said = messages.Say(number=1, text="hello")
    assert await ask(server, messages.Chat(peer="a"), said) == [messages.Done()]
    assert verbs.followed == [said]


async def test_a_bad_line_that_follows_ends_the_verb(server, verbs):
    (failed,) = await ask(server, messages.Status(), b"garbage")
    assert failed.code == "MalformedRequest"
    assert verbs.cancelled == 1


async def test_k_4_a_client_that_hangs_up_ends_its_verb(server, verbs):
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, theirs)
        await ours.send_all(msgspec.json.encode(messages.Status()) + b"\n")
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
    assert verbs.cancelled == 1


async def test_k_5_a_silent_client_is_given_up(server, autojump_clock):
    (failed,) = await ask(server)
    assert failed.code == "TooSlowError"


async def test_k_1_the_socket_is_for_its_owner_and_goes_at_the_end(
    server, tmp_path, nursery
):
    path = tmp_path / "control.sock"
    path.write_text("left by a process that died")
    tmp_path.chmod(0o700)
    async with trio.open_nursery() as serving:
        await serving.start(server.run, path)
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with await trio.open_unix_socket(path) as stream:
            await JsonLines(stream).send(messages.Id())
            lines = JsonLines(stream)
            first = await lines.receive_line_untrusted()
            assert EVENTS.decode(first) == messages.Delivered(number=5)
        serving.cancel_scope.cancel()
    assert not path.exists()


async def test_k_5_clients_beyond_the_limit_are_turned_away(verbs, tmp_path):
    tmp_path.chmod(0o700)
    server = ControlServer(verbs, ControlConfig(max_clients=1))
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as serving:
        await serving.start(server.run, path)
        async with await trio.open_unix_socket(path) as first:
            await JsonLines(first).send(messages.Status())
            await trio.testing.wait_all_tasks_blocked()
            async with await trio.open_unix_socket(path) as second:
                assert await second.receive_some() == b""
        serving.cancel_scope.cancel()


async def test_a_socket_that_cannot_be_made_is_one_clear_error(server, tmp_path):
    path = tmp_path / "none" / "deeper" / "control.sock"
    with pytest.raises(StorageError, match="none"):
        await server.run(path)


async def test_a_system_without_unix_sockets_runs_without_control(
    server, tmp_path, monkeypatch, caplog, nursery
):
    monkeypatch.delattr(socket, "AF_UNIX")
    await nursery.start(server.run, tmp_path / "control.sock")
    assert "no Unix sockets" in caplog.text
