import pytest

from opnode.protocols.binding_lifetime import BindingLifetime, BindingLifetimeConfig

CONFIG = BindingLifetimeConfig()


def search(lifetime, nat_s, *, now=0.0, rounds=60):
    """Let silences end one after the other, in front of a NAT with this timer."""
    unsafe_s = 0.0
    for _ in range(rounds):
        silence_s = lifetime.interval_s
        now += silence_s
        unsafe_s = max(unsafe_s, silence_s - nat_s)
        if lifetime.is_probe_due(silence_s, now):
            outcome = lifetime.survived if silence_s < nat_s else lifetime.lost
            outcome(silence_s, now)
    return now, unsafe_s


def test_it_begins_with_what_the_strictest_nats_bear():
    lifetime = BindingLifetime()
    assert lifetime.interval_s == 25.0
    assert not lifetime.view().is_settled
    assert lifetime.view().survived_s is None


@pytest.mark.parametrize("nat_s", [15.0, 26.0, 30.0, 45.0, 60.0, 90.0, 119.0])
def test_it_settles_below_the_nats_timer_and_uses_most_of_it(nat_s):
    lifetime = BindingLifetime()
    _, unsafe_s = search(lifetime, nat_s)
    view = lifetime.view()
    assert view.is_settled
    assert nat_s / CONFIG.resolution - CONFIG.margin_s <= view.interval_s < nat_s
    assert view.survived_s < nat_s <= view.lost_s
    assert unsafe_s <= max(CONFIG.start_s - nat_s, nat_s * (CONFIG.growth - 1))


@pytest.mark.parametrize("nat_s", [121.0, 180.0, 1e9])
def test_it_never_asks_for_more_than_the_cap(nat_s):
    lifetime = BindingLifetime()
    search(lifetime, nat_s)
    view = lifetime.view()
    assert view.interval_s == CONFIG.cap_s - CONFIG.margin_s
    assert (view.is_settled, view.losses, view.lost_s) == (True, 0, None)


def test_the_search_takes_few_probes_and_ends():
    lifetime = BindingLifetime()
    search(lifetime, 60.0, rounds=12)
    assert lifetime.view().is_settled
    assert lifetime.view().probes <= 8


def test_each_step_upwards_leaves_two_of_three_within_the_last_one():
    lifetime = BindingLifetime()
    before_s = lifetime.interval_s
    while not lifetime.view().is_settled:
        lifetime.survived(lifetime.interval_s, 0.0)
        assert lifetime.interval_s * 2 / 3 <= before_s + 1e-9
        before_s = lifetime.interval_s


def test_a_silence_that_was_cut_short_proves_nothing():
    lifetime = BindingLifetime()
    assert not lifetime.is_probe_due(20.0, 100.0)
    assert lifetime.is_probe_due(25.0, 100.0)


def test_what_is_settled_is_looked_at_again_now_and_then():
    lifetime = BindingLifetime()
    now, _ = search(lifetime, 60.0, rounds=12)
    silence_s = lifetime.interval_s
    assert not lifetime.is_probe_due(silence_s, now + 60)
    later = now + CONFIG.recheck_s
    assert lifetime.is_probe_due(silence_s, later)
    lifetime.survived(silence_s, later)
    assert lifetime.interval_s == silence_s
    assert not lifetime.is_probe_due(silence_s, later + 60)


def test_a_stricter_router_is_found_out_at_the_next_look():
    lifetime = BindingLifetime()
    now, _ = search(lifetime, 180.0)
    search(lifetime, 40.0, now=now + CONFIG.recheck_s)
    assert 30 < lifetime.interval_s < 40


def test_a_laxer_router_is_found_out_within_hours():
    lifetime = BindingLifetime()
    now, _ = search(lifetime, 30.0)
    search(lifetime, 180.0, now=now + CONFIG.search_again_s)
    assert lifetime.interval_s == CONFIG.cap_s - CONFIG.margin_s


def test_a_router_that_lets_nobody_in_gets_the_floor_and_the_search_goes_on_later():
    lifetime = BindingLifetime()
    search(lifetime, 1.0)
    assert lifetime.interval_s == CONFIG.floor_s
    assert lifetime.view().survived_s is None


def test_another_network_is_measured_anew():
    lifetime = BindingLifetime()
    search(lifetime, 180.0)
    lifetime.restart()
    assert lifetime.interval_s == CONFIG.start_s
    assert not lifetime.view().is_settled
