"""The file in which a user keeps TURN servers: read and checked, nothing else.

Owns the format and the permissions of the file. Refuses to know what servers are for.
A file, because secrets must not stand among the arguments of a process, which every
user of the machine may read.

    [[server]]
    url = "turn:turn.example.org:3478?transport=udp"
    username = "me"
    password = "..."
"""

import re
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Final

import msgspec

from opnode.core.errors import ConfigError
from opnode.drivers.turn.turn import TurnServer, TurnTransport

_FIELD: Final = "turn_servers"
_MAX_BYTES: Final = 1 << 16
_MAX_SERVERS: Final = 8
"""Each that is dead costs some seconds before the next one is asked."""

_MAX_TEXT: Final = 512
_DEFAULT_PORT: Final = 3478
_MAX_PORT: Final = 65_535
_URL: Final = re.compile(
    r"turn:(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?transport=(?P<transport>udp|tcp))?"
)
_URL_FORM: Final = 'url = "turn:HOST[:PORT][?transport=udp|tcp]"'

# RFC 8489 §14.3 and §14.14: less than 509 bytes; passwords have no limit of their own.
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_TEXT)]


class _Server(msgspec.Struct, forbid_unknown_fields=True):
    url: _Text
    username: _Text
    password: _Text


class _File(msgspec.Struct, forbid_unknown_fields=True):
    server: Annotated[
        list[_Server], msgspec.Meta(min_length=1, max_length=_MAX_SERVERS)
    ]


def read_turn_servers(path: Path) -> tuple[TurnServer, ...]:
    """Read the servers of a file, the best first.

    Raises:
        ConfigError: the file cannot be read, others may read it, or what is wrong in
            it; never with a secret of it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        found = f"{path}: {error.strerror}"
        raise ConfigError(_FIELD, found, "a file that you can read") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        found = f"{path} with mode {mode:04o}"
        expected = f"a file for you alone, as it has passwords: chmod 600 {path}"
        raise ConfigError(_FIELD, found, expected)
    if len(data) > _MAX_BYTES:
        raise ConfigError(_FIELD, f"{path} is larger", f"at most {_MAX_BYTES} bytes")
    return tuple(map(_parse_server, _parse(path, data).server))


def _parse(path: Path, data: bytes) -> _File:
    try:
        return msgspec.convert(tomllib.loads(data.decode()), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The parser's own words may quote a password.
        found = f"{path} is no TOML"
    except msgspec.ValidationError as error:
        found = f"{path}: {error}"
    expected = f"[[server]] with {_URL_FORM}, username and password, 1 to 8 times"
    raise ConfigError(_FIELD, found, expected)


def _parse_server(entry: _Server) -> TurnServer:
    match = _URL.fullmatch(entry.url)
    port = int((match and match["port"]) or _DEFAULT_PORT)
    if match is None or not 0 < port <= _MAX_PORT:
        raise ConfigError(_FIELD, repr(entry.url[:64]), _URL_FORM)
    return TurnServer(
        host=match["host"].strip("[]"),
        port=port,
        transport=TurnTransport(match["transport"] or "udp"),
        username=entry.username,
        password=entry.password,
    )
