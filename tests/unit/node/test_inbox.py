import hashlib
import os
import shutil

import pytest

from opnode.core.errors import TransferDeclined
from opnode.node import inbox as inbox_module
from opnode.node.inbox import MAX_PARTIALS, Inbox


@pytest.fixture
def inbox(tmp_path):
    return Inbox(tmp_path / "inbox")


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


def test_t_5_a_file_that_does_not_fit_the_disk_is_declined(inbox, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=99)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(TransferDeclined, match="100 bytes needed, 99 free"):
        inbox.open_partial("ab", 100)
    inbox.open_partial("ab", 99).close()


def test_a_disk_that_fails_while_hashing_declines(inbox, monkeypatch):
    def fail(partial, size):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(inbox_module, "_hash_existing", fail)
    with pytest.raises(TransferDeclined, match="Input/output"):
        inbox.open_partial("ab", 1)


def test_t_7_old_parts_make_room_for_new_ones(inbox):
    partials = inbox.directory / ".partial"
    for number in range(MAX_PARTIALS + 3):
        inbox.open_partial(f"{number:02x}", 1).close()
        os.utime(partials / f"{number:02x}", (number, number))
    names = {path.name for path in partials.iterdir()}
    assert len(names) == MAX_PARTIALS
    assert "00" not in names
    assert f"{MAX_PARTIALS + 2:02x}" in names
