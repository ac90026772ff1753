"""Taking records back, by docs/protocols/record.md §5.6 and peer-file.md §5.4."""

import pytest

from opnode.core.errors import (
    BadSignature,
    ExpiredRecord,
    MalformedRecord,
    StaleRecord,
)
from opnode.core.ids import claim_key, peer_key
from opnode.core.peerfile import (
    Identity,
    build_peer_file,
    build_presence,
    certify_location,
    read_presence,
    verify_record_untrusted,
)
from opnode.core.records import (
    MAX_SEQ,
    RecordKind,
    build_chunk,
    build_record,
    build_withdrawal,
    check_supersedes,
    parse_record_untrusted,
    slot_of,
)
from opnode.core.withdrawals import withdraw
from opnode.testing.keys import seeded_signing_key, seeded_static_key

NOW = 1_000_000.0
IDENTITY = Identity(seeded_signing_key("anna"), commitment=bytes([7]) * 32)
STRANGER = Identity(seeded_signing_key("stranger"))


def location(identity=IDENTITY, lifetime_s=10_000):
    return certify_location(
        identity,
        signing=seeded_signing_key("location"),
        static=seeded_static_key("location"),
        name="desk",
        wall_now=NOW,
        lifetime_s=lifetime_s,
    )


PEER_FILE = build_peer_file(IDENTITY, wall_now=NOW, seq=5)
PRESENCE = build_presence(location(), (), wall_now=NOW, lifetime_s=600, seq=5)
CLAIM = build_record(
    seeded_signing_key("anna"),
    kind=RecordKind.CLAIM,
    key=claim_key("anna"),
    seq=5,
    expires_at=int(NOW) + 600,
    payload=b"it is me",
)
OWNERS = {
    RecordKind.PEER_FILE: IDENTITY.signing,
    RecordKind.PRESENCE: location().signing,
    RecordKind.CLAIM: seeded_signing_key("anna"),
}
OWNED = [PEER_FILE, PRESENCE, CLAIM]


def withdrawal(record, seq=6):
    return withdraw(record, OWNERS[record.kind], seq)


def built(record, proof, *, owner=None, key=None, expires_at=None):
    return build_withdrawal(
        owner or OWNERS[record.kind],
        kind=record.kind,
        key=key or record.key,
        seq=6,
        expires_at=expires_at or record.expires_at,
        proof=proof,
    )


@pytest.mark.parametrize("record", OWNED, ids=lambda r: r.kind.name)
def test_record_5_6_a_withdrawal_takes_the_slot_for_as_long_as_the_record(record):
    gone = verify_record_untrusted(withdrawal(record).wire, NOW)
    assert gone == withdrawal(record)
    assert gone.is_withdrawal
    assert not record.is_withdrawal
    assert slot_of(gone) == slot_of(record)
    assert (gone.key, gone.expires_at) == (record.key, record.expires_at)
    assert gone.wire[1] == record.wire[1] + 128
    check_supersedes(gone, record)
    with pytest.raises(StaleRecord):
        check_supersedes(record, gone)
    with pytest.raises(ExpiredRecord):
        verify_record_untrusted(gone.wire, record.expires_at)
    assert "withdrawn" in repr(gone)


def test_record_5_6_a_withdrawal_is_as_small_as_its_proof():
    overhead = 137
    assert len(withdrawal(CLAIM).wire) == overhead
    assert len(withdrawal(PEER_FILE).wire) == overhead + 32
    certificate = location().certificate.pack()
    assert len(withdrawal(PRESENCE).wire) == overhead + len(certificate)


def test_record_5_6_a_record_replaces_its_withdrawal_and_is_taken_back_again():
    again = build_presence(location(), (), wall_now=NOW, lifetime_s=600, seq=7)
    check_supersedes(again, withdrawal(PRESENCE))
    twice = withdraw(withdrawal(PRESENCE), OWNERS[RecordKind.PRESENCE], 8)
    assert verify_record_untrusted(twice.wire, NOW).seq == 8


