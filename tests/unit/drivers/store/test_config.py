"""`config`: the limits of a store belong together."""

from opnode.drivers.store import StoreConfig


def test_one_network_is_allowed_a_small_part_of_the_store():
    config = StoreConfig()
    assert config.group_records <= config.max_records / 100
    assert config.local_group_records <= config.max_records / 10


def test_a_bag_in_memory_is_a_small_part_of_what_is_held():
    config = StoreConfig()
    assert config.mirrored_keys * 16 < config.max_records
