"""Keys and secrets that follow from a seed, for whole runs that repeat themselves.

Owns the replacement of the system's randomness while a simulation runs. The randomness
inside of OpenSSL's ML-KEM stays: the bytes of its messages differ from run to run, but
neither their sizes nor what anybody does.
"""

import contextlib
import random
import secrets
from collections.abc import Iterator
from unittest import mock

from opnode.core.crypto import SigningKey

_SEED_BYTES = 32


@contextlib.contextmanager
def seeded_secrets(seed: int) -> Iterator[None]:
    """Draw every key and random byte of this process from a seed, within the block.

    Nothing made within it may ever protect anything.
    """
    rng = random.Random(f"secrets {seed}")  # noqa: S311 - repeatable on purpose

    def generate() -> SigningKey:
        return SigningKey.from_seed(rng.randbytes(_SEED_BYTES))

    with (
        mock.patch.object(secrets, "token_bytes", rng.randbytes),
        mock.patch.object(SigningKey, "generate", generate),
    ):
        yield
