from opnode.core.addresses import Endpoint
from opnode.node.addresses import MAX_REPORTERS, ObservedAddresses

WILDCARD = Endpoint("0.0.0.0", 4000)
LAN = "192.168.1.5"


def reporter(number):
    return Endpoint(f"198.51.100.{number}", 1)


def test_the_only_reporter_is_believed():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    assert observed.best is None
    observed.report(reporter(1), Endpoint("203.0.113.9", 77))
    assert observed.best == Endpoint("203.0.113.9", 77)
    assert observed.behind_nat


def test_a_single_liar_among_several_is_not_believed():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    observed.report(reporter(1), Endpoint("203.0.113.9", 77))
    observed.report(reporter(2), Endpoint("203.0.113.9", 77))
    observed.report(reporter(3), Endpoint("203.0.113.66", 1))
    assert observed.agreed == (Endpoint("203.0.113.9", 77),)


def test_a_reporter_has_one_vote():
    observed = ObservedAddresses(WILDCARD, ())
    observed.report(reporter(1), Endpoint("203.0.113.1", 1))
    observed.report(reporter(2), Endpoint("203.0.113.2", 2))
    for _ in range(5):
        observed.report(reporter(1), Endpoint("203.0.113.1", 1))
    assert observed.agreed == ()


def test_the_ports_and_neighbours_of_one_network_have_one_vote_together():
    true, false = Endpoint("9.9.9.9", 4000), Endpoint("6.6.6.6", 1)
    observed = ObservedAddresses(WILDCARD, ())
    for number in range(3):
        observed.report(Endpoint(f"20.{number}.1.1", 4000), true)
    for number in range(1, 2 * MAX_REPORTERS):
        observed.report(Endpoint(f"8.8.8.{number}", number), false)
    assert observed.agreed == (true,)


def test_our_own_address_means_no_nat():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    observed.report(reporter(1), Endpoint(LAN, 4000))
    assert not observed.behind_nat


def test_a_bound_address_is_best_until_others_say_otherwise():
    bound = Endpoint("127.0.0.1", 4000)
    observed = ObservedAddresses(bound, ("127.0.0.1",))
    assert observed.best == bound


def test_old_votes_make_room_for_new_ones():
    observed = ObservedAddresses(WILDCARD, ())
    for number in range(MAX_REPORTERS):
        observed.report(
            Endpoint("198.51.100.1", number + 1), Endpoint("203.0.113.1", 1)
        )
    for number in range(MAX_REPORTERS):
        observed.report(
            Endpoint("198.51.100.2", number + 1), Endpoint("203.0.113.2", 2)
        )
    assert observed.agreed == (Endpoint("203.0.113.2", 2),)


PUBLIC = Endpoint("8.8.8.8", 4000)


def seen_at(observed, *endpoints):
    for number, endpoint in enumerate(endpoints):
        for vote in (1, 2):
            observed.report(reporter(10 * number + vote), endpoint)
    return observed


def test_a_bound_public_or_loopback_address_is_the_only_one():
    for local in (PUBLIC, Endpoint("127.0.0.1", 4000), Endpoint("2600::1", 4000)):
        observed = seen_at(ObservedAddresses(local, (LAN,)), Endpoint("9.9.9.9", 1))
        assert observed.may_be_ours(local)
        assert not observed.may_be_ours(Endpoint(local.host, 4001))
        for host in ("9.9.9.9", LAN, "127.0.0.9", "2600::2"):
            assert not observed.may_be_ours(Endpoint(host, 4000))


def test_a_wildcard_at_a_public_interface_has_the_addresses_of_its_interfaces():
    observed = ObservedAddresses(WILDCARD, (PUBLIC.host, "172.17.0.1", "2600::1"))
    for host in (PUBLIC.host, "172.17.0.1", "127.0.0.1"):
        assert observed.may_be_ours(Endpoint(host, 4000))
        assert not observed.may_be_ours(Endpoint(host, 4001))
    assert not observed.may_be_ours(Endpoint("9.9.9.9", 4000))
    assert not observed.may_be_ours(Endpoint("2600::1", 4000))


def test_behind_a_nat_an_address_is_ours_until_others_see_us_elsewhere():
    for local in (WILDCARD, Endpoint(LAN, 4000)):
        observed = ObservedAddresses(local, (LAN, "2600::1"))
        assert observed.may_be_ours(PUBLIC)
        assert not observed.may_be_ours(Endpoint(LAN, 4001))
        seen_at(observed, PUBLIC._replace(port=61_000))
        assert observed.may_be_ours(PUBLIC)
        assert not observed.may_be_ours(Endpoint("9.9.9.9", 4000))
        assert observed.may_be_ours(Endpoint("192.168.1.66", 4000))
        seen_at(observed, PUBLIC, Endpoint("192.168.1.7", 4000))
        assert not observed.may_be_ours(Endpoint("192.168.1.66", 4000))


def test_an_invite_before_any_report_names_an_address_of_this_machine():
    interfaces = ("127.0.0.1", LAN, "203.0.113.7", "2001:db8::7")
    assert ObservedAddresses(WILDCARD, ("127.0.0.1", LAN)).guess == Endpoint(LAN, 4000)
    bound = Endpoint("127.0.0.1", 4000)
    assert ObservedAddresses(bound, interfaces).guess == bound
    assert ObservedAddresses(
        WILDCARD, ("127.0.0.1", "192.168.1.9", "8.8.8.8")
    ).guess == Endpoint("8.8.8.8", 4000)
