"""`tokens`: what an address was given it may show for 5 to 10 minutes, others never."""

import itertools

from opnode.core.addresses import Endpoint
from opnode.protocols.rpc.tokens import TokenConfig, TokenIssuer

HERE = Endpoint("192.0.2.1", 4000)
OTHER_PORT = Endpoint("192.0.2.1", 4001)
OTHER_HOST = Endpoint("192.0.2.2", 4000)


def make_issuer(**limits):
    numbers = itertools.count()
    return TokenIssuer(lambda: next(numbers).to_bytes(32), TokenConfig(**limits))


def test_a_token_is_valid_at_its_address_alone():
    issuer = make_issuer()
    token = issuer.issue(HERE, 0.0)
    assert len(token) == 8
    assert issuer.is_valid_untrusted(token, HERE, 1.0)
    assert not issuer.is_valid_untrusted(token, OTHER_PORT, 1.0)
    assert not issuer.is_valid_untrusted(token, OTHER_HOST, 1.0)


def test_no_token_and_a_wrong_token_are_invalid():
    issuer = make_issuer()
    issuer.issue(HERE, 0.0)
    assert not issuer.is_valid_untrusted(b"", HERE, 0.0)
    assert not issuer.is_valid_untrusted(bytes(8), HERE, 0.0)


def test_a_token_lives_five_minutes_at_least_and_ten_at_most():
    issuer = make_issuer()
    issuer.issue(HERE, 0.0)
    late = issuer.issue(HERE, 299.0)
    assert issuer.is_valid_untrusted(late, HERE, 599.0)
    assert not issuer.is_valid_untrusted(late, HERE, 600.0)


def test_an_address_unknown_to_the_cache_is_still_checked_with_the_older_secret():
    issuer = make_issuer(cached=1)
    token = issuer.issue(HERE, 0.0)
    issuer.issue(OTHER_HOST, 1.0)
    issuer.issue(OTHER_PORT, 301.0)
    assert issuer.is_valid_untrusted(token, HERE, 302.0)


def test_after_a_long_pause_no_old_token_is_valid():
    issuer = make_issuer()
    token = issuer.issue(HERE, 0.0)
    assert not issuer.is_valid_untrusted(token, HERE, 10_000.0)


def test_the_cache_is_bounded():
    issuer = make_issuer(cached=10)
    for port in range(1, 100):
        issuer.issue(Endpoint("192.0.2.1", port), 0.0)
        assert len(issuer._cache) <= 10
