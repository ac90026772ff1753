import pytest

from opnode.core.text import printable


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\r\n", "\x9b31m", "\x07", "\u202e", "\u2028"]
)
def test_nothing_that_moves_a_cursor_is_left(hostile):
    shown = printable(f"a{hostile}b")
    assert shown.isprintable()
    assert shown[0] == "a"
    assert shown[-1] == "b"


def test_what_people_write_stays_as_it_is():
    assert printable("Grüße, 世界: ok! \N{SNOWMAN}") == "Grüße, 世界: ok! \N{SNOWMAN}"
