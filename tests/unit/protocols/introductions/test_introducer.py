"""The introducer's desk: registrations, rates, ways back and their bounds."""

from dataclasses import replace

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, IntroductionRefused, RefusalCode
from opnode.protocols.introductions.introducer import IntroducerConfig, IntroducerDesk
from opnode.protocols.introductions.parts import MAX_PART

TARGET = Endpoint("192.0.2.1", 1000)
CALLER = Endpoint("198.51.100.1", 2000)
OTHER = Endpoint("198.51.100.2", 2000)
HANDLE = b"handle of target"
SMALL = IntroducerConfig(
    max_registrations=3,
    max_registrations_per_host=2,
    max_lifetime_s=100.0,
    offers_per_s=1.0,
    offers_burst=3.0,
    total_offers_per_s=2.0,
    total_burst=5.0,
    max_sources=2,
)


def refusal_of(desk: IntroducerDesk, source: Endpoint, now: float) -> RefusalCode:
    with pytest.raises(IntroductionRefused) as caught:
        desk.route(HANDLE, source, now)
    return caught.value.code


def desk_with_target(config: IntroducerConfig = SMALL) -> IntroducerDesk:
    desk = IntroducerDesk(config)
    desk.register(HANDLE, TARGET, 100.0, 0.0)
    return desk


def test_an_offer_goes_to_where_the_handle_is_registered():
    assert desk_with_target().route(HANDLE, CALLER, 1.0) == TARGET


def test_an_unknown_handle_gets_a_named_refusal():
    desk = IntroducerDesk()
    assert refusal_of(desk, CALLER, 0.0) is RefusalCode.UNKNOWN_TARGET
    assert desk.statistics().refused == {RefusalCode.UNKNOWN_TARGET: 1}


def test_a_registration_ends_with_its_lifetime_and_is_swept():
    desk = desk_with_target()
    assert desk.route(HANDLE, CALLER, 99.9) == TARGET
    assert refusal_of(desk, CALLER, 100.0) is RefusalCode.UNKNOWN_TARGET
    desk.register(b"another", OTHER, 5.0, 101.0)
    assert desk.statistics().registrations == 1


def test_a_sweep_is_not_made_twice_within_a_second():
    desk = IntroducerDesk(SMALL)
    desk.register(b"short", TARGET, 0.5, 2.0)
    desk.register(b"long", TARGET, 50.0, 2.9)
    assert desk.statistics().registrations == 2
    desk.register(b"other", OTHER, 50.0, 3.0)
    assert desk.statistics().registrations == 2


@pytest.mark.parametrize(("wanted", "granted"), [(5.0, 5.0), (1e9, 100.0), (-1.0, 0.0)])
def test_a_lifetime_is_granted_up_to_the_limit(wanted: float, granted: float):
    assert IntroducerDesk(SMALL).register(HANDLE, TARGET, wanted, 0.0) == granted


def test_a_renewal_moves_the_handle_and_takes_no_second_place():
    desk = desk_with_target()
    desk.register(HANDLE, OTHER, 100.0, 50.0)
    assert desk.route(HANDLE, CALLER, 120.0) == OTHER
    assert desk.statistics().registrations == 1


def test_an_unregistered_handle_is_unknown_at_once():
    desk = desk_with_target()
    desk.unregister(HANDLE)
    desk.unregister(HANDLE)
    assert refusal_of(desk, CALLER, 0.0) is RefusalCode.UNKNOWN_TARGET


def test_registrations_are_capped_in_total_but_renewals_pass():
    desk = IntroducerDesk(SMALL)
    for number in range(3):
        host = f"192.0.2.{number + 1}"
        desk.register(bytes([number]), Endpoint(host, 1), 100.0, 0.0)
    with pytest.raises(IntroductionRefused, match="no room") as caught:
        desk.register(b"fourth", OTHER, 100.0, 0.0)
    assert caught.value.code is RefusalCode.BUSY
    desk.register(bytes([0]), OTHER, 100.0, 0.0)


def test_registrations_are_capped_per_host_and_a_refused_move_keeps_the_old_place():
    desk = IntroducerDesk(SMALL)
    for port in (1, 2):
        desk.register(bytes([port]), Endpoint("192.0.2.9", port), 100.0, 0.0)
    desk.register(HANDLE, TARGET, 100.0, 0.0)
    with pytest.raises(IntroductionRefused, match="of one host"):
        desk.register(HANDLE, Endpoint("192.0.2.9", 3), 100.0, 0.0)
    assert desk.route(HANDLE, CALLER, 0.0) == TARGET
    desk.register(bytes([1]), Endpoint("192.0.2.9", 7), 100.0, 0.0)


def test_a_source_beyond_its_burst_is_refused_until_its_bucket_refills():
    desk = desk_with_target()
    for _ in range(3):
        desk.route(HANDLE, CALLER, 0.0)
    assert refusal_of(desk, CALLER, 0.5) is RefusalCode.BUSY
    assert desk.route(HANDLE, OTHER, 0.5) == TARGET
    assert desk.route(HANDLE, CALLER, 1.0) == TARGET


def test_guessing_handles_costs_tokens_too():
    desk = IntroducerDesk(SMALL)
    for _ in range(3):
        assert refusal_of(desk, CALLER, 0.0) is RefusalCode.UNKNOWN_TARGET
    assert refusal_of(desk, CALLER, 0.0) is RefusalCode.BUSY


def test_ports_of_one_host_share_a_bucket():
    desk = desk_with_target()
    for port in range(1, 4):
        desk.route(HANDLE, Endpoint(CALLER.host, port), 0.0)
    assert refusal_of(desk, Endpoint(CALLER.host, 9), 0.0) is RefusalCode.BUSY


