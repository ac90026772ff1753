"""Files of sessions are read, or refused with the line that is none."""

from pathlib import Path

import pytest

from opnode.core.errors import ConfigError
from simulations.model.traces import read_sessions


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sessions.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "start,end\n", " Start , End\n"])
def test_sessions_are_read_by_start_with_or_without_a_header(
    tmp_path: Path, header: str
) -> None:
    path = _file(tmp_path, header + "5,10.5\n\n0,3600\n")
    assert read_sessions(path) == [(0.0, 3600.0), (5.0, 10.5)]


@pytest.mark.parametrize(
    "row", ["5", "5,6,7", "a,6", "6,5", "5,5", "-1,5", "nan,5", "0,inf", "start,end"]
)
def test_a_line_that_is_no_session_is_named(tmp_path: Path, row: str) -> None:
    path = _file(tmp_path, f"0,1\n{row}\n")
    with pytest.raises(ConfigError, match="line 2 of") as raised:
        read_sessions(path)
    assert row in str(raised.value)


@pytest.mark.parametrize("text", ["", "start,end\n", "\n\n"])
def test_a_file_without_sessions_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="no session"):
        read_sessions(_file(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_sessions(tmp_path / "none.csv")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="CSV file"):
        read_sessions(path)
