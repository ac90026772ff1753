"""Ids: exact derivations, text with a checksum, address-bound node ids."""

import hashlib
import json
import random
from pathlib import Path

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.core.ids import (
    NO_RECOVERY,
    Contact,
    NodeId,
    PeerId,
    address_prefix,
    chunk_key,
    claim_key,
    crc32c,
    distance,
    fits_address,
    format_peer_id,
    node_id_of,
    parse_peer_id,
    peer_id_of,
    peer_key,
    short,
)

BEP42 = json.loads((Path(__file__).parent / "bep42_vectors.json").read_text())
VECTORS = [(one["ip"], one["rand"], one["node_id"]) for one in BEP42["vectors"]]
KEY = bytes(range(32))
PEER = peer_id_of(KEY, NO_RECOVERY)


def test_peer_file_1_1_a_peer_id_is_the_hash_of_version_algorithm_key_and_commitment():
    preimage = b"opnode peer id\x01\x01" + KEY + b"c" * 32
    assert peer_id_of(KEY, b"c" * 32) == hashlib.sha256(preimage).digest()


def test_peer_file_1_2_another_commitment_is_another_peer():
    assert peer_id_of(KEY, b"c" * 32) != PEER


@pytest.mark.parametrize(("key", "commitment"), [(31, 32), (32, 33), (0, 0)])
def test_a_peer_id_of_other_sizes_is_refused(key: int, commitment: int):
    with pytest.raises(ValueError, match=f"found {key} and {commitment}"):
        peer_id_of(bytes(key), bytes(commitment))


def test_peer_file_1_3_the_text_of_a_peer_id_is_op1_and_55_characters():
    text = format_peer_id(PEER)
    assert text.startswith("op1")
    assert len(text) == 58
    assert text == text.lower()


def test_peer_file_1_3_the_text_of_a_known_peer_id_never_changes():
    peer_id = peer_id_of(bytes(32), NO_RECOVERY)
    text = "op1lnlubua3ttgidwy3upwukbi3u2yfg2qb4sd6xoilvovqxurnp4kwu7y"
    assert format_peer_id(peer_id) == text
    assert parse_peer_id(text) == peer_id


def test_peer_file_1_3_capitals_and_outer_blanks_are_forgiven():
    assert parse_peer_id(f"  {format_peer_id(PEER).upper()}\n") == PEER


def test_peer_file_1_3_any_other_character_at_any_place_is_refused():
    text = format_peer_id(PEER)
    rng = random.Random(1)
    for position in range(3, len(text)):
        other = rng.choice([c for c in "abcxyz234567" if c != text[position]])
        with pytest.raises(ConfigError, match="a checksum that does not match"):
            parse_peer_id(text[:position] + other + text[position + 1 :])


def test_peer_file_1_3_the_last_character_has_one_spelling_only():
    text = format_peer_id(PEER)
    accepted = []
    for last in "abcdefghijklmnopqrstuvwxyz234567":
        try:
            parse_peer_id(text[:-1] + last)
        except ConfigError:
            continue
        accepted.append(last)
    assert accepted == [text[-1]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begins with '', expected the prefix op1"),
        ("oq1abc", "begins with 'oq1', expected the prefix op1"),
        ("op1abc", "6 characters, expected the length 58"),
        ("op1" + "a" * 56, "59 characters, expected the length 58"),
        ("op1" + "a" * 54 + "1", "the character '1' at place 58"),
        ("op1é" + "a" * 54, "the character 'é' at place 4"),
    ],
)
def test_peer_file_1_3_a_wrong_text_is_told_what_is_wrong_with_it(
    text: str, complaint: str
):
    with pytest.raises(ConfigError, match=f"^to: found.*{complaint}"):
        parse_peer_id(text, field="to")


def test_a_short_peer_id_is_the_beginning_of_its_text():
    assert format_peer_id(PEER).startswith("op1" + short(PEER))
    assert len(short(PEER)) == 8


def test_a_short_node_id_is_eight_hexadecimal_digits():
    assert short(bytes.fromhex("0123456789") + bytes(15)) == "01234567"


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc32c_gives_the_values_of_rfc_3720(data: bytes, checksum: int):
    assert crc32c(data) == checksum


