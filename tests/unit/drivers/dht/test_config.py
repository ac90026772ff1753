"""`config`: the shipped limits agree with each other."""

from opnode.drivers.dht.config import DhtConfig


def test_a_lookup_asks_no_more_contacts_than_a_bucket_holds():
    config = DhtConfig()
    assert config.lookup.k <= config.routing.k


def test_the_size_is_estimated_from_as_many_as_a_lookup_ends_with():
    config = DhtConfig()
    assert config.density.k == config.lookup.k


def test_a_silent_contact_is_pinged_sooner_than_its_bucket_is_refreshed():
    config = DhtConfig()
    assert config.routing.check_min_s < config.refresh_s < config.republish_s
