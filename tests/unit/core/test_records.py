"""The envelope of records, by the rules of docs/protocols/record.md."""

import pytest

from opnode.core.crypto import SigningKey
from opnode.core.errors import (
    BadSignature,
    EquivocatingRecord,
    ExpiredRecord,
    MalformedRecord,
    StaleRecord,
)
from opnode.core.ids import StorageKey, chunk_key
from opnode.core.records import (
    MAX_LIFETIME_S,
    MAX_PAYLOAD_SIZE,
    MAX_RECORD_SIZE,
    MAX_SEQ,
    RECORD_OVERHEAD,
    RecordKind,
    SignedRecord,
    build_chunk,
    build_record,
    check_supersedes,
    parse_record_untrusted,
    slot_of,
)

NOW = 1_000_000_000.0
DAY_S = 86_400
OWNER = SigningKey.from_seed(b"o" * 32)
KEY = StorageKey(b"k" * 20)


def claim(
    *,
    owner: SigningKey = OWNER,
    seq: int = 7,
    expires_at: int = int(NOW) + 60,
    payload: bytes = b"payload",
) -> SignedRecord:
    return build_record(
        owner,
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=seq,
        expires_at=expires_at,
        payload=payload,
    )


def changed(wire: bytes, at: int, new: bytes) -> bytes:
    return wire[:at] + new + wire[at + len(new) :]


def test_record_2_1_every_field_has_its_place():
    wire = claim(seq=0x0102, expires_at=0x0304).wire
    assert wire[0] == 1
    assert wire[1] == RecordKind.CLAIM
    assert wire[2:22] == KEY
    assert wire[22] == 1
    assert wire[23:55] == OWNER.public
    assert wire[55:63] == bytes.fromhex("0000000000000102")
    assert wire[63:71] == bytes.fromhex("0000000000000304")
    assert wire[71:73] == (7).to_bytes(2, "big")
    assert wire[73:80] == b"payload"
    assert wire[80:] == OWNER.sign(b"opnode record v1\0" + wire[:80])
    assert len(wire) == RECORD_OVERHEAD + 7 == 144


def test_record_2_2_a_chunk_has_no_owner_and_no_signature():
    chunk = build_chunk(b"payload", 0x0304)
    assert chunk.wire.hex() == (
        "0103" + chunk_key(b"payload").hex() + "00" + "00" * 8 + "0000000000000304"
        "0007" + b"payload".hex()
    )
    assert (chunk.owner, chunk.signature, chunk.seq) == (b"", b"", 0)


@pytest.mark.parametrize("record", [claim(), build_chunk(b"x", int(NOW) + 60)])
def test_a_record_is_read_back_as_it_was_built(record: SignedRecord):
    assert parse_record_untrusted(record.wire).verify(NOW) == record


@pytest.mark.parametrize("record", [claim(), build_chunk(b"payload", int(NOW) + 60)])
def test_record_3_1_every_other_length_is_refused(record: SignedRecord):
    for size in range(len(record.wire)):
        with pytest.raises(MalformedRecord):
            parse_record_untrusted(record.wire[:size])
    with pytest.raises(MalformedRecord, match=f"found {len(record.wire) + 1} bytes"):
        parse_record_untrusted(record.wire + b"\0")


def test_record_3_2_an_oversized_datagram_is_refused_unread():
    with pytest.raises(MalformedRecord, match=f"at most {MAX_RECORD_SIZE} bytes"):
        parse_record_untrusted(bytes(MAX_RECORD_SIZE + 1))


def test_record_3_2_a_payload_of_1000_bytes_is_the_longest():
    record = claim(payload=bytes(MAX_PAYLOAD_SIZE))
    assert len(record.wire) == MAX_RECORD_SIZE
    assert parse_record_untrusted(record.wire).verify(NOW) == record
    with pytest.raises(ValueError, match="at most 1000 bytes, found 1001"):
        claim(payload=bytes(MAX_PAYLOAD_SIZE + 1))


def test_record_3_2_a_chunk_cannot_hide_a_longer_payload_in_its_missing_signature():
    wire = build_chunk(bytes(1000), int(NOW) + 60).wire
    longer = changed(wire, 39, (1001).to_bytes(2, "big")) + b"\0"
    assert len(longer) < MAX_RECORD_SIZE
    with pytest.raises(MalformedRecord, match="at most 1000 of payload"):
        parse_record_untrusted(longer)


def test_record_3_3_another_format_version_is_refused():
    with pytest.raises(MalformedRecord, match="record format 2, expected 1"):
        parse_record_untrusted(changed(claim().wire, 0, b"\x02"))


@pytest.mark.parametrize("kind", [0, 5, 255])
def test_record_3_4_an_unknown_kind_is_refused(kind: int):
    with pytest.raises(MalformedRecord, match=f"record kind {kind}"):
        parse_record_untrusted(changed(claim().wire, 1, bytes([kind])))


@pytest.mark.parametrize("owner_type", [0, 2, 255])
def test_record_3_5_an_unknown_owner_type_is_refused(owner_type: int):
    with pytest.raises(MalformedRecord, match=f"owner type {owner_type} on a CLAIM"):
        parse_record_untrusted(changed(claim().wire, 22, bytes([owner_type])))


def test_record_3_5_a_chunk_with_an_owner_is_refused():
    chunk = build_chunk(b"payload", int(NOW) + 60)
    with pytest.raises(MalformedRecord, match="owner type 1 on a CHUNK, expected 0"):
        parse_record_untrusted(changed(chunk.wire, 22, b"\x01"))


