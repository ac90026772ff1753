"""`store`: only verified records enter, bags keep their oldest, damage is survived."""

import pytest

from opnode.core.errors import (
    BadSignature,
    EquivocatingRecord,
    ExpiredRecord,
    MalformedRecord,
    OtherSequence,
    StaleRecord,
)
from opnode.core.ids import claim_key
from opnode.core.peerfile import (
    build_peer_file,
)
from opnode.core.records import build_chunk
from opnode.core.withdrawals import withdraw
from opnode.drivers.store import BagFull, RecordStore, StoreConfig
from opnode.protocols.rpc.messages import NO_RECORD
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.store.samples import (
    IDENTITY,
    KEY,
    NOW,
    PEER_KEY,
    claim,
    presence,
    squatter,
)


def test_a_verified_record_is_held_and_found(store):
    record = claim()
    assert store.put_untrusted(record.wire, NOW) == record
    assert store.records(KEY, NOW) == [record]
    assert store.statistics().records == 1
    assert store.statistics().bytes == len(record.wire)
    assert store.records(claim_key("nobody"), NOW) == []


def test_the_same_bytes_again_change_nothing(store):
    for _ in range(3):
        store.put_untrusted(claim().wire, NOW)
    assert store.statistics().records == 1


def test_a_higher_sequence_number_replaces_in_its_slot(store):
    store.put_untrusted(claim(seq=1).wire, NOW)
    store.put_untrusted(claim("berta").wire, NOW)
    newer = claim(seq=2, payload=b"longer payload")
    store.put_untrusted(newer.wire, NOW)
    assert store.records(KEY, NOW) == [newer, claim("berta")]
    held = len(newer.wire) + len(claim("berta").wire)
    assert store.statistics().bytes == held


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (claim(seq=1).wire, StaleRecord),
        (claim(seq=2, payload=b"other").wire, EquivocatingRecord),
        (claim(lifetime_s=0).wire, ExpiredRecord),
        (claim(seq=3).wire[:-1] + b"\0", BadSignature),
        (claim(seq=3).wire[:-1], MalformedRecord),
        (b"", MalformedRecord),
        (b"x" * 500, MalformedRecord),
    ],
)
def test_what_does_not_verify_or_is_older_is_refused_by_name(store, wire, error):
    held = claim(seq=2)
    store.put_untrusted(held.wire, NOW)
    with pytest.raises(error):
        store.put_untrusted(wire, NOW)
    assert store.records(KEY, NOW) == [held]
    assert store.statistics().records == 1


def test_a_full_bag_keeps_the_oldest_sixteen_and_still_takes_their_updates(store):
    first = [claim(f"owner {number}") for number in range(16)]
    for record in first:
        store.put_untrusted(record.wire, NOW)
    with pytest.raises(BagFull):
        store.put_untrusted(claim("latecomer").wire, NOW)
    assert store.records(KEY, NOW) == first
    update = claim("owner 3", seq=2)
    store.put_untrusted(update.wire, NOW)
    assert update in store.records(KEY, NOW)


