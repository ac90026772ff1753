"""Primitives against published vectors, hostile points, secrets kept from view."""

import hashlib
import hmac

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from opnode.core import crypto
from opnode.core.crypto import (
    CIPHERTEXT_SIZE,
    ENCAPSULATION_KEY_SIZE,
    AeadError,
    MlKem768,
    MlKem768Key,
    SigningKey,
    StaticKey,
    TransportKeys,
    constant_time_equal,
    expand,
    extract,
    hkdf2,
    hkdf3,
    hmac_sha256,
    keyed_digest,
    new_aead,
    random_bytes,
    require_ml_kem,
    sha256,
    verify,
    verify_again,
)

# RFC 8032 §7.1, test 1.
ED25519_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
ED25519_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
ED25519_SIGNATURE = (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
    "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
# RFC 7748 §6.1.
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
# All encodings with which every secret gives zeros (https://cr.yp.to/ecdh.html).
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def test_ed25519_signs_as_rfc_8032_says():
    key = SigningKey.from_seed(bytes.fromhex(ED25519_SEED))
    assert key.public.hex() == ED25519_PUBLIC
    assert key.sign(b"").hex() == ED25519_SIGNATURE
    assert key.seed.hex() == ED25519_SEED


def test_a_signature_is_right_for_its_message_and_key_only():
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(b"message")
    assert verify(key.public, b"message", signature)
    assert not verify(key.public, b"massage", signature)
    assert not verify(other.public, b"message", signature)


@pytest.mark.parametrize(
    ("public", "signature"), [(31, 64), (33, 64), (32, 63), (0, 0)]
)
def test_keys_and_signatures_of_other_sizes_are_just_wrong(public: int, signature: int):
    assert not verify(bytes(public), b"message", bytes(signature))


def test_a_signature_with_the_group_order_added_is_refused():
    key = SigningKey.generate()
    signature = key.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    twisted = signature[:32] + scalar.to_bytes(32, "little")
    assert not verify(key.public, b"message", twisted)


def test_an_ed25519_key_of_small_order_verifies_nothing():
    # With the neutral element as key, R = B·s is a signature of every message unless
    # the verifier looks at the key. Here s = 0, so R is neutral too.
    neutral = (1).to_bytes(32, "little")
    assert not verify(neutral, b"anything", neutral + bytes(32))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_or_secret_of_another_size_is_refused(size: int):
    with pytest.raises(ValueError, match=f"32 bytes, found {size}"):
        SigningKey.from_seed(bytes(size))
    with pytest.raises(ValueError, match=f"32 bytes, found {size}"):
        StaticKey.from_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"32 bytes, found {size}"):
        StaticKey.generate().exchange(bytes(size))


def test_x25519_agrees_as_rfc_7748_says():
    alice = StaticKey.from_bytes(bytes.fromhex(ALICE))
    bob = StaticKey.from_bytes(bytes.fromhex(BOB))
    assert (alice.public.hex(), bob.public.hex()) == (ALICE_PUBLIC, BOB_PUBLIC)
    assert alice.exchange(bob.public).hex() == SHARED
    assert bob.exchange(alice.public).hex() == SHARED


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_point_of_low_order_is_refused(point: str):
    with pytest.raises(ValueError, match="low order"):
        StaticKey.generate().exchange(bytes.fromhex(point))


def test_generated_keys_differ():
    assert SigningKey.generate().seed != SigningKey.generate().seed
    assert StaticKey.generate().secret != StaticKey.generate().secret


def test_no_repr_shows_a_secret():
    signing, static = SigningKey.generate(), StaticKey.generate()
    keys = TransportKeys(b"A" * 32, b"B" * 32, b"C" * 32)
    assert signing.seed.hex() not in repr(signing)
    assert repr(signing) == f"SigningKey(public={signing.public.hex()[:8]})"
    assert repr(static) == f"StaticKey(public={static.public.hex()[:8]})"
    assert repr(keys) == "TransportKeys()"


def test_aes_256_gcm_gives_the_published_bytes():
    # McGrew and Viega, "The Galois/Counter Mode of Operation", test case 14.
    sealed = new_aead(bytes(32)).encrypt(bytes(12), bytes(16), None)
    expected = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    assert sealed.hex() == expected


@pytest.mark.parametrize("changed", ["key", "nonce", "data", "associated"])
def test_anything_changed_does_not_open(changed: str):
    sealed = new_aead(b"k" * 32).encrypt(b"n" * 12, b"text", b"header")
    aead = new_aead((b"K" if changed == "key" else b"k") * 32)
    nonce = (b"N" if changed == "nonce" else b"n") * 12
    data = bytes([sealed[0] ^ 1]) + sealed[1:] if changed == "data" else sealed
    header = b"HEADER" if changed == "associated" else b"header"
    with pytest.raises(AeadError):
        aead.decrypt(nonce, data, header)


def test_what_was_sealed_opens():
    aead = new_aead(b"k" * 32)
    sealed = aead.encrypt(b"n" * 12, b"text", b"header")
    assert aead.decrypt(b"n" * 12, sealed, b"header") == b"text"


def test_an_aead_key_of_a_weaker_cipher_is_refused():
    with pytest.raises(ValueError, match="32 bytes, found 16"):
        new_aead(bytes(16))


def test_sha256_digests_its_parts_joined():
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"a", b"", b"bc").hex() == expected


