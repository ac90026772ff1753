"""`health`: a file of records is judged without touching it."""

import sqlite3

from opnode.drivers.store.health import damage_of, set_aside


def make_file(path, rows=2000):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a BLOB)")
    connection.executemany("INSERT INTO t VALUES (?)", [(bytes(100),)] * rows)
    connection.commit()
    connection.close()


def test_a_whole_file_has_no_damage_and_is_left_as_it_is(tmp_path):
    path = tmp_path / "records?.sqlite3"
    make_file(path)
    before = path.read_bytes()
    assert damage_of(path) is None
    assert path.read_bytes() == before


def test_a_file_that_is_not_there_yet_is_no_damage_and_is_not_made(tmp_path):
    path = tmp_path / "records.sqlite3"
    assert damage_of(path) is None
    assert not path.exists()


def test_what_is_no_database_is_damage(tmp_path):
    path = tmp_path / "records.sqlite3"
    path.write_bytes(b"hello" * 1000)
    assert "not a database" in damage_of(path)


def test_a_page_overwritten_in_the_middle_is_damage(tmp_path):
    path = tmp_path / "records.sqlite3"
    make_file(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 5000)
    assert damage_of(path) is not None


def test_only_the_files_set_aside_in_its_place_are_found(tmp_path):
    path = tmp_path / "records.sqlite3"
    for name in ("records.sqlite3.corrupt-1", "contacts.json.corrupt-1"):
        (tmp_path / name).touch()
    assert [found.name for found in set_aside(path)] == ["records.sqlite3.corrupt-1"]
