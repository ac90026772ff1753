import pytest

from simulations.natlab.matrix import (
    TYPES,
    Cell,
    Matrix,
    MatrixConfig,
    Run,
    is_direct_possible,
    matrix_spec,
    table,
)

IMPOSSIBLE = {("port", "sym"), ("sym", "seq"), ("sym", "sym")}


@pytest.mark.parametrize("one", TYPES)
@pytest.mark.parametrize("other", TYPES)
def test_a_direct_path_exists_unless_both_ports_must_be_known_and_one_cannot(
    one, other
):
    is_impossible = {(one, other), (other, one)} & IMPOSSIBLE
    expected = "block" not in (one, other) and not is_impossible
    assert is_direct_possible(one, other) is expected


def test_a_round_trip_of_the_lab_is_the_one_asked_for():
    spec = matrix_spec(MatrixConfig(types=("open", "sym"), rtt_ms=50))
    assert {"aopen", "bopen", "asym", "bsym", "s1", "s2", "s3"} == set(spec.hosts)
    assert all(4 * nat.link.delay_ms == 50 for nat in spec.nats.values())


def cell(caller, callee, *runs):
    return Cell(
        caller=caller,
        callee=callee,
        is_direct_possible=is_direct_possible(caller, callee),
        runs=runs,
    )


def run(settled, connect_ms=100.0):
    direct_ms = connect_ms if settled == "direct" else None
    return Run(
        first=settled, settled=settled, connect_ms=connect_ms, direct_ms=direct_ms
    )


@pytest.mark.parametrize(
    ("pair", "runs", "says"),
    [
        (("port", "port"), [run("direct"), run("direct")], None),
        (("port", "port"), [run("direct"), run("relay")], "a direct path exists"),
        (("port", "port"), [run("direct", 400.0)], "median 400.0 ms"),
        (("sym", "sym"), [run("relay", 400.0)], None),
        (("sym", "sym"), [run("relay"), Run(error="why")], "1 of 2 failed (1: why)"),
    ],
)
def test_what_is_not_as_it_can_be_is_told(pair, runs, says):
    config = MatrixConfig(types=pair[:1], runs=len(runs), rtt_ms=50)
    matrix = Matrix(config=config, cells=(cell(*pair, *runs),))
    assert bool(matrix.missed) is bool(says)
    assert says is None or says in "".join(matrix.missed)


def test_the_table_shows_kind_and_median_of_each_pair():
    pairs = [(a, b) for a in ("open", "sym") for b in ("open", "sym")]
    cells = tuple(cell(*pair, run("direct", 12.4)) for pair in pairs)
    config = MatrixConfig(types=("open", "sym"), runs=1)
    lines = table(Matrix(config=config, cells=cells)).splitlines()
    assert lines[0].split() == ["caller", "open", "sym"]
    assert lines[2].split() == ["sym", "direct", "12", "direct", "12"]
