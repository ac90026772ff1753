"""Whatever happens to a desk of watches, its limits hold and nobody is forgotten."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from opnode.core.addresses import Endpoint
from opnode.protocols.watching import WatchConfig, WatchDesk, WatchRefused

CONFIG = WatchConfig(
    max_watches=6,
    max_per_key=4,
    max_per_endpoint=3,
    local_group_watches=5,
    max_lifetime_s=50.0,
    notices_per_s=4.0,
    notices_at_once=2,
    visits_at_once=3,
    max_under_way=3,
    spacing_s=1.0,
    burst=2,
    max_slots=2,
)
KEYS = st.sampled_from([bytes([number]) * 20 for number in range(3)])
SLOTS = st.sampled_from([(2, b"a"), (2, b"b")])
WATCHERS = st.sampled_from(
    [Endpoint(f"10.0.{number % 2}.{number}", 4000) for number in range(5)]
)


class Desk(RuleBasedStateMachine):
    """A model that knows who watches what and what was told last."""

    def __init__(self):
        super().__init__()
        self.desk = WatchDesk(CONFIG)
        self.now = 0.0
        self.until = {}
        self.newest = {}
        self.told = {}
        self.due = set()
        self.under_way = []
        self.changes = 0

    @rule(key=KEYS, who=WATCHERS, lifetime_s=st.sampled_from([0.0, 10.0, 500.0]))
    def watch(self, key, who, lifetime_s):
        live = self.until.get((key, who), 0.0) > self.now
        try:
            granted = self.desk.watch(key, who, lifetime_s, self.now)
        except WatchRefused:
            assert not live
            return
        assert granted == min(lifetime_s, CONFIG.max_lifetime_s)
        if not live or not granted:
            self.due -= {entry for entry in self.due if entry[:2] == (key, who)}
        self.until[key, who] = self.now + granted

    @rule(key=KEYS, slot=SLOTS)
    def change(self, key, slot):
        self.changes += 1
        wire = b"%d" % self.changes
        self.desk.changed(key, slot, wire)
        self.newest[key, slot] = wire
        for (watched, who), until in self.until.items():
            if watched == key and until > self.now:
                self.due.add((key, who, slot))

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def send(self):
        notices = self.desk.notices(self.now)
        assert len(notices) <= CONFIG.notices_at_once
        for notice in notices:
            assert self.until[notice.key, notice.endpoint] > self.now
            slot = next(
                slot
                for (key, slot), wire in self.newest.items()
                if key == notice.key and wire == notice.wire
            )
            self.due.discard((notice.key, notice.endpoint, slot))
        self.under_way += notices
        assert len(self.under_way) <= CONFIG.max_under_way

    @rule()
    def acknowledge(self):
        while self.under_way:
            self.desk.settled(self.under_way.pop(), is_heard=True)

    @rule()
    def everybody_is_told_in_the_end(self):
        self.acknowledge()
        end_at = self.now + 60
        while (due_at := self.desk.next_deadline()) is not None and due_at < end_at:
            self.now = max(self.now, due_at)
            self.send()
            self.acknowledge()
        expected = {
            (key, who, slot)
            for key, who, slot in self.due
            if self.until[key, who] > self.now
        }
        assert not expected

    @invariant()
    def limits_hold(self):
        held = self.desk.statistics()
        assert held.watches <= CONFIG.max_watches
        live = [entry for entry, until in self.until.items() if until > self.now]
        assert len(live) <= held.watches
        assert len(self.desk._watchers) <= held.watches
        assert held.keys <= held.watches


Desk.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestDesk = Desk.TestCase
