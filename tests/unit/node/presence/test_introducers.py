import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RefusalCode, RequestRefused, RequestTimeout
from opnode.core.ids import Contact
from opnode.node.presence.introducers import (
    INTRODUCERS,
    OPEN_INTERVAL_S,
    Introducers,
    diverse,
)
from opnode.node.presence.knocker import Knock
from opnode.protocols.binding_lifetime import BindingLifetimeConfig
from opnode.protocols.introductions.introducer import Standing
from opnode.testing.keys import seeded_signing_key

BINDING = BindingLifetimeConfig()


def at(host, number=1):
    return Contact(bytes([number]) * 20, Endpoint(host, 4000 + number))


NEAR = [
    at(host, number)
    for number, host in enumerate(
        ["8.8.1.1", "8.8.1.2", "8.8.2.1", "9.9.1.1", "9.9.2.1", "11.1.1.1"], 1
    )
]


class Town:
    """Introducers that register us, or do not; and a NAT that lets them in, or not."""

    def __init__(self):
        self.dead = set()
        self.busy = {}
        self.registered = []
        self.pinged = []
        self.verified = []
        self.impostors = set()
        self.moved = False
        self.nat_s = float("inf")
        self.mapping_s = float("inf")
        self.forgetful = set()
        self.heard_at = {}

    async def register(self, introducer, _key, lifetime_s):
        await trio.sleep(0.01)
        if introducer in self.dead:
            raise RequestTimeout("silent")
        if introducer in self.busy:
            raise RequestRefused(RefusalCode.BUSY, "full", ())
        self.registered.append((introducer, lifetime_s))
        self.heard_at[introducer] = trio.current_time()
        return lifetime_s

    def silence_s(self, introducer):
        return trio.current_time() - self.heard_at[introducer]

    def alternates_of(self, introducer, _refusal):
        return self.busy[introducer]

    async def is_alive(self, named):
        await trio.sleep(0.01)
        self.verified.append(named)
        return named not in self.impostors

    async def standing(self, introducer):
        await trio.sleep(0.01)
        now = trio.current_time()
        has_ended = now - max(self.heard_at.values()) > self.mapping_s
        self.pinged.append(introducer)
        self.heard_at[introducer] = now
        if introducer in self.dead:
            return Standing.GONE
        return Standing.MOVED if self.moved or has_ended else Standing.KEPT

    async def knock(self, introducer, _handle):
        await trio.sleep(0.01)
        if introducer in self.forgetful:
            return Knock.FORGOTTEN
        if introducer in self.dead:
            return Knock.UNKNOWN
        silence_s = trio.current_time() - self.heard_at[introducer]
        return Knock.HEARD if silence_s < self.nat_s else Knock.LOST


@pytest.fixture
def town():
    return Town()


@pytest.fixture
def introducers(town):
    return Introducers(
        town,
        town,
        seeded_signing_key("location"),
        registration_lifetime_s=300,
        rng=random.Random(1),
    )


async def keep_for(introducers, seconds):
    ends_at = trio.current_time() + seconds
    while trio.current_time() < ends_at:
        await trio.sleep(introducers.pause_s)
        assert await introducers.keep_next()


def test_introducers_are_of_different_networks_as_long_as_there_are_some():
    assert diverse([], NEAR, 3) == [NEAR[0], NEAR[3], NEAR[5]]
    assert diverse([NEAR[0]], NEAR, 2) == [NEAR[3], NEAR[5]]


def test_then_of_different_subnets_and_one_place_is_better_than_none():
    assert diverse([], NEAR[:3], 3) == [NEAR[0], NEAR[2], NEAR[1]]
    assert diverse([], NEAR[:2], 3) == [NEAR[0], NEAR[1]]


def test_in_a_private_network_every_host_stands_for_itself():
    private = [at(f"10.0.0.{number}", number) for number in range(1, 6)]
    assert diverse([], private, 3) == private[:3]


async def test_others_are_asked_for_those_that_do_not_answer(
    autojump_clock, town, introducers
):
    town.dead = {NEAR[0], NEAR[5]}
    await introducers.fill(NEAR)
    held = {introducer for introducer, _ in town.registered}
    assert held == {NEAR[3], NEAR[1], NEAR[2]} or len(held) == INTRODUCERS
    assert not held & town.dead


async def test_who_is_told_busy_goes_to_the_alternates_once_they_answered(
    autojump_clock, town, introducers
):
    others = [at(f"20.{number}.1.1", 10 + number) for number in range(3)]
    town.busy = dict.fromkeys(NEAR, others)
    town.impostors = {others[0]}
    await introducers.fill(NEAR)
    assert {one for one, _ in town.registered} == set(others[1:])
    assert set(town.verified) == set(others)
    assert introducers.statistics().busy == len(NEAR)


async def test_a_search_among_busy_nodes_that_name_each_other_ends(
    autojump_clock, town, introducers
):
    crowd = [at(f"20.{number}.1.1", number) for number in range(100)]
    town.busy = dict.fromkeys((*NEAR, *crowd), crowd)
    await introducers.fill(NEAR)
    assert len(introducers) == 0
    assert len(town.verified) <= 24


