from pathlib import Path

import pytest

from opnode.core.errors import ConfigError
from opnode.drivers.turn.turn import TurnTransport
from opnode.node.turn_servers import read_turn_servers

GOOD = """
[[server]]
url = "turn:turn.example.org:5000?transport=tcp"
username = "me"
password = "a secret"

[[server]]
url = "turn:[2001:db8::1]"
username = "you"
password = "other"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "turn.toml"
    path.touch(mode=0o600)
    return path


def test_servers_are_read_in_their_order(path: Path):
    path.write_text(GOOD)
    one, other = read_turn_servers(path)
    assert (one.host, one.port, one.transport) == (
        "turn.example.org",
        5000,
        TurnTransport.TCP,
    )
    assert (one.username, one.password) == ("me", "a secret")
    assert str(other) == "turn:[2001:db8::1]:3478?transport=udp"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o610])
def test_a_file_that_others_may_open_is_refused(path: Path, mode: int):
    path.write_text(GOOD)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_turn_servers(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no\.toml"):
        read_turn_servers(tmp_path / "no.toml")


@pytest.mark.parametrize(
    "url",
    [
        "turns:h",
        "turn:",
        "turn:h:0",
        "turn:h:65536",
        "turn:h?transport=tls",
        "turn:me@h",
        "h:1",
        "turn:h:1\n",
    ],
)
def test_an_url_that_is_none_is_told_with_the_form(path: Path, url: str):
    entry = f'[[server]]\nurl = {url!r}\nusername = "u"\npassword = "a secret"\n'
    path.write_text(entry.replace("'", '"'))
    with pytest.raises(ConfigError, match="turn:HOST") as caught:
        read_turn_servers(path)
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "server = []",
        "[[server]]\nurl = 'turn:h'\nusername = 'u'",
        "[[server]]\nurl = 'turn:h'\nusername = 'u'\npassword = ''",
        "[[server]]\nurl = 'turn:h'\nusername = 'u'\npassword = 'a secret'\nkey = 1",
        "[[server]]\nurl = 'turn:h'\nusername = 'u'\npassword = a secret",
        "[[server]]\nurl = 'turn:h'\nusername = 1\npassword = 'a secret'",
        9 * "[[server]]\nurl = 'turn:h'\nusername = 'u'\npassword = 'a secret'\n",
        "#" * 70_000,
    ],
)
def test_what_is_no_list_of_servers_is_refused_without_a_secret(path: Path, text: str):
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_turn_servers(path)
    assert "a secret" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(path: Path):
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no TOML"):
        read_turn_servers(path)
