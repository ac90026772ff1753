"""`watching`: who is told of a change, how fast, and what it may cost."""

import tracemalloc

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.watching import WatchConfig, WatchDesk, WatchRefused

KEY = b"k" * 20
SLOT = (2, b"owner")
ANNA = Endpoint("10.200.0.1", 4000)


def endpoint(number):
    return Endpoint(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 4000)


class Holder:
    """A desk with a clock of its own; every notice is acknowledged at once."""

    def __init__(self, **limits):
        self.config = WatchConfig(**limits)
        self.desk = WatchDesk(self.config)
        self.now = 100.0
        self.told = []
        self.steps = []
        self.is_heard = True

    def watch(self, who=ANNA, key=KEY, lifetime_s=600):
        return self.desk.watch(key, who, lifetime_s, self.now)

    def step(self):
        """One wake-up, at its time."""
        due_at = self.desk.next_deadline()
        assert due_at is not None
        self.now = max(self.now, due_at)
        notices = self.desk.notices(self.now)
        self.steps.append((self.now, len(notices)))
        for notice in notices:
            self.told.append((notice.endpoint, notice.wire))
            self.desk.settled(notice, is_heard=self.is_heard)
        return notices

    def run(self, until_s):
        end_at = self.now + until_s
        while (due_at := self.desk.next_deadline()) is not None and due_at <= end_at:
            self.step()
        self.now = end_at


def test_a_watcher_is_told_of_a_change_at_once():
    holder = Holder()
    assert holder.watch() == 600
    holder.desk.changed(KEY, SLOT, b"new")
    began_at = holder.now
    holder.step()
    assert holder.told == [(ANNA, b"new")]
    assert holder.now == began_at


def test_nobody_is_told_what_was_held_before_the_watch_began():
    holder = Holder()
    holder.watch(endpoint(1))
    holder.desk.changed(KEY, SLOT, b"old")
    holder.watch(endpoint(2))
    holder.run(5)
    assert holder.told == [(endpoint(1), b"old")]


def test_a_key_that_nobody_watches_costs_nothing():
    holder = Holder()
    holder.desk.changed(KEY, SLOT, b"new")
    assert holder.desk.next_deadline() is None
    assert holder.desk.statistics() == (0, 0, 0, 0)


def test_of_a_record_that_changed_twice_only_the_newest_is_sent():
    holder = Holder(notices_at_once=1)
    for number in range(3):
        holder.watch(endpoint(number))
    holder.desk.changed(KEY, SLOT, b"first")
    holder.step()
    holder.desk.changed(KEY, SLOT, b"second")
    holder.run(5)
    assert holder.told[0] == (endpoint(0), b"first")
    # Those who still waited are told first, and never of the older one.
    assert holder.told[1:] == [
        (endpoint(1), b"second"),
        (endpoint(2), b"second"),
        (endpoint(0), b"second"),
    ]


def test_every_slot_that_changed_is_sent():
    holder = Holder()
    for number in range(3):
        holder.watch(endpoint(number))
    slots = [(2, bytes([number])) for number in range(4)]
    for slot in slots:
        holder.desk.changed(KEY, slot, slot[1])
    holder.run(10)
    expected = {(endpoint(n), slot[1]) for n in range(3) for slot in slots}
    assert set(holder.told) == expected
    assert len(holder.told) == len(expected)


def test_a_slot_that_changes_again_does_not_hide_another_that_changed_before():
    holder = Holder()
    holder.watch()
    other = (4, b"other")
    for slot, wire in ((SLOT, b"1"), (other, b"2"), (SLOT, b"3")):
        holder.desk.changed(KEY, slot, wire)
    holder.run(5)
    assert holder.told == [(ANNA, b"2"), (ANNA, b"3")]


def test_who_joins_while_others_are_told_hears_of_later_changes_only():
    holder = Holder(notices_at_once=1)
    for number in range(3):
        holder.watch(endpoint(number))
    for slot in (SLOT, (4, b"other")):
        holder.desk.changed(KEY, slot, b"old")
    holder.step()
    holder.watch()
    holder.run(5)
    assert ANNA not in {who for who, _ in holder.told}
    holder.desk.changed(KEY, SLOT, b"new")
    holder.run(5)
    assert (ANNA, b"new") in holder.told


