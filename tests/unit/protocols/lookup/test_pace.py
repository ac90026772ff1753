"""`pace`: more queries in flight while contacts turn out dead, and fewer again."""

from opnode.protocols.lookup.pace import Pace


def test_it_starts_with_the_least_and_stays_there_while_all_answer():
    pace = Pace(3, 12)
    for _ in range(9):
        pace.answered()
        assert pace.alpha == 3


def test_every_late_contact_adds_two_up_to_the_most():
    pace = Pace(3, 12)
    seen = []
    for _ in range(6):
        pace.missed()
        seen.append(pace.alpha)
    assert seen == [5, 7, 9, 11, 12, 12]


def test_four_answers_take_one_late_contact_back():
    pace = Pace(3, 12)
    pace.missed()
    for expected in (4, 4, 3, 3, 3):
        pace.answered()
        assert pace.alpha == expected


def test_where_a_third_is_dead_it_does_not_shrink_to_the_least():
    pace = Pace(3, 12)
    for _ in range(20):
        pace.missed()
        pace.answered()
        pace.answered()
    assert pace.alpha > 3