@pytest.mark.parametrize(("ip", "rand", "node_id"), VECTORS)
def test_peer_file_1_5_a_published_bep42_id_fits_its_address(
    ip: str, rand: int, node_id: str
):
    identifier = NodeId(bytes.fromhex(node_id))
    assert identifier[-1] == rand
    assert fits_address(identifier, ip)


@pytest.mark.parametrize(("ip", "rand", "node_id"), VECTORS)
def test_peer_file_1_5_a_published_bep42_id_fits_no_other_address(
    ip: str, rand: int, node_id: str
):
    identifier = NodeId(bytes.fromhex(node_id))
    others = [other for other, _, _ in VECTORS if other != ip]
    assert len(others) == 4
    assert not any(fits_address(identifier, other) for other in others)


@pytest.mark.parametrize(("ip", "rand", "node_id"), VECTORS)
def test_peer_file_1_5_each_of_the_first_21_bits_counts_and_no_later_one(
    ip: str, rand: int, node_id: str
):
    number = int(node_id, 16)
    fits = [
        fits_address(NodeId((number ^ 1 << 159 - bit).to_bytes(20, "big")), ip)
        for bit in range(157)
    ]
    assert fits == [False] * 21 + [True] * 136


def test_peer_file_1_5_only_three_bits_of_the_seed_count():
    assert address_prefix("21.75.31.124", 86) == address_prefix("21.75.31.124", 6)
    assert address_prefix("21.75.31.124", 5) != address_prefix("21.75.31.124", 6)


def test_peer_file_1_5_ipv6_ids_depend_on_the_masked_upper_half_only():
    prefix = address_prefix("2606:4700:1234:5678::1", 3)
    assert prefix == address_prefix("2606:4700:1234:5678:ffff::2", 3)
    assert prefix != address_prefix("2606:4700:1234:5679::1", 3)
    # BEP 42 by hand: the bytes 26 06 47 00 12 34 56 78 under 01 03 07 0f 1f 3f 7f ff,
    # with the seed in the three uppermost bits.
    masked = bytes.fromhex("6002070012345678")
    assert prefix == crc32c(masked).to_bytes(4, "big")[:3]


def test_peer_file_1_5_a_node_id_at_a_public_address_keeps_139_bits_of_the_hash():
    for number in range(50):
        key = number.to_bytes(32, "big")
        node_id = node_id_of(key, "21.75.31.124")
        digest = hashlib.sha256(b"opnode node id" + key).digest()[:20]
        assert fits_address(node_id, "21.75.31.124")
        assert distance(node_id, digest) % 2**139 == 0


def test_peer_file_1_5_a_node_id_at_a_private_address_is_the_hash_alone():
    expected = hashlib.sha256(b"opnode node id" + KEY).digest()[:20]
    assert node_id_of(KEY, "192.168.1.2") == expected
    assert node_id_of(KEY, "::1") == expected


def test_peer_file_1_5_any_id_of_20_bytes_fits_a_private_address():
    assert fits_address(NodeId(bytes(20)), "10.0.0.1")
    assert not fits_address(NodeId(bytes(19)), "10.0.0.1")


def test_distance_is_xor_read_as_a_number():
    assert distance(b"\x00" * 19 + b"\x05", b"\x00" * 19 + b"\x03") == 6
    assert distance(b"\x80" + bytes(19), bytes(20)) == 2**159


def test_peer_file_1_4_storage_keys_are_domain_separated_hashes_of_20_bytes():
    same = b"x" * 32
    keys = {peer_key(PeerId(same)), chunk_key(same), claim_key(same.decode())}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {20}
    assert chunk_key(b"abc") == hashlib.sha256(b"opnode chunk keyabc").digest()[:20]


def test_a_contact_is_a_pair_of_id_and_endpoint():
    contact = Contact(NodeId(bytes(20)), Endpoint("1.2.3.4", 5))
    assert contact == (bytes(20), ("1.2.3.4", 5))
