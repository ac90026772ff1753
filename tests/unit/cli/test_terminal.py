import os
import sys
from contextlib import aclosing

import pytest
import trio

from opnode.cli.terminal import MAX_LINE, stdin_lines


@pytest.fixture
def keyboard(monkeypatch):
    """What is typed; closing it is Ctrl-D."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as file, os.fdopen(writer, "wb", buffering=0) as typed:
        monkeypatch.setattr(sys, "stdin", file)
        yield typed


async def read_all():
    async with aclosing(stdin_lines()) as lines:
        return [line async for line in lines]


async def test_lines_come_without_their_ends(keyboard):
    keyboard.write(b"one\r\ntwo\n\nlast")
    keyboard.close()
    assert await read_all() == ["one", "two", "", "last"]


async def test_what_is_no_text_does_not_stop_the_reading(keyboard):
    keyboard.write(b"\xff\n")
    keyboard.close()
    assert await read_all() == ["\N{REPLACEMENT CHARACTER}"]


async def test_a_line_without_end_is_cut_at_its_bound(keyboard):
    async def type_it():
        await trio.to_thread.run_sync(keyboard.write, b"x" * (MAX_LINE + 5000))
        keyboard.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(type_it)
        lines = await read_all()
    assert len(lines) == 2
    assert sum(map(len, lines)) == MAX_LINE + 5000


async def test_waiting_for_the_keyboard_can_be_cancelled(keyboard):
    with trio.move_on_after(0.01) as scope:
        await read_all()
    assert scope.cancelled_caught


async def test_a_regular_file_is_read_to_its_end(monkeypatch, tmp_path):
    path = tmp_path / "lines"
    path.write_text("one\ntwo\n")
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert await read_all() == ["one", "two"]
