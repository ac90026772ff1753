"""Peer files, certificates and presences, by docs/protocols/peer-file.md."""

from dataclasses import replace

import msgspec
import pytest

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, StaticKey, sha256
from opnode.core.errors import BadSignature, ExpiredRecord, MalformedRecord
from opnode.core.ids import NO_RECOVERY, NodeId, StorageKey, peer_id_of, peer_key
from opnode.core.peerfile import (
    MAX_CAPABILITIES,
    MAX_CERTIFICATE_SIZE,
    Identity,
    IntroducerEntry,
    Location,
    LocationCertificate,
    build_peer_file,
    build_presence,
    certify_location,
    check_binding,
    read_peer_file,
    read_presence,
    unpack_certificate_untrusted,
    verify_record_untrusted,
)
from opnode.core.records import (
    MAX_LIFETIME_S,
    RecordKind,
    SignedRecord,
    build_chunk,
    build_record,
)

NOW = 1_000_000_000.0
DAY_S = 86_400
YEAR_S = 365 * DAY_S
IDENTITY = Identity(SigningKey.from_seed(b"i" * 32))
STRANGER = Identity(SigningKey.from_seed(b"s" * 32))


def location(
    identity: Identity = IDENTITY, name: str = "desk", lifetime_s: int = YEAR_S
) -> Location:
    return certify_location(
        identity,
        signing=SigningKey.from_seed(b"l" * 32),
        static=StaticKey.from_bytes(b"x" * 32),
        name=name,
        wall_now=NOW,
        lifetime_s=lifetime_s,
    )


def introducers(count: int, host: str = "1.2.3.4") -> tuple[IntroducerEntry, ...]:
    return tuple(
        IntroducerEntry(
            node_id=NodeId(bytes([number]) * 20),
            endpoint=Endpoint(host, 4000 + number),
            handle=bytes([number]) * 16,
        )
        for number in range(count)
    )


def presence(where: Location | None = None, count: int = 3) -> SignedRecord:
    return build_presence(
        where or location(),
        introducers(count),
        wall_now=NOW,
        lifetime_s=600,
        seq=5,
        capabilities=3,
    )


def signed(
    owner: SigningKey,
    kind: RecordKind,
    payload: object,
    *,
    key: StorageKey | None = None,
    expires_at: int = int(NOW) + 600,
) -> bytes:
    """A record with a good signature around any payload."""
    encoded = payload if isinstance(payload, bytes) else msgspec.msgpack.encode(payload)
    return build_record(
        owner,
        kind=kind,
        key=key or peer_key(IDENTITY.peer_id),
        seq=1,
        expires_at=expires_at,
        payload=encoded,
    ).wire


def section_a(**changes: object) -> list[object]:
    fields: dict[str, object] = {
        "version": 1,
        "public_key": IDENTITY.signing.public,
        "commitment": NO_RECOVERY,
        "created_at": int(NOW),
        "expires_at": int(NOW) + 600,
    }
    return list((fields | changes).values())


def presence_fields(**changes: object) -> list[object]:
    fields: dict[str, object] = {
        "version": 1,
        "certificate": location().certificate.pack(),
        "introducers": [[bytes(20), bytes.fromhex("010203040fa0"), bytes(16)]],
        "capabilities": 0,
    }
    return list((fields | changes).values())


# --- 1. Identity and peer id ---


def test_peer_file_1_1_signing_again_does_not_change_the_peer_id():
    first = build_peer_file(IDENTITY, wall_now=NOW, seq=1)
    later = build_peer_file(IDENTITY, wall_now=NOW + DAY_S, seq=2)
    assert first.signature != later.signature
    assert read_peer_file(first).peer_id == read_peer_file(later).peer_id
    assert first.key == later.key == peer_key(IDENTITY.peer_id)


