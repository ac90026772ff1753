"""Keys that are the same in every run: never for anything but tests and simulations.

Owns the derivation of key material from a label. Refuses to know who uses the keys.
"""

import hashlib

from opnode.core.crypto import (
    CIPHERTEXT_SIZE,
    ENCAPSULATION_KEY_SIZE,
    KEY_SIZE,
    SigningKey,
    StaticKey,
    sha256,
)


def seeded_bytes(label: str, length: int = 32) -> bytes:
    """`length` bytes (at most 64) that depend on `label` alone."""
    return hashlib.blake2b(label.encode(), digest_size=length).digest()


def seeded_signing_key(label: str) -> SigningKey:
    """The Ed25519 key that belongs to `label`."""
    return SigningKey.from_seed(seeded_bytes(f"signing {label}"))


def seeded_static_key(label: str) -> StaticKey:
    """The X25519 key that belongs to `label`."""
    return StaticKey.from_bytes(seeded_bytes(f"static {label}"))


class SeededDecapsulationKey:
    """An X25519 key in the clothes of ML-KEM-768: as long, and the same every run."""

    def __init__(self, key: StaticKey) -> None:
        """Take the key that opens."""
        self._key = key
        self.public = key.public.ljust(ENCAPSULATION_KEY_SIZE, b"\0")

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the secret; another ciphertext gives another one."""
        if len(ciphertext) != CIPHERTEXT_SIZE:
            raise ValueError(f"a ciphertext has {CIPHERTEXT_SIZE} bytes")
        return sha256(self._key.exchange(ciphertext[:KEY_SIZE]), ciphertext)


class SeededKem:
    """A key encapsulation whose keys and ciphertexts depend on its label alone.

    ML-KEM draws its own randomness, so that no run with it repeats another.
    """

    def __init__(self, label: str) -> None:
        """Start with the first key of a label."""
        self._label = label
        self._count = 0

    def generate(self) -> SeededDecapsulationKey:
        """Make the next key pair."""
        return SeededDecapsulationKey(self._next_key())

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        """Return the next secret and its ciphertext.

        Raises:
            ValueError: Not an encapsulation key of ``SeededDecapsulationKey``.
        """
        if len(public) != ENCAPSULATION_KEY_SIZE or any(public[KEY_SIZE:]):
            raise ValueError("not a seeded encapsulation key")
        key = self._next_key()
        ciphertext = key.public.ljust(CIPHERTEXT_SIZE, b"\0")
        return sha256(key.exchange(public[:KEY_SIZE]), ciphertext), ciphertext

    def _next_key(self) -> StaticKey:
        self._count += 1
        return seeded_static_key(f"{self._label} kem {self._count}")
