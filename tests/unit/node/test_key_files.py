import stat

import pytest

from opnode.core.errors import StorageError, UnreadableKey
from opnode.node.key_files import (
    KeyFile,
    encode_key_file,
    load_key_file,
    store_key_file,
)

KEY = KeyFile(kind="node", fields={"ed25519": bytes(range(32))})
SHAPE = {"ed25519": 32}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "node.key"
    store_key_file(path, KEY)
    return path


def rewrite(path, data):
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o600)


def test_a_stored_key_is_loaded_again(path):
    assert load_key_file(path, kind="node", fields=SHAPE) == dict(KEY.fields)


def test_a_missing_key_is_none(tmp_path):
    assert load_key_file(tmp_path / "none", kind="node", fields=SHAPE) is None


def test_a_key_file_is_for_its_owner_alone(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_key_is_never_replaced(path):
    before = path.read_bytes()
    with pytest.raises(StorageError, match="exists"):
        store_key_file(path, KeyFile(kind="node", fields={"ed25519": bytes(32)}))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["node.key"]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda data: data[:-30], "checksum"),
        (lambda _: b"", "first line"),
        (lambda data: data.replace(b"0001", b"0002"), "checksum"),
        (lambda data: b"\x80" + data, "binary"),
        (lambda data: data.replace(b"file 1", b"file 2"), "first line"),
        (lambda _: encode_key_file(KeyFile("identity", KEY.fields)), "kind: node"),
        (lambda _: encode_key_file(KeyFile("node", {"x25519": b""})), "x25519"),
        (lambda _: encode_key_file(KeyFile("node", {"ed25519": b"12"})), "2 bytes"),
    ],
)
def test_a_damaged_key_is_refused_with_its_reason_and_left_as_it_is(
    path, damage, complaint
):
    damaged = damage(path.read_bytes())
    rewrite(path, damaged)
    with pytest.raises(UnreadableKey, match=complaint) as caught:
        load_key_file(path, kind="node", fields=SHAPE)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(path, mode):
    path.chmod(mode)
    with pytest.raises(UnreadableKey, match=rf"mode {mode:04o}.*chmod 600"):
        load_key_file(path, kind="node", fields=SHAPE)


def test_a_key_that_is_a_directory_is_refused(tmp_path):
    with pytest.raises(UnreadableKey, match="expected a node key"):
        load_key_file(tmp_path, kind="node", fields=SHAPE)


def test_secrets_are_neither_in_reprs_nor_in_errors(path):
    secret = KEY.fields["ed25519"].hex()
    rewrite(path, path.read_bytes().replace(b"node", b"nose"))
    with pytest.raises(UnreadableKey) as caught:
        load_key_file(path, kind="node", fields=SHAPE)
    assert secret not in str(caught.value)
    assert "\\x01" not in repr(KEY)