async def test_each_is_written_to_within_the_interval_in_turn(
    autojump_clock, town, introducers
):
    await introducers.fill(NEAR)
    await keep_for(introducers, 100)
    assert town.pinged[:3] == sorted(town.pinged[:3], key=town.pinged.index)
    assert len(set(town.pinged[:3])) == INTRODUCERS


async def test_the_interval_grows_to_what_the_nat_bears_and_nobody_is_locked_out_long(
    autojump_clock, town, introducers
):
    town.nat_s = 60.0
    await introducers.fill(NEAR)
    await keep_for(introducers, 1800)
    view = introducers.statistics().binding
    assert view.is_settled
    assert 48 <= view.interval_s < 60
    assert introducers.statistics().knocks[Knock.LOST] <= 3
    assert introducers.pause_s == pytest.approx(view.interval_s / 3)


async def test_a_lost_knock_is_followed_by_registrations_with_all_at_once(
    autojump_clock, town, introducers
):
    town.nat_s = 20.0
    await introducers.fill(NEAR)
    town.registered.clear()
    await trio.sleep(BINDING.start_s)
    assert await introducers.keep_next()
    assert len(town.registered) == INTRODUCERS
    assert introducers.statistics().binding.interval_s < 20


async def test_an_introducer_that_forgot_us_is_registered_with_again(
    autojump_clock, town, introducers
):
    await introducers.fill(NEAR)
    town.forgetful = {one for one, _ in town.registered}
    town.registered.clear()
    await trio.sleep(BINDING.start_s)
    assert await introducers.keep_next()
    assert len(town.registered) == 1


async def test_a_mapping_for_all_is_written_through_before_it_ends(
    autojump_clock, town, introducers
):
    # Everybody gets in as long as it lives: each knock is heard.
    town.mapping_s = 30.0
    await introducers.fill(NEAR)
    moves = []
    while trio.current_time() < 7200:
        await trio.sleep(introducers.pause_s)
        if not await introducers.keep_next():
            moves.append(trio.current_time())
            await introducers.register_again()
    assert 20 < introducers.pause_s < 30
    assert len(moves) <= 6
    assert max(moves) < 3600


async def test_registrations_are_renewed_in_time_as_a_part_of_the_turns(
    autojump_clock, town, introducers
):
    await introducers.fill(NEAR)
    await keep_for(introducers, 1000)
    for held in introducers.statistics().held:
        assert held.registered_s > 0


async def test_nobody_knocks_where_nothing_filters(autojump_clock, town, introducers):
    introducers.is_filtered = lambda: False
    await introducers.fill(NEAR)
    assert introducers.pause_s == OPEN_INTERVAL_S / 3
    await keep_for(introducers, 1000)
    assert introducers.statistics().knocks == {}


async def test_silence_or_another_address_is_told(autojump_clock, town, introducers):
    await introducers.fill(NEAR)
    town.moved = True
    assert not await introducers.keep_next()
    town.moved = False
    town.dead = set(NEAR)
    assert not await introducers.keep_next()
    await introducers.register_again()
    assert len(introducers) == 0
    assert introducers.statistics().replaced == INTRODUCERS


async def test_another_network_is_measured_anew(autojump_clock, town, introducers):
    await introducers.fill(NEAR)
    await keep_for(introducers, 600)
    assert introducers.pause_s * 3 > BINDING.start_s
    introducers.moved()
    assert introducers.pause_s * 3 == BINDING.start_s


async def test_leaving_tells_all_that_still_answer(autojump_clock, town, introducers):
    await introducers.fill(NEAR)
    town.registered.clear()
    town.dead = {NEAR[0]}
    await introducers.leave()
    assert town.registered == [(NEAR[3], 0), (NEAR[5], 0)] or len(town.registered) == 2


async def test_while_only_gateways_reach_us_they_alone_are_held_and_nobody_knocks(
    autojump_clock, town, introducers
):
    await introducers.fill(NEAR[:3])
    gateways = [NEAR[0], NEAR[4]]
    introducers.restrict(gateways)
    await introducers.fill(gateways)
    assert {entry.endpoint for entry in introducers.entries} == {
        gateway.endpoint for gateway in gateways
    }
    for _ in range(20):
        await trio.sleep(introducers.pause_s)
        assert await introducers.keep_next()
    assert introducers.statistics().knocks == {}
    introducers.restrict(())
    await introducers.fill(NEAR)
    assert len(introducers) == INTRODUCERS


async def test_without_any_introducer_there_is_nobody_to_keep(
    autojump_clock, introducers
):
    assert not await introducers.keep_next()
    assert introducers.entries == ()


async def test_a_silence_that_other_traffic_broke_proves_nothing(
    autojump_clock, town, introducers
):
    town.silence_s = lambda _introducer: 5.0
    await introducers.fill(NEAR)
    await keep_for(introducers, 300)
    assert introducers.statistics().knocks == {}
    assert introducers.statistics().binding.interval_s == BINDING.start_s