def test_record_5_6_only_the_owner_takes_back_and_only_with_a_higher_number():
    with pytest.raises(ValueError, match="not the key's"):
        withdraw(CLAIM, STRANGER.signing, 6)
    for seq in (4, 5):
        with pytest.raises(ValueError, match="does not replace"):
            withdrawal(CLAIM, seq)
    with pytest.raises(ValueError, match="is not in"):
        withdrawal(CLAIM, MAX_SEQ + 1)


def test_record_5_6_a_chunk_has_nobody_who_could_take_it_back():
    chunk = build_chunk(b"x", int(NOW) + 60)
    with pytest.raises(MalformedRecord, match="record kind 131"):
        parse_record_untrusted(chunk.wire[:1] + b"\x83" + chunk.wire[2:])
    with pytest.raises(ValueError, match="no owner"):
        build_withdrawal(
            IDENTITY.signing,
            kind=RecordKind.CHUNK,
            key=chunk.key,
            seq=1,
            expires_at=int(NOW) + 60,
            proof=b"",
        )


@pytest.mark.parametrize("number", [0, 5, 127, 128, 131, 133, 255])
def test_record_3_4_every_other_number_of_a_kind_is_malformed(number):
    wire = CLAIM.wire[:1] + bytes([number]) + CLAIM.wire[2:]
    with pytest.raises(MalformedRecord, match=f"found record kind {number}"):
        parse_record_untrusted(wire)


@pytest.mark.parametrize("record", OWNED, ids=lambda r: r.kind.name)
def test_record_4_3_nobody_makes_a_withdrawal_of_a_signed_record_or_back(record):
    for one, number in ((record, 128 + record.kind), (withdrawal(record), record.kind)):
        moved = one.wire[:1] + bytes([number]) + one.wire[2:]
        with pytest.raises((BadSignature, MalformedRecord)):
            verify_record_untrusted(moved, NOW)


@pytest.mark.parametrize(
    ("record", "proof"),
    [
        (CLAIM, b"x"),
        (PEER_FILE, b""),
        (PEER_FILE, bytes(31)),
        (PEER_FILE, bytes(32)),
        (PRESENCE, b""),
        (PRESENCE, PRESENCE.payload),
        (PRESENCE, location(STRANGER).certificate.pack()),
    ],
)
def test_peer_file_5_4_a_proof_that_proves_nothing_is_refused(record, proof):
    with pytest.raises(MalformedRecord):
        verify_record_untrusted(built(record, proof).wire, NOW)


def test_peer_file_5_4_a_stranger_takes_back_nothing_of_a_peer():
    certificate = read_presence(PRESENCE).certificate.pack()
    for record, proof in ((PEER_FILE, IDENTITY.commitment), (PRESENCE, certificate)):
        forged = built(record, proof, owner=STRANGER.signing)
        with pytest.raises(MalformedRecord):
            verify_record_untrusted(forged.wire, NOW)
    elsewhere = peer_key(STRANGER.peer_id)
    for record, proof in ((PEER_FILE, IDENTITY.commitment), (PRESENCE, certificate)):
        moved = built(record, proof, key=elsewhere)
        with pytest.raises(MalformedRecord):
            verify_record_untrusted(moved.wire, NOW)


def test_peer_file_5_4_a_withdrawn_presence_does_not_outlive_its_certificate():
    brief = location(lifetime_s=500)
    late = built(PRESENCE, brief.certificate.pack())
    with pytest.raises(MalformedRecord, match="outlives"):
        verify_record_untrusted(late.wire, NOW)
    certificate = brief.certificate.pack()
    forged = certificate[:-1] + bytes([certificate[-1] ^ 1])
    wire = built(PRESENCE, forged, expires_at=int(NOW) + 400).wire
    with pytest.raises(BadSignature):
        verify_record_untrusted(wire, NOW)


@pytest.mark.parametrize("record", OWNED, ids=lambda r: r.kind.name)
def test_any_flipped_bit_of_a_withdrawal_is_refused(record):
    wire = withdrawal(record).wire
    for bit in range(0, len(wire) * 8, 3):
        damaged = bytearray(wire)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((BadSignature, ExpiredRecord, MalformedRecord)):
            verify_record_untrusted(bytes(damaged), NOW)
