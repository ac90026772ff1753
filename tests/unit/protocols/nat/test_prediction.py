import pytest

from opnode.protocols.nat.prediction import FIRST_PORT, next_ports, usual_step


@pytest.mark.parametrize(
    ("newest", "step", "probes", "expected"),
    [
        (2000, 1, [], (2001, 2002, 2003)),
        (2000, 2, [], (2002, 2004, 2006)),
        (2000, 1, [2001, 2002, 2003], (2004, 2005, 2006)),
        (2000, 2, [2002, 2004, 2006], (2008, 2010, 2012)),
        (2000, 1, [2001, None, None], (2004, 2005, 2006)),
        (2000, 1, [None, None, None], (2001, 2002, 2003)),
        # An old mapping says nothing of the row's end.
        (2000, 1, [1500, 2001, 1700], (2002, 2003, 2004)),
        (65_534, 1, [65_535], (FIRST_PORT, FIRST_PORT + 1, FIRST_PORT + 2)),
    ],
)
def test_the_row_of_ports_goes_on_where_the_probes_saw_its_end(
    newest, step, probes, expected
):
    assert next_ports(newest, step, probes, 3) == expected


def test_predicted_ports_are_ports():
    for newest in (FIRST_PORT, 65_535):
        for step in (1, 2, 16):
            ports = next_ports(newest, step, [], 5)
            assert len(set(ports)) == 5
            assert all(FIRST_PORT <= port < 1 << 16 for port in ports)


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ([], 7),
        ([2000], 7),
        ([2000, None, 2002], 7),
        ([2000, 2001], 1),
        ([2000, 2002, 2004], 2),
        ([2000, 9000], 7),
        ([2001, 2000], 7),
    ],
)
def test_neighbours_among_the_probes_show_the_step(probes, expected):
    assert usual_step(probes, 7) == expected
