"""Whatever members and strangers do, a relay keeps its promises.

Operations in any order: joins, moves, leaving, frames of members and strangers, time.
"""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from opnode.core.addresses import Endpoint
from opnode.protocols.relay import JoinRefused, Place, RelayConfig, RelaySessions

CONFIG = RelayConfig(
    total_bytes_per_s=20_000.0,
    session_bytes_per_s=15_000.0,
    session_bytes=30_000,
    lifetime_s=60.0,
    min_burst=5_000,
    max_sessions=3,
    sessions_per_host=2,
    max_resting=2,
    rest_s=30.0,
)
NAMES = st.sampled_from([bytes([n]) * 8 for n in range(5)])
SECRETS = st.sampled_from([bytes([n]) * 16 for n in range(4)])
PLACES = st.builds(
    lambda host, port: Endpoint(f"192.0.2.{host}", port),
    st.integers(1, 3),
    st.integers(1, 3),
)
OPERATIONS = st.one_of(
    st.tuples(st.just("join"), NAMES, SECRETS, PLACES),
    st.tuples(st.just("leave"), NAMES, PLACES),
    st.tuples(
        st.just("frames"), NAMES, PLACES, st.integers(9, 1500), st.integers(1, 40)
    ),
    st.tuples(st.just("wait"), st.floats(0.0, 40.0)),
)


class Witness:
    """A relay, and what everybody was told or sent."""

    def __init__(self):
        self.relay = RelaySessions(CONFIG)
        self.now = 0.0
        # Who is in which session, by secret, as the relay confirmed it.
        self.members: dict[bytes, dict[bytes, Endpoint]] = {}
        self.passed: Counter[bytes] = Counter()
        self.total = 0

    def apply(self, operation):
        getattr(self, operation[0])(*operation[1:])
        while (ended := self.relay.next_ended()) is not None:
            assert set(ended.members) <= set(self.members[ended.session].values())
            del self.members[ended.session]
            self.passed[ended.session] = 0
        self.check()

    def join(self, name, secret, place):
        try:
            terms = self.relay.join(name, secret, Place(place, place.host), self.now)
        except JoinRefused:
            return
        self.members.setdefault(name, {})[secret] = place
        assert terms.is_complete == (len(self.members[name]) == 2)
        assert 0 < terms.bytes_left <= CONFIG.session_bytes

    def leave(self, name, place):
        is_member = place in self.members.get(name, {}).values()
        assert self.relay.leave(name, place, self.now) == is_member

    def frames(self, name, place, step, count):
        passed = self.relay.forward_untrusted(name, place, step * count, step, self.now)
        if passed is None:
            return
        destination, size = passed
        ends = list(self.members[name].values())
        assert sorted(ends) == sorted([place, destination])
        assert size % step == 0
        assert 0 < size <= step * count
        self.passed[name] += size
        self.total += size

    def wait(self, seconds):
        self.now += seconds
        self.relay.handle_deadline(self.now)

    def check(self):
        assert len(self.relay) == len(self.members) <= CONFIG.max_sessions
        hosts = Counter(
            place.host for ends in self.members.values() for place in ends.values()
        )
        assert all(count <= CONFIG.sessions_per_host for count in hosts.values())
        assert all(len(ends) <= 2 for ends in self.members.values())
        assert max(self.passed.values(), default=0) <= CONFIG.session_bytes
        assert self.total <= CONFIG.total_bytes_per_s * self.now + CONFIG.min_burst
        assert self.relay.statistics().bytes_relayed == self.total
        due = self.relay.next_deadline()
        assert (due is None) == (not self.members)


@given(st.lists(OPERATIONS, max_size=60))
def test_frames_pass_between_two_members_within_all_limits(operations):
    witness = Witness()
    for operation in operations:
        witness.apply(operation)
