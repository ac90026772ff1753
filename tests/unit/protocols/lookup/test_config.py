"""`config`: the shipped limits agree with each other."""

from opnode.protocols.lookup.config import LookupConfig


def test_alpha_can_grow_and_the_region_is_asked_wider_still():
    config = LookupConfig()
    assert config.alpha < config.alpha_most <= config.region_alpha


def test_a_region_full_of_strangers_can_be_read_to_its_end():
    config = LookupConfig()
    # Its k honest members, 100 ids ground into it, and the way there.
    assert config.queries > config.k + 100 + 3 * config.k
