import os
import signal
import sys
import threading
from typing import NamedTuple

import pytest
import trio

from opnode.cli import main as main_module
from opnode.daemon.control import ControlServer
from opnode.node.data_directory import control_socket_path


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class ScriptedVerbs:
    """A node's verbs with answers that the test wrote down."""

    def __init__(self):
        self.requests = []
        self.answers = {}

    async def run(self, request, client):
        self.requests.append(request)
        answer = self.answers.get(type(request), ())
        if callable(answer):
            await answer(client)
            return
        for event in answer:
            if isinstance(event, Exception):
                raise event
            await client.send(event)


@pytest.fixture
def opnode(monkeypatch, capsys):
    """Run the command line in this process; lines may be typed at it."""

    def run(*arguments, typed=None):
        monkeypatch.setattr(sys, "argv", ["opnode", *map(str, arguments)])
        if typed is not None:
            reader, writer = os.pipe()
            os.write(writer, typed.encode())
            os.close(writer)
            monkeypatch.setattr(sys, "stdin", os.fdopen(reader))
        code = 0
        try:
            main_module.main()
        except SystemExit as ending:
            code = ending.code or 0
        finally:
            if typed is not None:
                sys.stdin.close()
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def node(tmp_path):
    """A control socket in ``tmp_path`` with scripted verbs behind it."""
    tmp_path.chmod(0o700)
    verbs = ScriptedVerbs()
    started = threading.Event()
    ending = []

    async def serve():
        async with trio.open_nursery() as nursery:
            path = control_socket_path(tmp_path)
            await nursery.start(ControlServer(verbs).run, path)
            ending.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            started.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert started.wait(10)
    yield verbs
    token, scope = ending[0]
    token.run_sync_soon(scope.cancel)
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def restored_signals():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
