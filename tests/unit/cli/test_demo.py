import json

import pytest
import trio

from opnode.cli import demo as demo_module
from opnode.cli.demo import Story
from opnode.cli.demo_program import DemoFailed
from opnode.cli.output import Output

KEYS = [
    "ok",
    "lookup_ms",
    "introduce_ms",
    "ice_ms",
    "first_byte_ms",
    "bytes",
    "seconds",
    "MBps",
    "sha256_match",
    "path",
    "seed_killed_at_byte",
    "error",
]


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    directory = tmp_path / "demo"
    directory.mkdir()
    monkeypatch.setattr(demo_module.tempfile, "mkdtemp", lambda **_: str(directory))
    return directory


def test_a_failure_is_reported_and_nothing_is_left(opnode, temporary, monkeypatch):
    async def fail(story, nursery):
        await trio.lowlevel.checkpoint()
        raise DemoFailed("the seed ended early: port in use")

    monkeypatch.setattr(Story, "_tell", fail)
    ended = opnode("demo", "--json")
    result, error = map(json.loads, ended.out.splitlines())
    assert (ended.code, ended.err) == (1, "")
    assert list(result) == KEYS
    text = "the seed ended early: port in use"
    assert (result["ok"], result["error"]) == (False, text)
    assert error == {"event": "error", "code": "demo_failed", "message": text}
    assert not temporary.exists()


def test_a_success_is_one_line_of_json(opnode, temporary, monkeypatch):
    async def succeed(story, nursery):
        await trio.lowlevel.checkpoint()
        story.result.ok = True

    monkeypatch.setattr(Story, "_tell", succeed)
    ended = opnode("demo", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["ok"] is True
    assert not temporary.exists()


def test_a_step_that_takes_too_long_is_named(opnode, temporary, monkeypatch):
    async def stall(story, nursery):
        with demo_module._step("meeting the callee", 0.01):
            await trio.sleep_forever()

    monkeypatch.setattr(Story, "_tell", stall)
    assert "meeting the callee took longer" in opnode("demo").err


def test_the_second_ctrl_c_leaves_nothing_behind(tmp_path):
    directory = tmp_path / "demo"
    directory.mkdir()
    Story(Output(is_json=True), directory, None).end_at_once()
    assert not directory.exists()


def test_the_generated_file_is_random_and_of_its_size(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_module, "GENERATED_SIZE", 2 << 20)
    demo_module._generate(tmp_path / "a")
    demo_module._generate(tmp_path / "b")
    assert (tmp_path / "a").stat().st_size == 2 << 20
    assert demo_module._sha256(tmp_path / "a") != demo_module._sha256(tmp_path / "b")