def test_the_watches_of_a_crowd_take_a_bounded_part_of_memory():
    holder = Holder()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(8000):
            holder.watch(endpoint(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 8000 < 1200


def test_eight_thousand_watchers_of_one_record_are_all_told_at_the_pace():
    holder = Holder()
    for number in range(8000):
        holder.watch(endpoint(number))
    holder.desk.changed(KEY, SLOT, b"new")
    holder.run(60)
    assert sorted(who for who, _ in holder.told) == sorted(map(endpoint, range(8000)))
    assert max(count for _, count in holder.steps) <= holder.config.notices_at_once
    began_at = holder.steps[0][0]
    sent = 0
    for now, count in holder.steps:
        sent += count
        pace = (now - began_at) * holder.config.notices_per_s
        assert sent <= pace + holder.config.notices_at_once + 1
    # The last one is told when the pace allows it, not later.
    last_at = max(now for now, count in holder.steps if count)
    assert last_at - began_at < 1.05 * 8000 / holder.config.notices_per_s
    assert holder.desk.next_deadline() > holder.now


def test_a_hot_key_that_changes_all_the_time_does_not_hold_up_another():
    holder = Holder()
    for number in range(2000):
        holder.watch(endpoint(number))
    holder.watch(ANNA, b"c" * 20)
    for change in range(20):
        holder.desk.changed(KEY, SLOT, b"hot %d" % change)
        holder.run(0.5)
    holder.desk.changed(b"c" * 20, SLOT, b"cold")
    began_at = holder.now
    while (ANNA, b"cold") not in holder.told:
        holder.step()
    assert holder.now - began_at < 0.5


def test_a_record_that_changes_faster_than_the_pace_reaches_everybody_in_turn():
    holder = Holder()
    for number in range(500):
        holder.watch(endpoint(number))
    for change in range(40):
        holder.desk.changed(KEY, SLOT, b"%d" % change)
        holder.run(0.5)
    counts = [sum(who == endpoint(n) for who, _ in holder.told) for n in range(500)]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 7


def test_one_watcher_is_not_told_faster_than_its_spacing():
    holder = Holder()
    keys = [bytes([number]) * 20 for number in range(8)]
    for key in keys:
        holder.watch(key=key)
    for key in keys:
        holder.desk.changed(key, SLOT, b"new")
    times = []
    while len(holder.told) < len(keys):
        count = len(holder.step())
        times += [holder.now] * count
    for number, at in enumerate(times):
        later = [time for time in times[number:] if time < at + 0.999]
        # As many as at once are allowed, and one more for each pause.
        assert len(later) <= holder.config.burst + 4
    assert times[-1] - times[0] >= 4 * holder.config.spacing_s - 1e-9


def test_a_watcher_that_left_costs_nothing_after_its_lifetime():
    holder = Holder()
    for number in range(2000):
        holder.watch(endpoint(number), lifetime_s=300)
    holder.now += 301
    holder.run(10)
    assert holder.desk.statistics().watches == 0
    holder.desk.changed(KEY, SLOT, b"new")
    assert holder.desk.next_deadline() is None
    assert holder.told == []


def test_a_renewed_watch_outlives_its_first_lifetime():
    holder = Holder()
    holder.watch()
    holder.now += 500
    assert holder.watch(lifetime_s=1e6) == 600
    holder.now += 500
    holder.desk.changed(KEY, SLOT, b"new")
    holder.run(1)
    assert holder.told == [(ANNA, b"new")]
    holder.now += 200
    holder.run(1)
    assert holder.desk.statistics().watches == 0


def test_a_lifetime_of_zero_ends_a_watch():
    holder = Holder()
    holder.watch()
    holder.desk.changed(KEY, SLOT, b"new")
    assert holder.watch(lifetime_s=0) == 0
    assert holder.watch(lifetime_s=0) == 0
    assert holder.desk.statistics()[:2] == (0, 0)
    holder.run(1)
    assert holder.told == []


def test_a_watcher_that_acknowledges_nothing_is_told_no_more_until_it_renews():
    holder = Holder(max_failures=2)
    holder.watch()
    holder.is_heard = False
    for change in range(5):
        holder.desk.changed(KEY, SLOT, b"%d" % change)
        holder.run(5)
    assert len(holder.told) == 2
    holder.is_heard = True
    holder.watch()
    holder.desk.changed(KEY, SLOT, b"again")
    holder.run(5)
    assert holder.told[-1] == (ANNA, b"again")


def test_a_watcher_that_says_it_does_not_watch_is_taken_off():
    holder = Holder()
    holder.watch()
    holder.desk.changed(KEY, SLOT, b"new")
    (notice,) = holder.desk.notices(holder.now)
    holder.desk.ended(notice)
    holder.desk.ended(notice)
    assert holder.desk.statistics().watches == 0


def test_a_watch_that_ended_meanwhile_is_not_missed_by_its_notice():
    holder = Holder()
    holder.watch()
    holder.desk.changed(KEY, SLOT, b"new")
    (notice,) = holder.desk.notices(holder.now)
    holder.watch(lifetime_s=0)
    holder.desk.settled(notice, is_heard=False)
    assert holder.desk.statistics().watches == 0


def test_notices_under_way_are_bounded_and_their_end_lets_others_go():
    holder = Holder(max_under_way=3)
    for number in range(5):
        holder.watch(endpoint(number))
    holder.desk.changed(KEY, SLOT, b"new")
    notices = holder.desk.notices(holder.now)
    assert len(notices) == 3
    # Nothing to wake up for but the end of the lifetimes.
    assert holder.desk.next_deadline() > holder.now + 500
    holder.desk.settled(notices[0], is_heard=False)
    due_at = holder.desk.next_deadline()
    assert due_at < holder.now + 1
    assert len(holder.desk.notices(due_at)) == 1


def test_more_changed_slots_than_are_remembered_drop_the_oldest_change():
    holder = Holder(max_slots=2)
    holder.watch()
    for number in range(3):
        holder.desk.changed(KEY, (4, bytes([number])), bytes([number]))
    holder.run(5)
    assert holder.told == [(ANNA, b"\x01"), (ANNA, b"\x02")]


@pytest.mark.parametrize(
    ("limits", "others", "text"),
    [
        (
            {"max_watches": 3},
            [(endpoint(n), bytes([n]) * 20) for n in range(3)],
            "more watches$",
        ),
        ({"max_per_key": 3}, [(endpoint(n), KEY) for n in range(3)], "this key"),
        (
            {"max_per_endpoint": 3},
            [(ANNA, bytes([n]) * 20) for n in range(3)],
            "of yours",
        ),
        (
            {"local_group_watches": 3},
            [(Endpoint("10.200.0.7", 4000 + n), bytes([n]) * 20) for n in range(3)],
            "your network",
        ),
    ],
)
def test_every_limit_refuses_one_more_and_renewals_go_on(limits, others, text):
    holder = Holder(**limits)
    for who, key in others:
        holder.watch(who, key)
    with pytest.raises(WatchRefused, match=text):
        holder.watch()
    for who, key in others:
        assert holder.watch(who, key) == 600
    assert holder.desk.statistics().refused == 1
    who, key = others[0]
    holder.watch(who, key, lifetime_s=0)
    assert holder.watch() == 600


def test_a_public_network_has_its_own_limit():
    holder = Holder(group_watches=2)
    for number in range(2):
        holder.watch(Endpoint(f"8.8.4.{number}", 4000))
    with pytest.raises(WatchRefused):
        holder.watch(Endpoint("8.8.4.9", 4000))
    holder.watch(Endpoint("8.8.5.9", 4000))


def test_watches_that_begin_and_end_all_the_time_leave_nothing_behind():
    holder = Holder()
    holder.watch(endpoint(1))
    for _ in range(5000):
        holder.watch()
        holder.watch(lifetime_s=0)
    assert len(holder.desk._expiries) < 100
    assert holder.desk.statistics().watches == 1
