import pytest

from opnode.core.errors import UnreadableKey
from opnode.node.data_directory import DataDirectory
from opnode.node.keys import load_keys, make_keys

NOW = 1_767_225_600.0


def test_keys_survive_a_restart(tmp_path):
    loaded = []
    for _ in range(2):
        with DataDirectory.open(tmp_path / "node") as directory:
            loaded.append(
                load_keys(directory, has_identity=True, name="desk", wall_now=NOW)
            )
    first, second = loaded
    assert first.node.public == second.node.public
    assert first.identity.peer_id == second.identity.peer_id
    assert first.location.static.public == second.location.static.public


def test_the_location_is_certified_by_the_identity(tmp_path):
    keys = make_keys(has_identity=True, name="desk", wall_now=NOW)
    certificate = keys.location.certificate
    certificate.verify(NOW)
    assert certificate.peer_id == keys.identity.peer_id
    assert certificate.name == "desk"


def test_a_seed_has_only_a_node_key(tmp_path):
    keys = make_keys(has_identity=False, name="", wall_now=NOW)
    assert keys.identity is None
    with DataDirectory.open(tmp_path / "seed") as directory:
        stored = load_keys(directory, has_identity=False, name="", wall_now=NOW)
    assert stored.location is None
    assert sorted(path.name for path in (tmp_path / "seed").glob("*.key")) == [
        "node.key"
    ]


def test_a_damaged_key_is_never_replaced(tmp_path):
    with DataDirectory.open(tmp_path / "node") as directory:
        load_keys(directory, has_identity=True, name="", wall_now=NOW)
        path = directory.path / "identity.key"
        path.write_bytes(b"damaged")
        with pytest.raises(UnreadableKey):
            load_keys(directory, has_identity=True, name="", wall_now=NOW)
        assert path.read_bytes() == b"damaged"