def test_addresses_of_one_ipv6_site_share_a_bucket():
    desk = desk_with_target()
    for number in range(1, 4):
        desk.route(HANDLE, Endpoint(f"2001:db8::{number}", 1), 0.0)
    assert refusal_of(desk, Endpoint("2001:db8::9", 1), 0.0) is RefusalCode.BUSY
    assert desk.route(HANDLE, Endpoint("2001:db8:0:1::1", 1), 0.0) == TARGET


def test_all_sources_together_are_limited():
    desk = desk_with_target()
    for number in range(1, 6):
        desk.route(HANDLE, Endpoint(f"198.51.100.{number}", 1), 0.0)
    sixth = Endpoint("198.51.100.6", 1)
    assert refusal_of(desk, sixth, 0.0) is RefusalCode.BUSY
    assert desk.route(HANDLE, sixth, 1.0) == TARGET


def test_the_memory_of_sources_is_bounded():
    desk = desk_with_target()
    for number in range(1, 6):
        desk.route(HANDLE, Endpoint(f"198.51.100.{number}", 1), 0.0)
    assert desk.statistics().sources == SMALL.max_sources


def test_an_offer_beyond_the_longest_is_refused_before_it_costs_a_token():
    desk = desk_with_target()
    for _ in range(10):
        with pytest.raises(IntroductionRefused) as caught:
            desk.route(HANDLE, CALLER, 0.0, sealed_size=MAX_PART + 1)
        assert caught.value.code is RefusalCode.MALFORMED
    assert desk.route(HANDLE, CALLER, 0.0, sealed_size=MAX_PART) == TARGET


def test_statistics_count_what_was_passed():
    desk = desk_with_target(replace(SMALL, offers_burst=9.0))
    desk.route(HANDLE, CALLER, 0.0)
    desk.route(HANDLE, CALLER, 0.0)
    assert desk.statistics().offers_passed == 2


def test_a_clock_that_goes_back_is_a_bug_of_ours():
    desk = desk_with_target()
    desk.route(HANDLE, CALLER, 5.0)
    with pytest.raises(AssertionError):
        desk.route(HANDLE, CALLER, 4.0)


PUBLIC = Endpoint("8.8.8.8", 2000)
NEIGHBOUR = Endpoint("9.9.9.9", 2000)
THIN = IntroducerConfig(
    bytes_per_s=100.0,
    bytes_burst=4000.0,
    source_share=0.5,
    registrations_per_s=1.0,
    registrations_burst=3.0,
)


def test_what_is_passed_on_for_strangers_is_limited_in_bytes_and_refills():
    desk = desk_with_target(THIN)
    for _ in range(2):
        desk.route(HANDLE, PUBLIC, 0.0, sealed_size=900)
    assert refusal_of(desk, PUBLIC, 0.0) is RefusalCode.BUSY
    assert desk.route(HANDLE, NEIGHBOUR, 0.0, sealed_size=900) == TARGET
    assert desk.route(HANDLE, PUBLIC, 25.0, sealed_size=900) == TARGET
    assert desk.statistics().bytes_passed == 4 * 1000
    assert desk.statistics().bytes_per_s == 100.0


def test_answers_count_as_offers_do():
    desk = desk_with_target(THIN)
    desk.route(HANDLE, PUBLIC, 0.0, sealed_size=100)
    desk.answered(PUBLIC, 0.0, sealed_size=1900)
    assert refusal_of(desk, PUBLIC, 0.0) is RefusalCode.BUSY
    assert desk.statistics().bytes_left == pytest.approx(4000 - 200 - 2000)


def test_one_source_leaves_the_others_their_share():
    desk = desk_with_target(THIN)
    for _ in range(2):
        desk.route(HANDLE, PUBLIC, 0.0, sealed_size=1000)
    assert refusal_of(desk, PUBLIC, 0.0) is RefusalCode.BUSY
    assert desk.statistics().bytes_left >= 1000
    assert desk.route(HANDLE, NEIGHBOUR, 0.0, sealed_size=900) == TARGET


def test_a_private_network_has_no_limit_of_bytes():
    desk = desk_with_target(THIN)
    for _ in range(10):
        desk.route(HANDLE, Endpoint("10.0.0.9", 1), 0.0, sealed_size=1000)
    assert desk.statistics().bytes_left == 4000.0


def test_leaves_are_sent_away_while_there_is_too_much_to_pass_on_but_may_say_goodbye():
    desk = desk_with_target(replace(THIN, source_share=1.0))
    for _ in range(4):
        desk.route(HANDLE, PUBLIC, 0.0, sealed_size=1000)
    with pytest.raises(IntroductionRefused) as caught:
        desk.register(HANDLE, TARGET, 100.0, 0.0)
    assert caught.value.code is RefusalCode.BUSY
    assert desk.register(HANDLE, TARGET, 0.0, 0.0) == 0.0
    assert desk.register(HANDLE, TARGET, 100.0, 60.0) == 100.0


def test_registrations_are_limited_in_time_too():
    desk = desk_with_target(THIN)
    for number in range(2):
        desk.register(b"%d" % number, OTHER, 10.0, 0.0)
    with pytest.raises(IntroductionRefused):
        desk.register(b"one more", OTHER, 10.0, 0.0)
    assert desk.register(b"one more", OTHER, 10.0, 1.0) == 10.0


def test_a_rate_of_nothing_is_no_rate():
    with pytest.raises(ConfigError, match="bytes_per_s"):
        IntroducerConfig(bytes_per_s=0.0)
