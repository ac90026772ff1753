"""Keys, signatures, digests and random bytes; the only user of nacl and cryptography.

Primitives are never ours: Ed25519 and X25519 come from libsodium, AES-256-GCM and
ML-KEM-768 from OpenSSL, hashes from Python. This module gives them narrow types. It
knows nothing of what is signed or sealed; callers separate their domains with a prefix.
"""

import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

import nacl.bindings
import nacl.exceptions
import nacl.signing
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_SIZE = 32
SIGNATURE_SIZE = 64
# FIPS 203 §8, parameter set ML-KEM-768.
ENCAPSULATION_KEY_SIZE = 1184
CIPHERTEXT_SIZE = 1088
_DIGEST_SIZE = 32

# What ``Aead.decrypt`` raises; callers need not know which library is behind it.
AeadError = InvalidTag

# HKDF counts its blocks in one byte (RFC 5869 §2.3).
_MAX_EXPANDED = 255 * _DIGEST_SIZE


class SigningKey:
    """An Ed25519 key pair (RFC 8032). Its seed is the secret and is never shown."""

    __slots__ = ("_key", "public")

    public: bytes

    def __init__(self, key: nacl.signing.SigningKey) -> None:
        """Use ``generate`` or ``from_seed`` instead."""
        self._key = key
        self.public = bytes(key.verify_key)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness."""
        return cls(nacl.signing.SigningKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the key of a 32-byte seed.

        Raises:
            ValueError: The seed has another size.
        """
        _check_size("an Ed25519 seed", seed)
        return cls(nacl.signing.SigningKey(seed))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes; for key files only."""
        return bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; the same message gives the same bytes."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()[:8]})"


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether an Ed25519 signature is right; wrong sizes are just wrong.

    libsodium also refuses keys of small order and non-canonical signatures, so one
    message has one signature that verifies.
    """
    if len(public) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def verify_again(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell what `verify` tells, but from memory where it said yes a short while ago.

    A record comes from several holders, and to a holder again every hour: 70 µs become
    1. Only good signatures are remembered, so forged ones cannot fill the memory.
    """
    try:
        return _verified(public, message, signature)
    except _NotSigned:
        return False


class _NotSigned(Exception):  # noqa: N818 - a verdict that a cache forgets
    """What `lru_cache` does not keep."""


# At most 2.5 MB: a record or a certificate each.
@functools.lru_cache(maxsize=2048)
def _verified(public: bytes, message: bytes, signature: bytes) -> bool:
    if not verify(public, message, signature):
        raise _NotSigned
    return True


class StaticKey:
    """An X25519 key pair (RFC 7748). The secret is never shown."""

    __slots__ = ("public", "secret")

    public: bytes
    secret: bytes

    def __init__(self, secret: bytes) -> None:
        """Use ``generate`` or ``from_bytes`` instead."""
        self.secret = secret
        self.public = nacl.bindings.crypto_scalarmult_base(secret)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness."""
        return cls(secrets.token_bytes(KEY_SIZE))

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Make the key of 32 secret bytes.

        Raises:
            ValueError: The secret has another size.
        """
        _check_size("an X25519 secret", secret)
        return cls(bytes(secret))

    def exchange(self, their_public: bytes) -> bytes:
        """Return the 32 bytes shared with the owner of a public key.

        Raises:
            ValueError: The key has another size, or is a point of low order, with
                which everybody would share the same bytes (RFC 7748 §6.1).
        """
        _check_size("an X25519 public key", their_public)
        try:
            return nacl.bindings.crypto_scalarmult(self.secret, bytes(their_public))
        except nacl.exceptions.RuntimeError as error:
            raise ValueError("the X25519 public key is a point of low order") from error

    def __repr__(self) -> str:
        return f"StaticKey(public={self.public.hex()[:8]})"


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """What a finished handshake leaves to one side; both keys are secrets.

    Attributes:
        send: 32-byte key for what we send.
        receive: 32-byte key for what we receive.
        handshake_hash: 32 bytes that both sides share and nobody else can choose.
    """

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)
    handshake_hash: bytes = field(repr=False)


class Aead(Protocol):
    """Authenticated encryption as ``cryptography`` offers it; nonces take 12 bytes."""

    def encrypt(
        self, nonce: bytes, data: bytes, associated_data: bytes | None
    ) -> bytes:
        """Return the ciphertext followed by its 16-byte tag."""
        ...

    def decrypt(
        self, nonce: bytes, data: bytes, associated_data: bytes | None
    ) -> bytes:
        """Return the plaintext; raises AeadError when anything was changed."""
        ...

    def encrypt_into(
        self,
        nonce: bytes,
        data: memoryview,
        associated_data: bytes | None,
        buf: memoryview,
    ) -> int:
        """Write ciphertext and tag to a buffer of exactly their size."""
        ...

    def decrypt_into(
        self,
        nonce: bytes,
        data: memoryview,
        associated_data: bytes | None,
        buf: memoryview,
    ) -> int:
        """Write the plaintext to a buffer of exactly its size; else as ``decrypt``."""
        ...


def new_aead(key: bytes) -> Aead:
    """Return AES-256-GCM under a 32-byte key: the library's object, not wrapped.

    A Python wrapper would add 0.1 µs to the 0.5 µs that a packet costs.

    Raises:
        ValueError: The key has another size.
    """
    _check_size("an AES-256 key", key)
    return AESGCM(key)


class DecapsulationKey(Protocol):
    """The secret half of a key pair for one encapsulation."""

    @property
    def public(self) -> bytes:
        """The encapsulation key."""
        ...

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the 32-byte secret in a ciphertext; a wrong one gives another secret.

        Raises:
            ValueError: The ciphertext has a wrong size.
        """
        ...


class Kem(Protocol):
    """A key encapsulation mechanism; tests put in one that repeats itself."""

    def generate(self) -> DecapsulationKey:
        """Make a fresh key pair."""
        ...

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        """Return a fresh 32-byte secret, and the ciphertext that carries it.

        Raises:
            ValueError: The bytes are no encapsulation key.
        """
        ...


class MlKem768Key:
    """A decapsulation key of ML-KEM-768 (FIPS 203). The secret is never shown."""

    __slots__ = ("_key", "public")

    public: bytes

    def __init__(self, key: MLKEM768PrivateKey) -> None:
        """Use ``MlKem768.generate`` or ``from_seed`` instead."""
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the key of the 64-byte seed d || z (FIPS 203 §7.1).

        Raises:
            ValueError: The seed has another size.
        """
        return cls(MLKEM768PrivateKey.from_seed_bytes(seed))

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the secret; a forged ciphertext gives an unrelated one (§6.3).

        Raises:
            ValueError: The ciphertext does not have 1088 bytes.
        """
        return self._key.decapsulate(ciphertext)

    def __repr__(self) -> str:
        return f"MlKem768Key(public={self.public.hex()[:8]})"


class MlKem768:
    """ML-KEM-768 with randomness from OpenSSL: 95 µs, 36 µs and 29 µs a call."""

    def generate(self) -> MlKem768Key:
        """Make a fresh key pair."""
        return MlKem768Key(MLKEM768PrivateKey.generate())

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        """Return a fresh secret and its ciphertext.

        Raises:
            ValueError: Not 1184 bytes, or a coefficient is not reduced (§7.2).
        """
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()


ML_KEM_768 = MlKem768()


def require_ml_kem() -> None:
    """Refuse to run without ML-KEM-768: there is no other, weaker way.

    Raises:
        ImportError: ``cryptography`` was built with a library that lacks it.
    """
    try:
        # Nothing costs less: the size is wrong, and found to be so after support.
        MLKEM768PublicKey.from_public_bytes(b"")
    except UnsupportedAlgorithm:
        raise ImportError(
            "opnode needs ML-KEM-768 and this build of cryptography has none: "
            "it takes OpenSSL 3.5 or newer, as in the wheels from 47 on"
        ) from None
    except ValueError:
        return


def block_encryptor(key: bytes) -> Callable[[bytes], bytes]:
    """Return AES-256 on whole 16-byte blocks, each by itself: a random function.

    For deriving bytes from counters. It hides nothing of what is put in twice, so it
    is no way to encrypt.

    Raises:
        ValueError: The key has another size.
    """
    _check_size("an AES-256 key", key)
    mode = modes.ECB()  # noqa: S305 - blocks are counters, none comes twice
    return Cipher(algorithms.AES(key), mode).encryptor().update


def sha256(*parts: bytes) -> bytes:
    """Return the 32-byte SHA-256 digest of the parts joined."""
    return hashlib.sha256(b"".join(parts)).digest()


def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
    """Return the 32-byte HMAC (RFC 2104) of the parts joined."""
    return hmac.digest(key, b"".join(parts), "sha256")


def hkdf2(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Derive two 32-byte keys as Noise does (revision 34 §4.3, RFC 5869)."""
    extracted = hmac_sha256(chaining_key, material)
    first = hmac_sha256(extracted, b"\x01")
    return first, hmac_sha256(extracted, first, b"\x02")


def hkdf3(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes, bytes]:
    """Derive three 32-byte keys as Noise does (revision 34 §4.3, RFC 5869)."""
    extracted = hmac_sha256(chaining_key, material)
    first = hmac_sha256(extracted, b"\x01")
    second = hmac_sha256(extracted, first, b"\x02")
    return first, second, hmac_sha256(extracted, second, b"\x03")


def extract(salt: bytes, material: bytes) -> bytes:
    """Concentrate key material in 32 uniformly random bytes (RFC 5869 §2.2).

    As long as either argument is secret and random, so is the result.
    """
    return hmac_sha256(salt, material)


def expand(key: bytes, label: bytes, length: int) -> bytes:
    """Derive `length` bytes for the use named by `label` (RFC 5869 §2.3).

    Args:
        key: At least 32 bytes that are already uniformly random.
        label: Says what the bytes are for; other labels give unrelated bytes.
        length: 1 to 8160 bytes.

    Raises:
        ValueError: The length or the key's size is outside its bounds.
    """
    if not 1 <= length <= _MAX_EXPANDED:
        raise ValueError(f"cannot expand to {length} bytes, only to 1..{_MAX_EXPANDED}")
    if len(key) < _DIGEST_SIZE:
        raise ValueError(f"a key to expand has at least 32 bytes, found {len(key)}")
    output = block = b""
    counter = 1
    while len(output) < length:
        block = hmac_sha256(key, block, label, bytes([counter]))
        output += block
        counter += 1
    return output[:length]


def keyed_digest(key: bytes, *parts: bytes, size: int = 8) -> bytes:
    """Return a short keyed BLAKE2b digest, for tokens that only we check.

    Args:
        key: At most 64 secret bytes.
        parts: What is bound, joined; the caller keeps their borders unambiguous.
        size: 1 to 64 bytes.
    """
    return hashlib.blake2b(b"".join(parts), key=key, digest_size=size).digest()


def random_bytes(size: int) -> bytes:
    """Return secret bytes from the system; never reproducible, unlike an rng."""
    return secrets.token_bytes(size)


def constant_time_equal(left: bytes, right: bytes) -> bool:
    """Compare without telling, by its duration, where the first difference is."""
    return hmac.compare_digest(left, right)


def _check_size(what: str, value: bytes) -> None:
    if len(value) != KEY_SIZE:
        raise ValueError(f"{what} has {KEY_SIZE} bytes, found {len(value)}")


# Not at the first connection: a node that cannot keep the promise never starts.
require_ml_kem()