def test_peer_file_1_2_the_commitment_is_part_of_the_identity():
    committed = Identity(IDENTITY.signing, commitment=b"c" * 32)
    assert committed.peer_id == peer_id_of(IDENTITY.signing.public, b"c" * 32)
    assert committed.peer_id != IDENTITY.peer_id
    record = build_peer_file(committed, wall_now=NOW, seq=1)
    assert read_peer_file(record).peer_id == committed.peer_id


def test_an_identity_does_not_show_its_seed():
    assert IDENTITY.signing.seed.hex() not in repr(IDENTITY)
    assert repr(b"i" * 32) not in repr(IDENTITY)


# --- 2. Peer file, section A ---


def test_peer_file_2_1_a_peer_file_is_read_back_and_lives_two_years():
    record = build_peer_file(IDENTITY, wall_now=NOW, seq=9)
    verified = verify_record_untrusted(record.wire, NOW)
    assert verified == record
    peer_file = read_peer_file(verified)
    assert peer_file.public_key == IDENTITY.signing.public
    assert peer_file.commitment == NO_RECOVERY
    assert peer_file.created_at == int(NOW)
    assert peer_file.expires_at == record.expires_at == int(NOW) + MAX_LIFETIME_S


def test_peer_file_2_1_only_section_a_is_public():
    record = build_peer_file(IDENTITY, wall_now=NOW, seq=9)
    assert msgspec.msgpack.decode(record.payload) == [
        1,
        IDENTITY.signing.public,
        NO_RECOVERY,
        int(NOW),
        int(NOW) + MAX_LIFETIME_S,
    ]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="no MessagePack"),
        pytest.param({"version": 1}, id="a map"),
        pytest.param(section_a()[:-1], id="a field too few"),
        pytest.param([*section_a(), 1], id="a field too many"),
        pytest.param(section_a(version=2), id="another version"),
        pytest.param(section_a(version="1"), id="a text for a number"),
        pytest.param(section_a(version=1.0), id="a float for a number"),
        pytest.param(section_a(public_key=bytes(31)), id="a short key"),
        pytest.param(section_a(public_key=None), id="no key"),
        pytest.param(section_a(commitment=bytes(33)), id="a long commitment"),
        pytest.param(section_a(created_at=-1), id="a negative date"),
        pytest.param(section_a(created_at=2**63), id="a date beyond 63 bits"),
        pytest.param(b"[" * 900, id="deep nesting as text"),
        pytest.param(b"\x91" * 900, id="deep nesting"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="a huge array announced"),
        pytest.param(msgspec.msgpack.encode(section_a()) + b"\0", id="a tail"),
    ],
)
def test_peer_file_2_2_a_payload_of_another_shape_is_refused(payload: object):
    wire = signed(IDENTITY.signing, RecordKind.PEER_FILE, payload)
    with pytest.raises(MalformedRecord):
        verify_record_untrusted(wire, NOW)


def test_peer_file_2_3_only_the_shortest_encoding_is_accepted():
    short_form = msgspec.msgpack.encode(section_a())
    assert short_form[:2] == b"\x95\x01"
    good = signed(IDENTITY.signing, RecordKind.PEER_FILE, short_form)
    verify_record_untrusted(good, NOW)
    for longer in (
        b"\xdc\x00\x05\x01" + short_form[2:],
        b"\x95\xcc\x01" + short_form[2:],
    ):
        wire = signed(IDENTITY.signing, RecordKind.PEER_FILE, longer)
        with pytest.raises(MalformedRecord, match="canonical encoding"):
            verify_record_untrusted(wire, NOW)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"expires_at": int(NOW) + 601}, "expire at different times"),
        ({"created_at": int(NOW) + 600}, "expires before it was created"),
    ],
)
def test_peer_file_2_4_its_dates_agree_with_each_other_and_the_record(
    change: dict[str, object], complaint: str
):
    wire = signed(IDENTITY.signing, RecordKind.PEER_FILE, section_a(**change))
    with pytest.raises(MalformedRecord, match=complaint):
        verify_record_untrusted(wire, NOW)


# --- 3. Location certificate ---


