from opnode.core.addresses import Endpoint
from opnode.node.addresses import MAX_REPORTERS, ObservedAddresses
from opnode.protocols.nat.mapping import MappingKind

WILDCARD = Endpoint("0.0.0.0", 4000)
LAN = "192.168.1.5"


def reporter(number):
    return Endpoint(f"198.51.100.{number}", 1)


def test_the_only_reporter_is_believed():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    assert observed.best is None
    observed.report(reporter(1), Endpoint("203.0.113.9", 77), 0.0)
    assert observed.best == Endpoint("203.0.113.9", 77)
    assert observed.behind_nat


def test_a_single_liar_among_several_is_not_believed():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    observed.report(reporter(1), Endpoint("203.0.113.9", 77), 0.0)
    observed.report(reporter(2), Endpoint("203.0.113.9", 77), 0.0)
    observed.report(reporter(3), Endpoint("203.0.113.66", 1), 0.0)
    assert observed.agreed == (Endpoint("203.0.113.9", 77),)


def test_a_reporter_has_one_vote():
    observed = ObservedAddresses(WILDCARD, ())
    observed.report(reporter(1), Endpoint("203.0.113.1", 1), 0.0)
    observed.report(reporter(2), Endpoint("203.0.113.2", 2), 0.0)
    for _ in range(5):
        observed.report(reporter(1), Endpoint("203.0.113.1", 1), 0.0)
    assert observed.agreed == ()


def test_the_ports_and_neighbours_of_one_network_have_one_vote_together():
    true, false = Endpoint("9.9.9.9", 4000), Endpoint("6.6.6.6", 1)
    observed = ObservedAddresses(WILDCARD, ())
    for number in range(3):
        observed.report(Endpoint(f"20.{number}.1.1", 4000), true, 0.0)
    for number in range(1, 2 * MAX_REPORTERS):
        observed.report(Endpoint(f"8.8.8.{number}", number), false, 0.0)
    assert observed.agreed == (true,)


def test_our_own_address_means_no_nat():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    observed.report(reporter(1), Endpoint(LAN, 4000), 0.0)
    assert not observed.behind_nat


def test_a_bound_address_is_best_until_others_say_otherwise():
    bound = Endpoint("127.0.0.1", 4000)
    observed = ObservedAddresses(bound, ("127.0.0.1",))
    assert observed.best == bound


def test_old_votes_make_room_for_new_ones():
    observed = ObservedAddresses(WILDCARD, ())
    for number in range(MAX_REPORTERS):
        observed.report(
            Endpoint("198.51.100.1", number + 1), Endpoint("203.0.113.1", 1), 0.0
        )
    for number in range(MAX_REPORTERS):
        observed.report(
            Endpoint("198.51.100.2", number + 1), Endpoint("203.0.113.2", 2), 0.0
        )
    assert observed.agreed == (Endpoint("203.0.113.2", 2),)


PUBLIC = Endpoint("8.8.8.8", 4000)


def seen_at(observed, *endpoints):
    for number, endpoint in enumerate(endpoints):
        for vote in (1, 2):
            observed.report(reporter(10 * number + vote), endpoint, 0.0)
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


def public_reporter(number):
    return Endpoint(f"20.{number}.0.1", 4000)


def test_it_takes_three_subnets_to_outvote_or_half_of_fewer_than_five():
    true, false = Endpoint("9.9.9.9", 4000), Endpoint("6.6.6.6", 1)
    observed = ObservedAddresses(WILDCARD, (LAN,))
    observed.report(public_reporter(1), false, 0.0)
    observed.report(public_reporter(2), true, 0.0)
    assert observed.agreed == ()
    observed.report(public_reporter(3), true, 0.0)
    assert observed.agreed == (true,)
    observed.report(public_reporter(4), false, 0.0)
    observed.report(public_reporter(5), true, 0.0)
    observed.report(public_reporter(6), true, 0.0)
    assert observed.agreed == (true,)


def test_votes_of_ten_minutes_ago_give_way_to_three_new_ones():
    before, after = Endpoint("9.9.9.9", 4000), Endpoint("9.9.9.9", 61_000)
    observed = ObservedAddresses(WILDCARD, (LAN,))
    for number in range(20):
        observed.report(public_reporter(number), before, 0.0)
    for number in range(3):
        observed.report(public_reporter(number), after, 599.0)
    assert observed.agreed[0] == before
    observed.report(public_reporter(0), after, 601.0)
    assert observed.agreed == (after,)


def test_a_machine_that_moved_forgets_what_others_saw():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    seen_at(observed, Endpoint(LAN, 4000))
    assert not observed.behind_nat
    observed.moved(("10.0.0.7",))
    assert observed.agreed == ()
    seen_at(observed, Endpoint(LAN, 4000))
    assert observed.behind_nat


def test_each_ip_version_has_votes_of_its_own_and_ipv4_comes_first():
    dual = Endpoint("::", 4000)
    four, six = Endpoint("9.9.9.9", 61_000), Endpoint("2600::5", 4000)
    observed = ObservedAddresses(dual, (LAN, "2600::5"))
    for number in range(5):
        observed.report(Endpoint(f"2600:{number}::1", 1), six, 0.0)
    assert observed.agreed == observed.reflexive == (six,)
    assert not observed.behind_nat
    for number in range(3):
        observed.report(public_reporter(number), four, 0.0)
    assert observed.agreed == observed.reflexive == (four, six)
    assert observed.best == four
    assert observed.behind_nat


def test_who_was_asked_over_the_other_ip_version_has_no_vote():
    observed = ObservedAddresses(Endpoint("::", 4000), (LAN,))
    observed.report(public_reporter(1), Endpoint("2600::5", 4000), 0.0)
    assert observed.agreed == ()


def test_behind_ports_that_all_differ_the_host_and_the_last_port_are_offered():
    observed = ObservedAddresses(WILDCARD, (LAN,))
    for number, port in enumerate((9000, 30_000, 50_000, 12_000)):
        observed.report(public_reporter(number), Endpoint("9.9.9.9", port), 0.0)
    assert observed.agreed == ()
    assert observed.nat.kind is MappingKind.RANDOM
    assert observed.reflexive == (Endpoint("9.9.9.9", 12_000),)
    assert observed.behind_nat
    assert observed.best is None
    assert observed.may_be_ours(Endpoint("9.9.9.9", 1))
    assert not observed.may_be_ours(Endpoint("9.9.9.8", 1))


def test_a_socket_for_both_ip_versions_is_at_the_addresses_of_both():
    observed = ObservedAddresses(Endpoint("::", 4000), ("8.8.8.8", "2600::1"))
    for host in ("8.8.8.8", "2600::1", "::1", "127.0.0.1"):
        assert observed.may_be_ours(Endpoint(host, 4000))
    for host in ("9.9.9.9", "2600::2"):
        assert not observed.may_be_ours(Endpoint(host, 4000))
