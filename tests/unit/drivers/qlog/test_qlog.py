"""The logs' directory: bounds, failures, and what is on disk."""

import errno
import stat

import pytest
import trio

from opnode.core.errors import ConfigError
from opnode.drivers.qlog import qlog
from opnode.drivers.qlog.qlog import QlogConfig, QlogDirectory
from opnode.testing.qlog import read_trace

HEADER = {"trace": {"vantage_point": {"type": "client"}}}


def directory_at(path, **settings):
    return QlogDirectory(path, wall_clock=lambda: 1e9, config=QlogConfig(**settings))


def event(number):
    return {"time": number, "name": "x:y", "data": {}}


def test_only_the_owner_may_look_at_logs(tmp_path):
    directory = directory_at(tmp_path / "new" / "logs")
    file = directory.open_file("a", HEADER)
    directory.write_all()
    path = directory.path / "a.sqlog"
    assert file.is_open
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_records_come_back_in_their_order(tmp_path):
    directory = directory_at(tmp_path)
    file = directory.open_file("a", HEADER)
    for number in range(100):
        file.add(event(number))
        if number % 30 == 0:
            directory.write_all()
    file.end()
    file.add(event(100))
    directory.write_all()
    trace = read_trace(tmp_path / "a.sqlog")
    assert [e["time"] for e in trace.events] == list(range(100))
    assert trace.header["qlog_format"] == "JSON-SEQ"


def test_a_log_ends_at_its_limit_and_says_so_once(tmp_path, caplog):
    directory = directory_at(tmp_path, max_file_bytes=1000)
    file = directory.open_file("a", HEADER)
    for number in range(100):
        file.add(event(number))
    directory.write_all()
    assert not file.is_open
    assert (tmp_path / "a.sqlog").stat().st_size <= 1000
    assert len(read_trace(tmp_path / "a.sqlog").events) > 10
    assert caplog.text.count("its limit") == 1


def test_there_are_no_more_files_than_allowed_and_that_is_said_once(tmp_path, caplog):
    directory = directory_at(tmp_path, max_files=2)
    files = [directory.open_file(str(number), HEADER) for number in range(5)]
    assert [file is None for file in files] == [False, False, True, True, True]
    directory.write_all()
    assert len(list(tmp_path.iterdir())) == 2
    assert caplog.text.count("no further ones") == 1


def test_a_full_disk_ends_the_log_with_one_line(tmp_path, caplog, monkeypatch):
    directory = directory_at(tmp_path)
    file = directory.open_file("a", HEADER)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(qlog, "open", full, raising=False)
    for number in range(3):
        file.add(event(number))
        directory.write_all()
    assert not file.is_open
    assert file.is_done
    assert caplog.text.count("No space left on device") == 1
    assert len(caplog.records) == 1


def test_what_lies_there_already_is_left_alone(tmp_path, caplog):
    (tmp_path / "a.sqlog").write_text("somebody else's")
    directory = directory_at(tmp_path)
    file = directory.open_file("a", HEADER)
    directory.write_all()
    assert not file.is_open
    assert (tmp_path / "a.sqlog").read_text() == "somebody else's"
    assert "File exists" in caplog.text


def test_a_link_is_not_followed(tmp_path, caplog):
    target = tmp_path / "target"
    directory = directory_at(tmp_path / "logs")
    (directory.path / "a.sqlog").symlink_to(target)
    directory.open_file("a", HEADER)
    directory.write_all()
    assert not target.exists()
    assert "ends here" in caplog.text


def test_a_disk_that_is_too_slow_ends_the_log(tmp_path, caplog):
    directory = directory_at(tmp_path, max_waiting_bytes=500)
    file = directory.open_file("a", HEADER)
    for number in range(50):
        file.add(event(number))
    assert not file.is_open
    assert "too slow" in caplog.text


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_place_of_the_directory_is_refused_in_one_line(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="directory that can be written") as caught:
        directory_at(tmp_path / "file" / below)
    assert "Not a directory" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    # Whoever runs the tests may be allowed to write everywhere.
    monkeypatch.setattr(qlog.os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="Permission denied"):
        directory_at(tmp_path)


async def test_events_are_on_disk_soon_without_an_end(tmp_path):
    directory = directory_at(tmp_path, write_interval_s=0.001)
    async with trio.open_nursery() as nursery:
        await nursery.start(directory.run)
        file = directory.open_file("a", HEADER)
        file.add(event(1))
        with trio.fail_after(10):
            while not (tmp_path / "a.sqlog").exists():
                await trio.lowlevel.checkpoint()
        file.add(event(2))
        nursery.cancel_scope.cancel()
    assert [e["time"] for e in read_trace(tmp_path / "a.sqlog").events] == [1, 2]


async def test_many_events_are_written_before_the_interval_is_over(tmp_path):
    directory = directory_at(tmp_path, write_interval_s=3600, write_bytes=100)
    async with trio.open_nursery() as nursery:
        await nursery.start(directory.run)
        file = directory.open_file("a", HEADER)
        for number in range(10):
            file.add(event(number))
        with trio.fail_after(10):
            while not (tmp_path / "a.sqlog").exists():
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def test_a_finished_log_is_forgotten(tmp_path):
    directory = directory_at(tmp_path)
    file = directory.open_file("a", HEADER)
    file.end()
    directory.write_all()
    assert file.is_done
    assert not directory._files
