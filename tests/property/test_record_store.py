"""The record store against a model of its rules, in any order of events."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opnode.core.errors import (
    EquivocatingRecord,
    ExpiredRecord,
    OtherSequence,
    RecordError,
    StaleRecord,
)
from opnode.core.ids import claim_key
from opnode.core.records import (
    RecordKind,
    SignedRecord,
    build_record,
    build_withdrawal,
)
from opnode.drivers.store import RecordStore
from opnode.protocols.rpc.messages import NO_RECORD
from opnode.testing.keys import seeded_signing_key

START = 1_000_000
KEYS = [claim_key("anna"), claim_key("berta")]
OWNERS = [seeded_signing_key(f"owner {number}") for number in range(3)]
SEQUENCES = st.integers(0, 5)
EXPECTED = st.one_of(st.none(), st.just(NO_RECORD), SEQUENCES)
# Shorter and longer than the day for which a holder keeps a claim.
LIFETIMES_S = st.sampled_from([100, 200_000])
DAY_S = 86_400


class Held(NamedTuple):
    """What the model holds in a slot."""

    record: SignedRecord
    kept_until: int


class StoreMachine(RuleBasedStateMachine):
    """A store on disk, and a dict that keeps the rules of record.md §5."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name) / "records.sqlite3"
        self._store = RecordStore(self._path)
        self._model: dict[tuple[bytes, bytes], Held] = {}
        self._dates: dict[tuple[object, ...], int] = {}
        self._now = START

    def teardown(self) -> None:
        self._store.close()
        self._directory.cleanup()

    @rule(
        key=st.sampled_from(KEYS),
        owner=st.sampled_from(OWNERS),
        version=st.tuples(SEQUENCES, LIFETIMES_S, st.booleans()),
        expected_seq=EXPECTED,
        source=st.sampled_from([None, "8.8.8.8", "10.0.0.1"]),
    )
    def put(self, key, owner, version, expected_seq, source):
        seq, lifetime_s, is_withdrawal = version
        # One content for a number and a lifetime, so that the same bytes come again.
        content = (key, owner.public, seq, lifetime_s, is_withdrawal)
        expires_at = self._dates.setdefault(content, self._now + lifetime_s)
        common = {
            "kind": RecordKind.CLAIM,
            "key": key,
            "seq": seq,
            "expires_at": expires_at,
        }
        if is_withdrawal:
            record = build_withdrawal(owner, proof=b"", **common)
        else:
            record = build_record(owner, payload=b"claim", **common)
        self._put(record, expected_seq, source)

    @precondition(lambda self: self._model)
    @rule(data=st.data(), expected_seq=EXPECTED)
    def put_again(self, data, expected_seq):
        """As owners and other holders do."""
        slot = data.draw(st.sampled_from(sorted(self._model)))
        self._put(self._model[slot].record, expected_seq, "9.9.9.9")

    def _put(self, record, expected_seq, source):
        expected = self._verdict(record, expected_seq)
        found = None
        try:
            self._store.put_untrusted(
                record.wire, self._now, source, expected_seq=expected_seq
            )
        except RecordError as error:
            found = type(error)
        assert found is expected

    def _verdict(self, record, expected_seq):
        """What the rules say, and their effect on the model."""
        slot = (record.key, record.owner)
        if record.expires_at <= self._now:
            return ExpiredRecord
        held = self._model.get(slot)
        if held is not None and held.record.expires_at <= self._now:
            held = None
        until = record.expires_at
        if not record.is_withdrawal:
            until = min(until, self._now + DAY_S)
        if held is not None and held.record.wire == record.wire:
            # Prolonged by an hour or more is written down, less is not.
            if until - held.kept_until >= 3600:
                self._model[slot] = Held(record, until)
            return None
        seq = NO_RECORD if held is None else held.record.seq
        if expected_seq is not None and expected_seq != seq:
            return OtherSequence
        if record.seq < seq:
            return StaleRecord
        if record.seq == seq:
            return EquivocatingRecord
        self._model[slot] = Held(record, until)
        return None

    @rule(seconds=st.sampled_from([50, 50_000]))
    def wait(self, seconds):
        self._now += seconds

    @rule()
    def expire(self):
        self._store.expire(self._now)
        self._model = {
            slot: held
            for slot, held in self._model.items()
            if held.kept_until > self._now
        }

    @rule()
    def restart(self):
        self._store.close()
        self._store = RecordStore(self._path)

    @invariant()
    def what_is_answered_is_what_the_rules_leave(self):
        for key in KEYS:
            expected = {
                held.record.wire
                for (its_key, _), held in self._model.items()
                if its_key == key and held.record.expires_at > self._now
            }
            found = [r.wire for r in self._store.records(key, self._now)]
            assert len(found) == len(set(found))
            assert set(found) == expected

    @invariant()
    def what_is_counted_is_what_is_held(self):
        keys = self._store.keys_after(b"", 100)
        held = [r for key in keys for r in self._store.records(key, 0)]
        statistics = self._store.statistics()
        assert statistics.records == len(held)
        assert statistics.bytes == sum(len(record.wire) for record in held)


TestRecordStore = StoreMachine.TestCase
TestRecordStore.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None
)