def test_peer_file_3_1_every_field_of_a_certificate_has_its_place():
    certificate = location().certificate
    wire = certificate.pack()
    assert wire[0] == 1
    assert wire[1:33] == IDENTITY.signing.public
    assert wire[33:65] == NO_RECOVERY
    assert wire[65:97] == SigningKey.from_seed(b"l" * 32).public
    assert wire[97:129] == StaticKey.from_bytes(b"x" * 32).public
    assert wire[129:137] == int(NOW).to_bytes(8, "big")
    assert wire[137:145] == (int(NOW) + YEAR_S).to_bytes(8, "big")
    assert wire[145:150] == b"\x04desk"
    domain = b"opnode location certificate v1\0"
    assert wire[150:] == IDENTITY.signing.sign(domain + wire[:150])


@pytest.mark.parametrize("name", ["", "desk", "Büro", "x" * 32])
def test_peer_file_3_1_a_certificate_is_read_back(name: str):
    certificate = location(name=name).certificate
    again = unpack_certificate_untrusted(certificate.pack())
    assert again == certificate
    assert again.peer_id == IDENTITY.peer_id
    again.verify(NOW)


def test_peer_file_3_1_every_other_length_is_refused():
    wire = location().certificate.pack()
    for size in range(len(wire)):
        with pytest.raises(MalformedRecord):
            unpack_certificate_untrusted(wire[:size])
    with pytest.raises(MalformedRecord, match="name of 4 bytes has 214 bytes"):
        unpack_certificate_untrusted(wire + b"\0")
    with pytest.raises(MalformedRecord, match="210 to 242 bytes, found 243"):
        unpack_certificate_untrusted(bytes(MAX_CERTIFICATE_SIZE + 1))


