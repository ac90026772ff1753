"""Records under arbitrary content and arbitrary damage."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, StaticKey
from opnode.core.errors import RecordError
from opnode.core.ids import (
    NodeId,
    PeerId,
    StorageKey,
    format_peer_id,
    parse_peer_id,
)
from opnode.core.peerfile import (
    Identity,
    IntroducerEntry,
    build_peer_file,
    build_presence,
    certify_location,
    read_presence,
    unpack_certificate_untrusted,
    verify_record_untrusted,
)
from opnode.core.records import (
    MAX_LIFETIME_S,
    MAX_PAYLOAD_SIZE,
    MAX_RECORD_SIZE,
    MAX_SEQ,
    RecordKind,
    SignedRecord,
    build_chunk,
    build_record,
    parse_record_untrusted,
)

NOW = 1_000_000_000
IDENTITY = Identity(SigningKey.from_seed(b"i" * 32))
LOCATION = certify_location(
    IDENTITY,
    signing=SigningKey.from_seed(b"l" * 32),
    static=StaticKey.from_bytes(b"x" * 32),
    name="desk",
    wall_now=NOW,
    lifetime_s=10_000,
)
ENTRY = IntroducerEntry(
    node_id=NodeId(b"n" * 20), endpoint=Endpoint("1.2.3.4", 5), handle=b"h" * 16
)
PRESENCE = build_presence(LOCATION, (ENTRY,), wall_now=NOW, lifetime_s=600, seq=5)
PEER_FILE = build_peer_file(IDENTITY, wall_now=NOW, seq=5)
CHUNK = build_chunk(b"some content", NOW + 600)

KEYS = st.binary(min_size=20, max_size=20).map(StorageKey)
SEEDS = st.binary(min_size=32, max_size=32)
PAYLOADS = st.binary(max_size=MAX_PAYLOAD_SIZE)
DATES = st.integers(NOW + 1, NOW + MAX_LIFETIME_S)


@given(SEEDS, KEYS, st.integers(0, MAX_SEQ), DATES, PAYLOADS)
def test_whatever_is_signed_is_read_back_from_its_bytes(
    seed: bytes, key: StorageKey, seq: int, expires_at: int, payload: bytes
):
    record = build_record(
        SigningKey.from_seed(seed),
        kind=RecordKind.CLAIM,
        key=key,
        seq=seq,
        expires_at=expires_at,
        payload=payload,
    )
    assert parse_record_untrusted(record.wire).verify(NOW) == record


@given(PAYLOADS, DATES)
def test_every_chunk_is_read_back_from_its_bytes(payload: bytes, expires_at: int):
    chunk = build_chunk(payload, expires_at)
    assert parse_record_untrusted(chunk.wire).verify(NOW) == chunk


@pytest.mark.parametrize("record", [PRESENCE, PEER_FILE], ids=lambda r: r.kind.name)
def test_any_flipped_bit_of_any_byte_of_a_signed_record_is_refused(
    record: SignedRecord,
):
    for bit in range(len(record.wire) * 8):
        damaged = bytearray(record.wire)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordError):
            verify_record_untrusted(bytes(damaged), NOW)


def test_any_flipped_bit_of_a_chunk_outside_its_expiry_is_refused():
    expiry = range(31 * 8, 39 * 8)
    for bit in set(range(len(CHUNK.wire) * 8)).difference(expiry):
        damaged = bytearray(CHUNK.wire)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordError):
            verify_record_untrusted(bytes(damaged), NOW)


def test_any_flipped_bit_of_a_certificate_is_refused():
    wire = LOCATION.certificate.pack()
    for bit in range(len(wire) * 8):
        damaged = bytearray(wire)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordError):
            unpack_certificate_untrusted(bytes(damaged)).verify(NOW)


@given(st.binary(max_size=MAX_RECORD_SIZE + 50))
def test_random_bytes_raise_nothing_but_record_errors(data: bytes):
    with pytest.raises(RecordError):
        verify_record_untrusted(data, NOW)


@given(
    st.sampled_from([PRESENCE, PEER_FILE, CHUNK]),
    st.integers(0, 700),
    st.integers(0, 40),
    st.binary(max_size=40),
)
@example(PRESENCE, 0, 0, b"")
def test_spliced_records_are_the_same_or_refused(
    record: SignedRecord, at: int, cut: int, inserted: bytes
):
    wire = record.wire[:at] + inserted + record.wire[at + cut :]
    try:
        accepted = verify_record_untrusted(wire, NOW)
    except RecordError:
        return
    assert accepted.payload == record.payload
    assert accepted.key == record.key
    assert accepted.wire == record.wire or record is CHUNK


@given(st.sampled_from([RecordKind.PEER_FILE, RecordKind.PRESENCE]), PAYLOADS)
def test_a_well_signed_payload_of_any_bytes_raises_nothing_but_record_errors(
    kind: RecordKind, payload: bytes
):
    record = build_record(
        LOCATION.signing,
        kind=kind,
        key=PRESENCE.key,
        seq=1,
        expires_at=NOW + 60,
        payload=payload,
    )
    with pytest.raises(RecordError):
        verify_record_untrusted(record.wire, NOW)


HOSTS = st.one_of(
    st.ip_addresses(v=4, network="1.0.0.0/8"),
    st.ip_addresses(v=6, network="2600::/12"),
).map(str)
ENTRIES = st.builds(
    IntroducerEntry,
    node_id=st.binary(min_size=20, max_size=20).map(NodeId),
    endpoint=st.builds(Endpoint, HOSTS, st.integers(1, 65535)),
    handle=st.binary(min_size=16, max_size=16),
)


@given(
    st.lists(ENTRIES, max_size=4).map(tuple),
    st.integers(0, 2**32 - 1),
    st.integers(1, 20_000),
)
def test_every_presence_is_read_back_whole(
    entries: tuple[IntroducerEntry, ...], capabilities: int, lifetime_s: int
):
    record = build_presence(
        LOCATION,
        entries,
        wall_now=NOW,
        lifetime_s=lifetime_s,
        seq=1,
        capabilities=capabilities,
    )
    assert len(record.wire) <= 800
    presence = read_presence(verify_record_untrusted(record.wire, NOW))
    assert presence.certificate == LOCATION.certificate
    assert presence.introducers == entries
    assert presence.capabilities == capabilities


@given(st.binary(min_size=32, max_size=32).map(PeerId))
def test_every_peer_id_is_read_back_from_its_text(peer_id: PeerId):
    assert parse_peer_id(format_peer_id(peer_id)) == peer_id
