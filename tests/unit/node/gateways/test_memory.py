"""`gateway_memory`: what is saved comes back, what is damaged is set aside."""

import pytest

from opnode.node.bootstrap import BootstrapEntry
from opnode.node.gateways.memory import MAX_REMEMBERED, load_gateways, save_gateways
from opnode.protocols.websocket import GatewayUrl

KEY = bytes(range(32))


def entry(number):
    url = GatewayUrl("wss", f"gate{number}.example.org", 443)
    return BootstrapEntry(KEY, "192.0.2.1", 4000 + number, url)


def test_gateways_come_back_as_many_as_are_worth_it(tmp_path):
    path = tmp_path / "gateways.json"
    assert load_gateways(path) == ()
    entries = [entry(number) for number in range(MAX_REMEMBERED + 5)]
    save_gateways(path, entries)
    assert load_gateways(path) == tuple(entries[:MAX_REMEMBERED])


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b'{"version": 1, "gateways": ["nowhere"]}', b"[" * 20_000],
)
def test_a_damaged_file_is_set_aside(tmp_path, content):
    path = tmp_path / "gateways.json"
    path.write_bytes(content)
    assert load_gateways(path) == ()
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_refuses_is_told_of(tmp_path, caplog):
    save_gateways(tmp_path / "missing" / "gateways.json", [entry(1)])
    assert "not remembered" in caplog.text
