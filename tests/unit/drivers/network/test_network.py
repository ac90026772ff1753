from opnode.drivers.network.network import NetworkConfig, segments_of


def test_a_run_splits_into_equal_segments_and_a_shorter_last_one():
    assert [bytes(part) for part in segments_of(b"aabbc", 2)] == [b"aa", b"bb", b"c"]


def test_nothing_splits_into_nothing():
    assert list(segments_of(b"", 2)) == []


def test_offload_is_on_unless_it_is_switched_off():
    assert NetworkConfig().offload
