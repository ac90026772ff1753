"""`collection`: what is found is verified once, and the best of each slot is kept."""

from opnode.core.records import RecordKind, build_chunk, build_record
from opnode.core.withdrawals import withdraw
from opnode.drivers.dht.collection import Collection
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.dht.samples import KEY

NOW = 1_000_000.0


def claim(owner="anna", seq=1, payload=b"claim"):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=seq,
        expires_at=int(NOW) + 100,
        payload=payload,
    )


def test_the_highest_sequence_number_of_each_slot_is_kept_in_any_order():
    for order in ([1, 3, 2], [3, 2, 1], [1, 2, 3]):
        found = Collection(KEY, NOW)
        for seq in order:
            found.add_untrusted(claim(seq=seq).wire)
        found.add_untrusted(claim("berta").wire)
        assert set(found.records()) == {claim(seq=3), claim("berta")}
        assert found.bad == 0


def test_what_does_not_verify_is_counted_and_left_out():
    found = Collection(KEY, NOW)
    forged = claim().wire[:-1] + b"\0"
    assert found.add_untrusted(forged) is None
    assert found.add_untrusted(forged) is None
    assert found.add_untrusted(b"") is None
    assert found.records() == []
    assert found.bad == 2, "the same bytes are verified once"


def test_a_record_of_another_key_is_no_answer():
    found = Collection(KEY, NOW)
    assert found.add_untrusted(build_chunk(b"x", int(NOW) + 9).wire) is None
    assert found.bad == 1


def test_of_two_with_one_number_the_first_stays():
    found = Collection(KEY, NOW)
    found.add_untrusted(claim().wire)
    found.add_untrusted(claim(payload=b"other").wire)
    found.add_untrusted(claim(payload=b"third").wire)
    assert found.records() == [claim()]
    assert len(found.equivocations) == 1


def test_what_its_owner_took_back_is_no_answer_and_hides_old_copies():
    gone = withdraw(claim(), seeded_signing_key("anna"), 2)
    for order in ([claim(), gone], [gone, claim()]):
        found = Collection(KEY, NOW)
        for record in order:
            found.add_untrusted(record.wire)
        assert found.records() == []
        assert found.newest() == [gone]
    assert found.add_untrusted(claim().wire) is None
    assert found.bad == 0
    assert found.add_untrusted(claim(seq=3).wire) == claim(seq=3)
    assert found.records() == [claim(seq=3)]
