"""Indices of connection ids grow together and never without limit."""

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.path import Path
from opnode.protocols.rudp.path_ids import ID_WINDOW, LATE_IDS, MAX_ID_INDEX, PathIds


def new_path(port: int = 1) -> Path:
    endpoint = Endpoint("192.0.2.2", port)
    return Path(endpoint, rtt_s=0.1, min_pto_s=0.01, max_packet_size=1200)


def test_ids_in_use_and_a_window_around_the_highest_are_accepted():
    ids, path = PathIds(initiator=True), new_path()
    assert ids.accepted([path]) == frozenset(range(ID_WINDOW + 1))
    ids.on_heard(path, 3)
    ids.on_heard(path, 6)
    assert ids.accepted([path]) == set(range(11))
    ids.on_heard(path, 20)
    assert ids.accepted([path]) == {6, *range(20 - LATE_IDS, 20 + ID_WINDOW + 1)}


def test_a_higher_index_is_followed_and_a_lower_one_is_late():
    ids, path = PathIds(initiator=True), new_path()
    ids.on_heard(path, 4)
    assert (path.receive_index, path.send_index) == (4, 4)
    path.send_index = 7
    ids.on_heard(path, 6)
    ids.on_heard(path, 5)
    assert (path.receive_index, path.send_index) == (6, 7)


def test_each_end_begins_paths_with_its_own_parity_within_the_window():
    for initiator, expected in ((True, [1, 3, None]), (False, [2, 4, None])):
        ids = PathIds(initiator=initiator)
        paths = [new_path(port) for port in range(1, 4)]
        assert [ids.index_for(path, paths) for path in paths] == expected
        ids.on_answered(paths[1])
        assert ids.index_for(paths[2], paths) == (5 if initiator else 6)


def test_an_index_that_was_given_stays():
    ids, path = PathIds(initiator=True), new_path()
    ids.on_answered(path)
    assert ids.index_for(path, [path]) == ids.index_for(path, [path]) == 1


def test_after_a_thousand_moves_there_are_no_more_ids():
    ids, path = PathIds(initiator=True), new_path()
    ids.on_heard(path, MAX_ID_INDEX)
    assert ids.accepted([path]) == {
        0,
        *range(MAX_ID_INDEX - LATE_IDS, MAX_ID_INDEX + 1),
    }
    path.send_index = MAX_ID_INDEX
    ids.on_answered(path)
    other = new_path(2)
    assert ids.index_for(other, [path, other]) is None