def test_peer_file_3_2_another_version_is_refused():
    wire = location().certificate.pack()
    with pytest.raises(MalformedRecord, match="certificate format 2, expected 1"):
        unpack_certificate_untrusted(b"\x02" + wire[1:])


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[2J", b"\xe2\x80\xae"])
def test_peer_file_3_3_a_name_that_is_not_printable_is_refused(name: bytes):
    wire = location(name="").certificate.pack()
    named = wire[:145] + bytes([len(name)]) + name + wire[146:]
    with pytest.raises(MalformedRecord, match="name of a location"):
        unpack_certificate_untrusted(named)


@pytest.mark.parametrize("name", ["x" * 33, "é" * 17, "a\tb", "\x00"])
def test_peer_file_3_3_such_a_name_is_not_certified_either(name: str):
    with pytest.raises(ValueError, match="at most 32 bytes of printable text"):
        location(name=name)


@pytest.mark.parametrize("lifetime_s", [0, -1, MAX_LIFETIME_S + 1])
def test_peer_file_3_4_a_lifetime_outside_its_bounds_is_not_certified(lifetime_s: int):
    with pytest.raises(ValueError, match="lifetime_s"):
        location(lifetime_s=lifetime_s)


@pytest.mark.parametrize("lifetime_s", [0, -1, MAX_LIFETIME_S + 1])
def test_peer_file_3_4_a_lifetime_outside_its_bounds_is_refused(lifetime_s: int):
    wire = location().certificate.pack()
    expires_at = (int(NOW) + lifetime_s).to_bytes(8, "big")
    with pytest.raises(MalformedRecord, match="lasts no time or too long"):
        unpack_certificate_untrusted(wire[:137] + expires_at + wire[145:])


def test_peer_file_3_4_a_certificate_is_over_in_its_second_of_expiry():
    certificate = location().certificate
    certificate.verify(NOW + YEAR_S - 0.1)
    with pytest.raises(ExpiredRecord, match="the location certificate expired"):
        certificate.verify(NOW + YEAR_S)


def test_peer_file_3_4_a_certificate_from_the_future_is_refused():
    certificate = location().certificate
    certificate.verify(NOW - DAY_S)
    with pytest.raises(MalformedRecord, match="begins in the future"):
        certificate.verify(NOW - DAY_S - 1)


def test_peer_file_3_4_a_certificate_beyond_two_years_is_refused():
    certificate = location(lifetime_s=MAX_LIFETIME_S).certificate
    with pytest.raises(MalformedRecord, match="more than two years"):
        certificate.verify(NOW - DAY_S - 1)


@pytest.mark.parametrize(
    "change",
    [
        {"commitment": b"c" * 32},
        {"location_public": bytes(32)},
        {"static_public": b"y" * 32},
        {"created_at": int(NOW) - 1},
        {"expires_at": int(NOW) + 2},
        {"name": "disk"},
        {"identity_public": STRANGER.signing.public},
    ],
)
def test_peer_file_3_5_the_identity_signed_every_field(change: dict[str, object]):
    certificate: LocationCertificate = replace(location().certificate, **change)  # type: ignore[arg-type]  # each entry names a field of its type
    with pytest.raises(BadSignature, match="not signed by identity"):
        certificate.verify(NOW)


def test_a_location_does_not_show_its_secrets():
    shown = repr(location())
    assert repr(b"l" * 32) not in shown
    assert (b"l" * 32).hex() not in shown
    assert repr(b"x" * 32) not in shown


# --- 4. Presence ---


def test_peer_file_4_1_a_presence_is_read_back():
    verified = verify_record_untrusted(presence().wire, NOW)
    assert verified == presence()
    read = read_presence(verified)
    assert read.certificate == location().certificate
    assert read.introducers == introducers(3)
    assert read.capabilities == 3


@pytest.mark.parametrize("count", [0, 1, 4])
def test_peer_file_4_2_up_to_four_introducers_are_named(count: int):
    record = verify_record_untrusted(presence(count=count).wire, NOW)
    assert read_presence(record).introducers == introducers(count)


def test_peer_file_4_2_a_fifth_introducer_is_refused():
    with pytest.raises(ValueError, match="at most 4 introducers, found 5"):
        presence(count=5)
    entry = [bytes(20), bytes.fromhex("010203040fa0"), bytes(16)]
    wire = signed(
        location().signing,
        RecordKind.PRESENCE,
        presence_fields(introducers=[entry] * 5),
    )
    with pytest.raises(MalformedRecord, match=r"length <= 4"):
        verify_record_untrusted(wire, NOW)


def test_peer_file_4_3_the_longest_presence_with_three_introducers_fits_800_bytes():
    record = build_presence(
        location(name="x" * 32),
        introducers(3, host="2606:4700:1234:5678:9abc:def0:1234:5678"),
        wall_now=NOW,
        lifetime_s=600,
        seq=2**62,
        capabilities=MAX_CAPABILITIES,
    )
    assert len(record.wire) <= 800
    verify_record_untrusted(record.wire, NOW)


@pytest.mark.parametrize("capabilities", [-1, MAX_CAPABILITIES + 1])
def test_peer_file_4_4_capabilities_are_32_bits(capabilities: int):
    with pytest.raises(ValueError, match="32 bits"):
        build_presence(
            location(),
            (),
            wall_now=NOW,
            lifetime_s=60,
            seq=1,
            capabilities=capabilities,
        )
    fields = presence_fields(capabilities=capabilities)
    with pytest.raises(MalformedRecord):
        verify_record_untrusted(
            signed(location().signing, RecordKind.PRESENCE, fields), NOW
        )


GOOD = bytes.fromhex("010203040fa0")


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param([bytes(19), GOOD, bytes(16)], id="a short node id"),
        pytest.param([bytes(20), GOOD, bytes(15)], id="a short handle"),
        pytest.param([bytes(20), GOOD, bytes(17)], id="a long handle"),
        pytest.param([bytes(20), GOOD], id="no handle"),
        pytest.param([bytes(20), GOOD, bytes(16), 1], id="something more"),
        pytest.param([bytes(20), GOOD[:5], bytes(16)], id="half an address"),
        pytest.param([bytes(20), GOOD[:4] + b"\0\0", bytes(16)], id="port 0"),
        pytest.param([bytes(20), bytes(19), bytes(16)], id="a long address"),
        pytest.param("introducer", id="a text"),
    ],
)
def test_peer_file_4_5_an_introducer_of_another_shape_is_refused(entry: object):
    fields = presence_fields(introducers=[entry])
    wire = signed(location().signing, RecordKind.PRESENCE, fields)
    with pytest.raises(MalformedRecord):
        verify_record_untrusted(wire, NOW)