def test_hmac_gives_the_value_of_rfc_4231():
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    digest = hmac_sha256(b"Jefe", b"what do ya want ", b"for nothing?")
    assert digest.hex() == expected


def test_noise_derivations_are_rfc_5869_with_an_empty_info():
    extracted = hmac.digest(b"c" * 32, b"material", "sha256")
    whole = expand(extracted, b"", 96)
    first, second, third = whole[:32], whole[32:64], whole[64:]
    assert hkdf2(b"c" * 32, b"material") == (first, second)
    assert hkdf3(b"c" * 32, b"material") == (first, second, third)


def test_expand_gives_the_value_of_rfc_5869():
    key = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    expected = (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        "34007208d5b887185865"
    )
    label = bytes(range(0xF0, 0xFA))
    assert expand(bytes.fromhex(key), label, 42).hex() == expected


@pytest.mark.parametrize("length", [0, -1, 8161])
def test_expand_refuses_lengths_outside_its_bounds(length: int):
    with pytest.raises(ValueError, match=f"to {length} bytes, only to 1..8160"):
        expand(bytes(32), b"label", length)


def test_expand_reaches_its_longest_output():
    assert len(expand(bytes(32), b"label", 8160)) == 8160


def test_expand_refuses_a_key_that_is_too_short_to_be_one():
    with pytest.raises(ValueError, match="at least 32 bytes, found 31"):
        expand(bytes(31), b"label", 8)


def test_a_keyed_digest_is_blake2b_of_the_size_asked_for():
    expected = hashlib.blake2b(b"onetwo", key=b"key", digest_size=8).digest()
    assert keyed_digest(b"key", b"one", b"two") == expected
    assert len(keyed_digest(b"key", b"one", size=16)) == 16
    assert keyed_digest(b"kez", b"one", b"two") != expected


def test_random_bytes_have_their_size_and_differ():
    assert len(random_bytes(20)) == 20
    assert random_bytes(20) != random_bytes(20)


def test_constant_time_comparison_compares():
    assert constant_time_equal(b"same", b"same")
    assert not constant_time_equal(b"same", b"sama")
    assert not constant_time_equal(b"same", b"sam")


def test_ml_kem_gives_both_ends_the_same_secret_in_the_sizes_of_fips_203():
    kem = MlKem768()
    key = kem.generate()
    secret, ciphertext = kem.encapsulate(key.public)
    assert (len(key.public), len(ciphertext), len(secret)) == (
        ENCAPSULATION_KEY_SIZE,
        CIPHERTEXT_SIZE,
        32,
    )
    assert key.decapsulate(ciphertext) == secret


def test_ml_kem_keys_and_secrets_are_fresh_each_time():
    kem = MlKem768()
    key = kem.generate()
    assert kem.generate().public != key.public
    assert kem.encapsulate(key.public) != kem.encapsulate(key.public)


def test_an_ml_kem_key_comes_back_from_its_seed():
    seed = bytes(range(64))
    secret, ciphertext = MlKem768().encapsulate(MlKem768Key.from_seed(seed).public)
    assert MlKem768Key.from_seed(seed).decapsulate(ciphertext) == secret
    with pytest.raises(ValueError, match="64"):
        MlKem768Key.from_seed(seed[:-1])


def test_a_changed_ml_kem_ciphertext_gives_another_secret_always_the_same():
    key = MlKem768Key.from_seed(bytes(64))
    secret, ciphertext = MlKem768().encapsulate(key.public)
    changed = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    other = key.decapsulate(changed)
    assert other != secret
    assert key.decapsulate(changed) == other


@pytest.mark.parametrize("public", [b"", bytes(1183), bytes(1185), b"\xff" * 1184])
def test_what_is_no_encapsulation_key_is_refused(public):
    with pytest.raises(ValueError, match="ML-KEM"):
        MlKem768().encapsulate(public)


def test_a_ciphertext_of_another_size_is_refused():
    key = MlKem768Key.from_seed(bytes(64))
    for size in (0, 1087, 1089):
        with pytest.raises(ValueError, match="ML-KEM"):
            key.decapsulate(bytes(size))


def test_an_ml_kem_key_shows_only_its_public_half():
    key = MlKem768Key.from_seed(bytes(64))
    assert repr(key) == f"MlKem768Key(public={key.public.hex()[:8]})"


def test_without_ml_kem_nothing_starts(monkeypatch):
    class Unsupported:
        @staticmethod
        def from_public_bytes(_: bytes) -> None:
            raise UnsupportedAlgorithm("no such thing")

    require_ml_kem()
    monkeypatch.setattr(crypto, "MLKEM768PublicKey", Unsupported)
    with pytest.raises(ImportError, match=r"OpenSSL 3\.5"):
        require_ml_kem()


def test_extract_is_rfc_5869_s_first_step():
    # RFC 5869 §A.1.
    found = extract(bytes(range(13)), b"\x0b" * 22)
    assert found.hex() == (
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    )


def test_a_signature_is_told_from_memory_only_for_the_very_same_bytes():
    key, other = SigningKey.from_seed(b"k" * 32), SigningKey.from_seed(b"o" * 32)
    signature = key.sign(b"message")
    for _ in range(2):
        assert verify_again(key.public, b"message", signature)
        assert not verify_again(key.public, b"message!", signature)
        assert not verify_again(other.public, b"message", signature)
        assert not verify_again(key.public, b"message", other.sign(b"message"))
        assert not verify_again(key.public, b"message", signature[:-1])
