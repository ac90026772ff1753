import json
import random

import pytest

from opnode.core.errors import ConfigError
from opnode.node.bootstrap import (
    BACKOFF_MAX_S,
    MAX_SEEDS,
    BootstrapEntry,
    backoff_s,
    read_seeds_file,
)
from opnode.protocols.websocket import GatewayUrl

KEY = bytes(range(32))


def test_an_entry_survives_its_textual_form():
    for host in ("127.0.0.1", "seed.example.org", "2001:db8::1"):
        entry = BootstrapEntry(KEY, host, 4001)
        assert BootstrapEntry.parse(str(entry)) == entry


def test_an_entry_may_name_the_websocket_of_its_node():
    gateway = GatewayUrl.parse("wss://gate.example.org/ws")
    for key in (KEY, None):
        entry = BootstrapEntry(key, "192.0.2.1", 4001, gateway)
        assert str(entry).endswith(":4001?gateway=wss://gate.example.org/ws")
        assert BootstrapEntry.parse(str(entry)) == entry


def test_an_entry_without_a_key_pins_nothing():
    entry = BootstrapEntry.parse("192.0.2.1:9")
    assert entry == BootstrapEntry(None, "192.0.2.1", 9)
    assert str(entry) == "192.0.2.1:9"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "opnode://KEY@HOST:PORT"),
        ("nowhere", "opnode://KEY@HOST:PORT"),
        (":4001", "opnode://KEY@HOST:PORT"),
        ("host:", "1 to 65535"),
        ("host:0", "1 to 65535"),
        ("host:65536", "1 to 65535"),
        ("host:٣", "1 to 65535"),
        ("host:" + "9" * 300, "1 to 65535"),
        ("opnode://abc@host:1", "52 characters"),
        ("opnode://!!!@host:1", "52 characters"),
        ("host:1?relay=yes", "gateway=URL after the question mark"),
        ("host:1?gateway=http://h", "wss://HOST"),
        ("opnode://" + "a" * 600 + "@host:1", "opnode://KEY@HOST:PORT"),
    ],
)
def test_a_wrong_entry_names_the_part_that_is_wrong(text, named):
    with pytest.raises(ConfigError, match=named):
        BootstrapEntry.parse(text)


def seeds_file(tmp_path, content):
    path = tmp_path / "seeds.json"
    path.write_text(content)
    return path


def test_the_seeds_file_gives_its_entries_in_order(tmp_path):
    entries = [BootstrapEntry(KEY, "127.0.0.1", port) for port in (1, 2, 3)]
    content = {"version": 1, "network": "main", "seeds": [str(e) for e in entries]}
    path = seeds_file(tmp_path, json.dumps(content))
    assert read_seeds_file(path, network_name="main") == tuple(entries)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "seeds"),
        ("{", "seeds"),
        ("\xff", "seeds"),
        ('{"version": 1}', "network"),
        ('{"version": "1", "network": "main", "seeds": []}', "version"),
        ('{"version": 2, "network": "main", "seeds": []}', "expected 1"),
        ('{"version": 1, "network": "test", "seeds": []}', "'main'"),
        ('{"version": 1, "network": "main", "seeds": ["x"]}', r"seeds\[0\]"),
        ('{"version": 1, "network": "main", "seeds": [], "more": 1}', "more"),
        (
            json.dumps({"version": 1, "network": "main", "seeds": ["a:1"] * 257}),
            str(MAX_SEEDS),
        ),
        (" " * 70_000, "65536 bytes"),
    ],
)
def test_a_wrong_seeds_file_is_one_clear_error(tmp_path, content, named):
    path = tmp_path / "seeds.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=named) as caught:
        read_seeds_file(path, network_name="main")
    assert str(path) in str(caught.value)


def test_a_missing_seeds_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="readable file"):
        read_seeds_file(tmp_path / "none.json", network_name="main")


def test_backoff_draws_from_the_whole_interval_and_is_bounded():
    rng = random.Random(1)
    drawn = [backoff_s(20, rng) for _ in range(500)]
    assert min(drawn) < BACKOFF_MAX_S * 0.05
    assert BACKOFF_MAX_S * 0.95 < max(drawn) <= BACKOFF_MAX_S
    assert max(backoff_s(0, rng) for _ in range(100)) <= 0.5
