import shlex
import sys

import pytest
import trio

from opnode.cli import demo_program
from opnode.cli.demo_program import DemoFailed, Program

TALKS = """
import sys, time
print('{"event":"ready","n":1}', flush=True)
print('{"event":"ready","n":2}', flush=True)
time.sleep(60)
"""
FAILS = "import sys; print('port in use', file=sys.stderr); sys.exit(1)"


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Start a stand-in for `opnode` that runs ``code``."""

    async def start(nursery, code):
        stand_in = tmp_path / "stand_in"
        source = tmp_path / "source.py"
        source.write_text(code)
        # By way of a shell: a "#!" line cannot hold a path with a space.
        run = shlex.join([sys.executable, str(source)])
        stand_in.write_text(f"#!/bin/sh\nexec {run}\n")
        stand_in.chmod(0o700)
        monkeypatch.setattr(demo_program.sys, "executable", str(stand_in))
        program = Program("seed", tmp_path)
        await program.start(nursery, "seed")
        return program

    return start


async def test_the_first_event_of_a_name_is_waited_for(start):
    async with trio.open_nursery() as nursery:
        program = await start(nursery, TALKS)
        assert (await program.wait_event("ready"))["n"] == 1
        assert (await program.wait_event("ready"))["n"] == 1
        nursery.cancel_scope.cancel()
    assert program.process_id is None


async def test_a_program_that_ends_early_tells_its_log(start):
    async with trio.open_nursery() as nursery:
        program = await start(nursery, FAILS)
        with pytest.raises(DemoFailed, match="the seed ended early: port in use"):
            await program.wait_event("ready")


ERRS = """
print('{"event":"error","code":"config_error","message":"port taken"}', flush=True)
"""


async def test_a_program_that_fails_tells_its_error(start):
    async with trio.open_nursery() as nursery:
        program = await start(nursery, ERRS)
        with pytest.raises(DemoFailed, match="the seed ended early: port taken"):
            await program.wait_event("ready")


RECEIVES = """
import time
for done in (10, 40, 60, 100):
    print('{"event":"file progress","done":%d}' % done, flush=True)
time.sleep(60)
"""


async def test_bytes_received_are_waited_for(start):
    async with trio.open_nursery() as nursery:
        program = await start(nursery, RECEIVES)
        assert await program.wait_received(50) >= 60
        nursery.cancel_scope.cancel()


async def test_a_killed_program_is_gone(start):
    async with trio.open_nursery() as nursery:
        program = await start(nursery, TALKS)
        await program.wait_event("ready")
        assert program.process_id is not None
        await program.kill()
        assert program.process_id is None


async def test_a_program_that_does_not_leave_is_killed(start, monkeypatch):
    monkeypatch.setattr(demo_program, "LEAVE_S", 0.05)
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN)\n" + TALKS
    async with trio.open_nursery() as nursery:
        program = await start(nursery, stubborn)
        await program.wait_event("ready")
        nursery.cancel_scope.cancel()
    assert program.process_id is None


async def test_a_program_never_started_needs_no_end(tmp_path):
    await Program("seed", tmp_path).kill()