def test_record_3_6_numbers_end_at_63_bits():
    assert parse_record_untrusted(claim(seq=MAX_SEQ).wire).verify(NOW).seq == MAX_SEQ
    with pytest.raises(MalformedRecord, match="sequence number 18446744073709551615"):
        parse_record_untrusted(changed(claim().wire, 55, b"\xff" * 8))
    with pytest.raises(MalformedRecord, match="expiry 18446744073709551615"):
        parse_record_untrusted(changed(claim().wire, 63, b"\xff" * 8))


def test_record_3_6_a_chunk_has_the_sequence_number_zero():
    wire = build_chunk(b"payload", int(NOW) + 60).wire
    with pytest.raises(MalformedRecord, match="sequence number 1 on a CHUNK"):
        parse_record_untrusted(changed(wire, 30, b"\x01"))


@pytest.mark.parametrize("record", [claim(), build_chunk(b"x", int(NOW) + 60)])
def test_record_4_1_a_record_is_over_in_its_second_of_expiry(record: SignedRecord):
    unverified = parse_record_untrusted(record.wire)
    assert unverified.verify(NOW + 59.9) == record
    with pytest.raises(ExpiredRecord, match="expired 0 s ago"):
        unverified.verify(NOW + 60)


def test_record_4_2_a_record_lives_two_years_and_a_day_at_most():
    latest = int(NOW) + MAX_LIFETIME_S + DAY_S
    parse_record_untrusted(claim(expires_at=latest).wire).verify(NOW)
    with pytest.raises(MalformedRecord, match="more than two years"):
        parse_record_untrusted(claim(expires_at=latest + 1).wire).verify(NOW)


def test_record_4_3_a_signature_of_another_key_is_refused():
    forged = changed(claim().wire, 23, SigningKey.from_seed(b"f" * 32).public)
    with pytest.raises(BadSignature, match=r"CLAIM under .* not signed by its owner"):
        parse_record_untrusted(forged).verify(NOW)


def test_record_4_3_a_signature_of_another_domain_is_refused():
    wire = claim().wire
    undomained = wire[:-64] + OWNER.sign(wire[:-64])
    with pytest.raises(BadSignature):
        parse_record_untrusted(undomained).verify(NOW)


def test_record_4_3_a_record_cannot_be_moved_to_another_kind_or_key():
    wire = claim().wire
    for moved in (changed(wire, 1, b"\x01"), changed(wire, 2, b"K")):
        with pytest.raises(BadSignature):
            parse_record_untrusted(moved).verify(NOW)


def test_record_4_4_a_chunk_belongs_under_the_hash_of_its_bytes():
    wire = build_chunk(b"payload", int(NOW) + 60).wire
    for damaged in (changed(wire, 2, b"K" * 20), wire[:-1] + b"D"):
        with pytest.raises(MalformedRecord, match="not what the key is the hash of"):
            parse_record_untrusted(damaged).verify(NOW)


def test_record_5_1_a_slot_is_a_kind_and_an_owner():
    other = claim(owner=SigningKey.from_seed(b"x" * 32))
    assert slot_of(claim()) == (4, OWNER.public)
    assert slot_of(other) != slot_of(claim())
    assert slot_of(build_chunk(b"x", 1)) == (3, b"")


def test_record_5_2_a_higher_sequence_number_replaces_a_lower_one():
    check_supersedes(claim(seq=8), claim(seq=7))
    with pytest.raises(StaleRecord, match="sequence number 7, the one held has 8"):
        check_supersedes(claim(seq=7), claim(seq=8))


def test_record_5_3_the_same_number_with_other_bytes_is_equivocation():
    with pytest.raises(EquivocatingRecord, match=r"two CLAIM records .* number 7"):
        check_supersedes(claim(payload=b"one"), claim(payload=b"two"))


def test_record_5_3_the_same_bytes_again_are_fine():
    check_supersedes(claim(), claim())


def test_record_5_4_of_two_copies_of_a_chunk_the_longer_lived_wins():
    early, late = build_chunk(b"x", 100), build_chunk(b"x", 200)
    check_supersedes(late, early)
    check_supersedes(early, early)
    with pytest.raises(StaleRecord, match="held with a later expiry"):
        check_supersedes(early, late)


def test_records_of_different_slots_are_never_compared():
    with pytest.raises(AssertionError, match="different slots"):
        check_supersedes(claim(), claim(owner=SigningKey.from_seed(b"x" * 32)))
    with pytest.raises(AssertionError, match="different keys"):
        check_supersedes(claim(), build_chunk(b"x", 1))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seq": -1}, "seq -1"),
        ({"seq": MAX_SEQ + 1}, "seq 9223372036854775808"),
        ({"expires_at": -1}, "expiry -1"),
        ({"expires_at": MAX_SEQ + 1}, "expiry 9223372036854775808"),
    ],
)
def test_numbers_that_a_reader_would_refuse_are_not_signed(
    change: dict[str, int], complaint: str
):
    with pytest.raises(ValueError, match=complaint):
        claim(**change)  # type: ignore[arg-type]  # each entry names an int field


def test_a_storage_key_of_another_size_is_not_signed():
    with pytest.raises(ValueError, match="20 bytes, found 19"):
        build_record(
            OWNER,
            kind=RecordKind.CLAIM,
            key=StorageKey(bytes(19)),
            seq=1,
            expires_at=1,
            payload=b"",
        )


def test_a_chunk_is_not_built_with_an_owner():
    with pytest.raises(ValueError, match="use build_chunk"):
        build_record(
            OWNER, kind=RecordKind.CHUNK, key=KEY, seq=0, expires_at=1, payload=b""
        )


def test_the_repr_names_kind_owner_key_and_number():
    assert repr(claim()).startswith("SignedRecord(CLAIM of ")
    assert "seq 7, 7 bytes" in repr(claim())
    assert "CHUNK of nobody" in repr(build_chunk(b"x", 1))