def test_claims_take_no_slot_from_the_peer_whose_key_they_are_under(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    squatters = [squatter(number) for number in range(16)]
    for record in squatters:
        store.put_untrusted(record.wire, NOW)
    own = [build_peer_file(IDENTITY, wall_now=NOW, seq=1)]
    own += [presence(f"location {number}") for number in range(16)]
    for record in reversed(own):
        store.put_untrusted(record.wire, NOW)
    expected = [own[0], *reversed(own[1:]), *squatters]
    assert store.records(PEER_KEY, NOW) == expected
    for record in (squatter(16), presence("seventeenth")):
        with pytest.raises(BagFull):
            store.put_untrusted(record.wire, NOW)
    store.close()
    again = RecordStore(path)
    assert again.records(PEER_KEY, NOW) == expected
    again.close()


def test_an_expired_slot_makes_room_before_anybody_swept(store):
    store.put_untrusted(claim("short", lifetime_s=10).wire, NOW)
    for number in range(15):
        store.put_untrusted(claim(f"owner {number}").wire, NOW)
    late = claim("latecomer")
    store.put_untrusted(late.wire, NOW + 20)
    assert late in store.records(KEY, NOW + 20)
    assert store.statistics().records == 16


def chunk(number, lifetime_s=100_000):
    return build_chunk(b"%09d" % number, int(NOW) + lifetime_s)


def held_of(store, records, now=NOW):
    return [r for r in records if store.records(r.key, now)]


def test_what_anybody_can_make_is_kept_for_a_day_after_it_was_last_brought(store):
    day = 86_400
    lasting = [chunk(1, 90 * day), claim(lifetime_s=90 * day)]
    brought_again = chunk(2, 90 * day)
    own = build_peer_file(IDENTITY, wall_now=NOW, seq=1)
    for record in (*lasting, brought_again, own):
        assert store.put_untrusted(record.wire, NOW) == record
    store.put_untrusted(brought_again.wire, NOW + day / 2)
    assert store.expire(NOW + day - 1) == 0
    assert store.expire(NOW + day) == 2
    assert held_of(store, lasting, NOW + day) == []
    assert held_of(store, [brought_again, own], NOW + day) == [brought_again, own]
    assert store.expire(NOW + 1.5 * day) == 1


def test_expiry_hides_at_once_and_frees_when_swept(store):
    store.put_untrusted(claim(lifetime_s=10).wire, NOW)
    store.put_untrusted(claim("berta", lifetime_s=50).wire, NOW)
    assert store.records(KEY, NOW + 10) == [claim("berta", lifetime_s=50)]
    assert store.statistics().records == 2
    assert store.expire(NOW + 10) == 1
    assert store.statistics().records == 1
    assert store.records(KEY, NOW + 10) == [claim("berta", lifetime_s=50)]


def test_bags_beyond_the_mirror_are_read_from_the_file_in_the_same_order():
    store = RecordStore(config=StoreConfig(mirrored_keys=1))
    bag = [claim("berta"), claim("anna")]
    for record in bag:
        store.put_untrusted(record.wire, NOW)
    store.put_untrusted(claim(name="other").wire, NOW)
    store.put_untrusted(claim("berta", seq=2).wire, NOW)
    store.put_untrusted(claim(name="other", seq=2).wire, NOW)
    assert store.records(KEY, NOW) == [claim("berta", seq=2), claim("anna")]
    store.close()


def test_records_survive_a_restart(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    store.close()
    store.close()
    again = RecordStore(path)
    assert again.records(KEY, NOW) == [claim()]
    assert again.statistics().bytes == len(claim().wire)
    again.close()


@pytest.mark.parametrize(
    ("held", "expected_seq", "is_taken"),
    [
        (None, NO_RECORD, True),
        (None, 0, False),
        (3, 3, True),
        (3, 2, False),
        (3, 4, False),
        (3, NO_RECORD, False),
    ],
)
def test_a_conditional_put_needs_the_sequence_number_that_is_held(
    store, held, expected_seq, is_taken
):
    if held is not None:
        store.put_untrusted(claim(seq=held).wire, NOW)
    before = store.records(KEY, NOW)
    new = claim(seq=9)
    if is_taken:
        store.put_untrusted(new.wire, NOW, expected_seq=expected_seq)
        assert store.records(KEY, NOW) == [new]
        return
    with pytest.raises(OtherSequence) as error:
        store.put_untrusted(new.wire, NOW, expected_seq=expected_seq)
    found = "nothing" if held is None else f"sequence number {held}"
    assert str(error.value).startswith(f"{found} is held, expected ")
    assert store.records(KEY, NOW) == before


def test_an_owner_may_repeat_its_conditional_put(store):
    store.put_untrusted(claim(seq=1).wire, NOW)
    for _ in range(2):
        store.put_untrusted(claim(seq=2).wire, NOW, expected_seq=1)
    assert store.records(KEY, NOW) == [claim(seq=2)]


def test_a_met_condition_does_not_let_an_older_record_in(store):
    store.put_untrusted(claim(seq=5).wire, NOW)
    with pytest.raises(StaleRecord):
        store.put_untrusted(claim(seq=4).wire, NOW, expected_seq=5)


def test_what_expired_counts_as_nothing_for_a_condition(store):
    store.put_untrusted(claim(seq=5, lifetime_s=10).wire, NOW)
    store.put_untrusted(claim(seq=6).wire, NOW + 10, expected_seq=NO_RECORD)
    assert store.records(KEY, NOW + 10) == [claim(seq=6)]


def test_a_withdrawal_is_held_until_its_expiry_so_no_old_copy_returns(store):
    day = 86_400
    old = claim(seq=1, lifetime_s=9 * day)
    gone = withdraw(old, seeded_signing_key("anna"), 2)
    store.put_untrusted(old.wire, NOW)
    store.put_untrusted(gone.wire, NOW)
    assert store.records(KEY, NOW) == [gone]
    assert store.expire(NOW + 8 * day) == 0
    with pytest.raises(StaleRecord):
        store.put_untrusted(old.wire, NOW + 8 * day)
    assert store.expire(NOW + 9 * day) == 1


def test_a_withdrawal_enters_where_the_record_never_was(store):
    gone = withdraw(claim(), seeded_signing_key("anna"), 2)
    store.put_untrusted(gone.wire, NOW, expected_seq=NO_RECORD)
    with pytest.raises(StaleRecord):
        store.put_untrusted(claim().wire, NOW)
    store.put_untrusted(claim(seq=3).wire, NOW, expected_seq=2)
    assert store.records(KEY, NOW) == [claim(seq=3)]
