import json
import logging
import os
import stat
import subprocess
import sys

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.errors import DataDirectoryInUse, StorageError, UnreadableKey
from opnode.core.ids import NodeId
from opnode.node.data_directory import (
    MAX_CONTACTS,
    MAX_SOCKET_PATH,
    DataDirectory,
    RememberedContact,
    control_socket_path,
    default_data_directory,
    prepare_socket_directory,
    write_atomically,
)


@pytest.fixture
def directory(tmp_path):
    with DataDirectory.open(tmp_path / "data") as directory:
        yield directory


def contact(number):
    return RememberedContact(
        node_id=NodeId(number.to_bytes(20, "big")),
        endpoint=Endpoint("192.0.2.1", 1000 + number),
        known_since=float(number) / 2,
        last_seen_at=float(number),
    )


def test_a_data_directory_is_for_its_owner_alone(directory):
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700


def test_a_second_process_is_told_who_holds_the_directory(directory):
    with pytest.raises(DataDirectoryInUse, match=f"process {os.getpid()}") as caught:
        DataDirectory.open(directory.path)
    assert str(directory.path) in str(caught.value)


def test_the_lock_of_a_killed_process_does_not_remain(tmp_path):
    code = (
        "import os, pathlib, sys; from opnode.node.data_directory import DataDirectory;"
        "DataDirectory.open(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)  # noqa: S603 - our own code
    DataDirectory.open(tmp_path).close()


def test_a_closed_directory_can_be_opened_again(tmp_path):
    directory = DataDirectory.open(tmp_path)
    directory.close()
    directory.close()
    DataDirectory.open(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file/data"):
        DataDirectory.open(tmp_path / "file" / "data")


def test_keys_are_created_once_and_stay(tmp_path):
    with DataDirectory.open(tmp_path) as directory:
        node = directory.node_key().seed
        identity = directory.identity()
        location = directory.location_keys()
    with DataDirectory.open(tmp_path) as directory:
        assert directory.node_key().seed == node
        assert directory.identity().peer_id == identity.peer_id
        assert directory.location_keys().static.secret == location.static.secret
        assert directory.location_keys().signing.seed == location.signing.seed
    assert len({node, identity.signing.seed, location.signing.seed}) == 3


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("node.key", DataDirectory.node_key),
        ("identity.key", DataDirectory.identity),
        ("location.key", DataDirectory.location_keys),
    ],
)
def test_a_damaged_key_is_an_error_and_not_a_new_key(directory, name, load):
    load(directory)
    path = directory.path / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UnreadableKey, match=name):
        load(directory)
    assert len(path.read_bytes()) == 40


def test_contacts_are_remembered_in_their_order_and_bounded(directory):
    assert directory.load_contacts() == ()
    directory.save_contacts(contact(number) for number in range(MAX_CONTACTS + 50))
    stored = json.loads((directory.path / "contacts.json").read_text())
    assert len(stored["contacts"]) == MAX_CONTACTS
    loaded = directory.load_contacts()
    assert loaded == tuple(contact(n) for n in range(MAX_CONTACTS))


def test_contacts_of_the_first_form_which_had_no_ids_are_left_out(directory):
    path = directory.path / "contacts.json"
    path.write_text(
        '{"version":1,"contacts":[{"node_key":null,"endpoint":"192.0.2.1:5","last_seen":1}]}'
    )
    assert directory.load_contacts() == ()
    assert path.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"version":1,"contacts":[{"node_key":nu',
        b"\xff\xfe",
        b'{"version":1,"contacts":[{"node_key":null,"endpoint":"x","last_seen":1}]}',
        b'{"version":1,"contacts":[{"node_id":"ab","endpoint":"1.2.3.4:5","last_seen":1}]}',
        b'{"version":1,"contacts":[{"node_id":"z","endpoint":"1.2.3.4:5","last_seen":1}]}',
        b" " * 300_000,
    ],
)
def test_a_damaged_contact_cache_is_set_aside_with_one_line(directory, data, caplog):
    path = directory.path / "contacts.json"
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert directory.load_contacts() == ()
    assert len(caplog.records) == 1
    assert (directory.path / "contacts.json.corrupt-1").read_bytes() == data
    path.write_bytes(data)
    directory.load_contacts()
    assert (directory.path / "contacts.json.corrupt-2").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_control_socket_is_in_the_directory_when_its_path_fits(tmp_path):
    assert control_socket_path(tmp_path) == tmp_path.resolve() / "control.sock"


def test_a_long_path_has_a_short_socket_of_its_own(tmp_path):
    long = tmp_path / ("d" * 60) / ("e" * 60)
    other = tmp_path / ("d" * 60) / ("f" * 60)
    path = control_socket_path(long)
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert path == control_socket_path(long) != control_socket_path(other)


def test_a_socket_directory_that_others_can_enter_is_refused(tmp_path):
    loose = tmp_path / "opnode-0"
    loose.mkdir()
    loose.chmod(0o755)
    with pytest.raises(StorageError, match="0700"):
        prepare_socket_directory(loose / "x.sock")


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StorageError, match="expected a directory"):
        prepare_socket_directory(tmp_path / "link" / "x.sock")


def test_the_default_directory_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in default_data_directory().parents
