import hashlib
import os
import shutil

import pytest

from opnode.core.errors import TransferDeclined
from opnode.daemon import inbox as inbox_module
from opnode.daemon.inbox import Inbox, InboxConfig

CONFIG = InboxConfig(reserve_bytes=10, reserve_share=0.02, max_kept=3, keep_s=100)


@pytest.fixture
def inbox(tmp_path):
    return Inbox(tmp_path / "inbox", CONFIG, wall_clock=lambda: 100.0)


@pytest.fixture
def disk(monkeypatch):
    """A disk of 1000 bytes, as far as anybody asks; 20 of them are the reserve."""

    def fill(free, total=1000):
        usage = shutil.disk_usage("/")._replace(free=free, total=total)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    fill(1000)
    return fill


def keep(inbox, key, content, at):
    partial = inbox.open_partial(key, 500)
    partial.append([content])
    partial.close()
    os.utime(partial.path, (at, at))


def kept(inbox):
    return {path.name for path in (inbox.directory / ".partial").iterdir()}


def test_a_whole_file_gets_its_name_and_leaves_no_part(inbox):
    partial = inbox.open_partial("ab", 6)
    partial.append([b"abc", b"def"])
    assert partial.digest.digest() == hashlib.sha256(b"abcdef").digest()
    path = inbox.publish_untrusted(partial, "../a.txt")
    assert path.read_bytes() == b"abcdef"
    assert path.parent == inbox.directory
    assert list((inbox.directory / ".partial").iterdir()) == []


def test_a_part_is_hashed_and_continued(inbox):
    partial = inbox.open_partial("ab", 6)
    partial.append([b"abc"])
    partial.close()
    resumed = inbox.open_partial("ab", 6)
    assert resumed.size == 3
    resumed.append([b"def"])
    assert resumed.digest.digest() == hashlib.sha256(b"abcdef").digest()
    resumed.discard()
    assert inbox.open_partial("ab", 6).size == 0


def test_a_part_longer_than_the_file_starts_anew(inbox):
    partial = inbox.open_partial("ab", 6)
    partial.append([b"abcdefgh"])
    partial.close()
    assert inbox.open_partial("ab", 6).size == 0


def test_t_4_files_of_the_same_name_are_all_kept(inbox):
    for content in (b"1", b"2", b"3"):
        partial = inbox.open_partial("ab", 1)
        partial.append([content])
        inbox.publish_untrusted(partial, "a.txt")
    names = {p.name: p.read_bytes() for p in inbox.directory.glob("*.txt")}
    assert names == {"a.txt": b"1", "a (1).txt": b"2", "a (2).txt": b"3"}


def test_t_1_a_name_taken_at_the_last_moment_is_not_overwritten(inbox, monkeypatch):
    partial = inbox.open_partial("ab", 1)
    partial.append([b"1"])
    taken, free = inbox.directory / "a.txt", inbox.directory / "b.txt"
    taken.write_bytes(b"of another program")
    names = iter([taken, free])
    monkeypatch.setattr(inbox_module, "free_path", lambda *_: next(names))
    assert inbox.publish_untrusted(partial, "a.txt") == free
    assert taken.read_bytes() == b"of another program"


def test_a_file_system_without_links_still_gets_the_file(inbox, monkeypatch):
    def refuse(self, target):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(type(inbox.directory), "hardlink_to", refuse)
    partial = inbox.open_partial("ab", 1)
    partial.append([b"1"])
    assert inbox.publish_untrusted(partial, "a").read_bytes() == b"1"


def test_an_inbox_that_cannot_be_written_declines(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TransferDeclined, match="not writable") as caught:
        Inbox(tmp_path / "file").open_partial("ab", 1)
    assert str(tmp_path) not in str(caught.value)


def test_t_14_a_file_that_would_take_of_the_reserve_is_declined(inbox, disk):
    disk(119)
    with pytest.raises(TransferDeclined, match=r"100 bytes needed, 99 free .* of 20 "):
        inbox.open_partial("ab", 100)
    assert kept(inbox) == set()
    inbox.open_partial("ab", 99).close()
    disk(5, total=100)
    inbox.open_partial("empty", 0).close()
    with pytest.raises(TransferDeclined, match=r"1 bytes needed, 0 free .* of 10 "):
        inbox.open_partial("cd", 1)


def test_t_14_what_transfers_under_way_still_need_is_not_given_away_twice(inbox, disk):
    disk(120)
    first = inbox.open_partial("ab", 60)
    with pytest.raises(TransferDeclined, match="41 bytes needed, 40 free"):
        inbox.open_partial("cd", 41)
    first.append([bytes(10)])
    disk(110)
    inbox.open_partial("cd", 40).close()
    first.close()
    inbox.open_partial("cd", 90).close()


def test_t_14_a_resume_needs_only_what_is_missing(inbox, disk):
    keep(inbox, "ab", bytes(400), at=50)
    disk(120)
    inbox.open_partial("ab", 500).close()
    keep(inbox, "ab", bytes(1), at=50)
    disk(119)
    with pytest.raises(TransferDeclined):
        inbox.open_partial("ab", 501)
    assert kept(inbox) == {"ab"}


def test_a_disk_that_fails_while_hashing_declines(inbox, monkeypatch):
    def fail(partial):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(inbox_module, "_hash_existing", fail)
    with pytest.raises(TransferDeclined, match="Input/output"):
        inbox.open_partial("ab", 1)


def test_t_7_the_longest_untouched_parts_make_room_for_new_ones(inbox, disk):
    for number in range(5):
        keep(inbox, f"{number:02x}", b"1", at=10 + number)
    assert kept(inbox) == {"02", "03", "04"}


def test_t_7_parts_have_a_share_of_the_disk_and_the_newest_may_exceed_it(inbox, disk):
    keep(inbox, "ab", bytes(200), at=10)
    keep(inbox, "cd", bytes(300), at=20)
    inbox.drop_stale()
    assert kept(inbox) == {"cd"}
    keep(inbox, "ef", bytes(1), at=5)
    inbox.drop_stale()
    assert kept(inbox) == {"cd"}


def test_t_7_parts_that_nobody_came_back_for_in_time_are_dropped(tmp_path, disk):
    now = 100.0
    inbox = Inbox(tmp_path / "inbox", CONFIG, wall_clock=lambda: now)
    keep(inbox, "ab", b"1", at=10)
    keep(inbox, "cd", b"1", at=20)
    now = 115.0
    inbox.drop_stale()
    assert kept(inbox) == {"cd"}
    Inbox(tmp_path / "none", CONFIG).drop_stale()
    assert not (tmp_path / "none").exists()


def test_t_7_a_part_that_a_transfer_writes_is_never_dropped(inbox, disk):
    writing = inbox.open_partial("ab", 3)
    os.utime(writing.path, (-500, -500))
    for number in range(5):
        keep(inbox, f"{number:02x}", b"1", at=10 + number)
    writing.append([b"abc"])
    assert inbox.publish_untrusted(writing, "a").read_bytes() == b"abc"
