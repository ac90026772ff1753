"""Keys that are the same in every run: never for anything but tests and simulations.

Owns the derivation of key material from a label. Refuses to know who uses the keys.
"""

import hashlib

from opnode.core.crypto import SigningKey, StaticKey


def seeded_bytes(label: str, length: int = 32) -> bytes:
    """`length` bytes (at most 64) that depend on `label` alone."""
    return hashlib.blake2b(label.encode(), digest_size=length).digest()


def seeded_signing_key(label: str) -> SigningKey:
    """The Ed25519 key that belongs to `label`."""
    return SigningKey.from_seed(seeded_bytes(f"signing {label}"))


def seeded_static_key(label: str) -> StaticKey:
    """The X25519 key that belongs to `label`."""
    return StaticKey.from_bytes(seeded_bytes(f"static {label}"))