def test_peer_file_4_6_a_presence_never_outlives_its_certificate():
    brief = location(lifetime_s=100)
    assert presence(brief).expires_at == int(NOW) + 100
    fields = presence_fields(certificate=brief.certificate.pack())
    wire = signed(brief.signing, RecordKind.PRESENCE, fields, expires_at=int(NOW) + 101)
    with pytest.raises(MalformedRecord, match="outlives"):
        verify_record_untrusted(wire, NOW)


def test_the_bytes_of_known_records_never_change():
    records = (build_peer_file(IDENTITY, wall_now=NOW, seq=9), presence())
    assert [sha256(record.wire).hex()[:16] for record in records] == [
        "5c8c9fb383398bdc",
        "3cdd437e56d932b0",
    ]


# --- 5. Binding to the storage key ---


def test_peer_file_5_1_a_peer_file_under_another_peers_key_is_refused():
    fields = section_a(public_key=STRANGER.signing.public)
    wire = signed(STRANGER.signing, RecordKind.PEER_FILE, fields)
    with pytest.raises(MalformedRecord, match="does not belong under"):
        verify_record_untrusted(wire, NOW)


def test_peer_file_5_1_a_peer_file_signed_with_a_strangers_key_is_refused():
    wire = signed(STRANGER.signing, RecordKind.PEER_FILE, section_a())
    with pytest.raises(MalformedRecord, match="not signed with the key that it names"):
        verify_record_untrusted(wire, NOW)


def test_peer_file_5_2_a_presence_under_another_peers_key_is_refused():
    strange = location(identity=STRANGER)
    fields = presence_fields(certificate=strange.certificate.pack())
    wire = signed(strange.signing, RecordKind.PRESENCE, fields)
    with pytest.raises(MalformedRecord, match="does not belong under"):
        verify_record_untrusted(wire, NOW)


def test_peer_file_5_2_a_copied_certificate_does_not_help_a_stranger():
    wire = signed(STRANGER.signing, RecordKind.PRESENCE, presence_fields())
    with pytest.raises(
        MalformedRecord, match="not signed by the location it certifies"
    ):
        verify_record_untrusted(wire, NOW)


def test_peer_file_5_2_a_certificate_that_the_identity_never_signed_is_refused():
    own_word = replace(
        location(identity=STRANGER).certificate,
        identity_public=IDENTITY.signing.public,
    )
    fields = presence_fields(certificate=own_word.pack())
    wire = signed(location().signing, RecordKind.PRESENCE, fields)
    with pytest.raises(BadSignature, match="certificate of location"):
        verify_record_untrusted(wire, NOW)


def test_peer_file_5_3_a_claim_may_stand_under_any_key():
    wire = signed(STRANGER.signing, RecordKind.CLAIM, b"mine")
    assert verify_record_untrusted(wire, NOW).payload == b"mine"


def test_peer_file_5_3_a_chunk_is_bound_by_its_hash_already():
    chunk = build_chunk(b"payload", int(NOW) + 60)
    assert verify_record_untrusted(chunk.wire, NOW) == chunk
    check_binding(chunk, NOW)


def test_a_presence_that_is_over_is_refused_by_its_name():
    with pytest.raises(ExpiredRecord):
        verify_record_untrusted(presence().wire, NOW + 600)


def test_reading_a_record_of_another_kind_is_a_bug_of_ours():
    with pytest.raises(AssertionError, match="is no presence"):
        read_presence(build_peer_file(IDENTITY, wall_now=NOW, seq=1))
    with pytest.raises(AssertionError, match="is no peer file"):
        read_peer_file(presence())
