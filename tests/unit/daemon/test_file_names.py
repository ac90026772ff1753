import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.daemon.file_names import (
    FALLBACK,
    MAX_BYTES,
    free_path,
    safe_file_name_untrusted,
    split_suffix,
)


@pytest.mark.parametrize(
    ("offered", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\boot.ini", "C__boot.ini"),
        (".bashrc", "bashrc"),
        ("...", FALLBACK),
        ("", FALLBACK),
        ("a\x00b\nc\x1b[2J.txt", "abc[2J.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("name. . ", "name"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("a  b\u00a0 c", "a b c"),
        ("u\u0308", "\u00fc"),
    ],
)
def test_an_offered_name_is_kept_as_far_as_it_is_harmless(offered, kept):
    assert safe_file_name_untrusted(offered) == kept


@given(st.text(max_size=400))
def test_t_4_no_name_leaves_its_directory_or_exceeds_its_length(name):
    safe = safe_file_name_untrusted(name)
    assert safe
    assert len(safe.encode()) <= MAX_BYTES + 1
    assert not set(safe) & set("/\\\0")
    assert not safe.startswith(".")
    assert safe.isprintable()
    assert safe_file_name_untrusted(safe) == safe


def test_a_long_name_keeps_its_extension():
    safe = safe_file_name_untrusted("\u00e4" * 300 + ".tar")
    assert safe.endswith(".tar")
    assert len(safe.encode()) <= MAX_BYTES


def test_a_taken_name_gets_the_next_number(tmp_path):
    assert free_path(tmp_path, "a.txt") == tmp_path / "a.txt"
    (tmp_path / "a.txt").touch()
    (tmp_path / "a (1).txt").symlink_to("dangling")
    assert free_path(tmp_path, "a.txt") == tmp_path / "a (2).txt"


def test_only_a_short_end_counts_as_an_extension():
    assert split_suffix("a.tar.gz") == ("a.tar", ".gz")
    assert split_suffix("a." + "b" * 30) == ("a." + "b" * 30, "")
    assert split_suffix("none") == ("none", "")
