"""`addresses`: each is given once."""

from opnode.core.addresses import is_public
from opnode.testing.addresses import Addresses


def test_private_addresses_follow_each_other():
    addresses = Addresses(1)
    assert [addresses.next() for _ in range(2)] == ["10.0.0.1", "10.0.0.2"]


def test_public_addresses_are_alone_in_their_subnets_and_follow_from_the_seed():
    one, same, other = (Addresses(seed, public=True) for seed in (1, 1, 2))
    given = [one.next() for _ in range(500)]
    assert all(map(is_public, given))
    assert len({host.rpartition(".")[0] for host in given}) == 500
    assert given == [same.next() for _ in range(500)]
    assert given[0] != other.next()
