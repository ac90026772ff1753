import pytest

from opnode.core.crypto import CIPHERTEXT_SIZE, ENCAPSULATION_KEY_SIZE
from opnode.testing.keys import (
    SeededKem,
    seeded_bytes,
    seeded_signing_key,
    seeded_static_key,
)


def test_a_label_gives_the_same_keys_every_time():
    assert seeded_signing_key("alice").public == seeded_signing_key("alice").public
    assert seeded_static_key("alice").public == seeded_static_key("alice").public


def test_labels_and_kinds_of_keys_do_not_share_bytes():
    secrets = {
        seeded_signing_key("alice").seed,
        seeded_signing_key("bob").seed,
        seeded_static_key("alice").secret,
        seeded_static_key("bob").secret,
    }
    assert len(secrets) == 4


def test_the_length_is_as_asked():
    assert len(seeded_bytes("x", 7)) == 7


def test_a_seeded_kem_works_as_one_and_repeats_itself():
    runs = []
    for _ in range(2):
        kem, other = SeededKem("alice"), SeededKem("bob")
        key = kem.generate()
        secret, ciphertext = other.encapsulate(key.public)
        assert key.decapsulate(ciphertext) == secret
        assert (len(key.public), len(ciphertext), len(secret)) == (
            ENCAPSULATION_KEY_SIZE,
            CIPHERTEXT_SIZE,
            32,
        )
        runs.append((key.public, secret, ciphertext))
    assert runs[0] == runs[1]
    assert kem.generate().public != key.public


def test_a_seeded_kem_refuses_what_ml_kem_would_refuse():
    kem = SeededKem("alice")
    key = kem.generate()
    for public in (b"", key.public[:-1], b"\xff" * ENCAPSULATION_KEY_SIZE):
        with pytest.raises(ValueError, match="not a seeded"):
            kem.encapsulate(public)
    with pytest.raises(ValueError, match="ciphertext"):
        key.decapsulate(b"")


def test_a_changed_seeded_ciphertext_gives_another_secret():
    kem = SeededKem("alice")
    key = kem.generate()
    secret, ciphertext = kem.encapsulate(key.public)
    for at in (0, CIPHERTEXT_SIZE - 1):
        changed = bytearray(ciphertext)
        changed[at] ^= 1
        assert key.decapsulate(bytes(changed)) != secret
