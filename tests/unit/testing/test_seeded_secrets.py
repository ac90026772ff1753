"""`seeded_secrets`: what is drawn follows from the seed, and only within the block."""

from opnode.core.crypto import SigningKey, StaticKey, random_bytes
from opnode.testing.seeded_secrets import seeded_secrets


def draw(seed):
    with seeded_secrets(seed):
        return (
            SigningKey.generate().public,
            StaticKey.generate().public,
            random_bytes(16),
        )


def test_the_same_seed_gives_the_same_keys_and_another_seed_others():
    assert draw(1) == draw(1)
    assert not set(draw(1)) & set(draw(2))


def test_after_the_block_keys_are_secret_again():
    draw(1)
    drawn = {SigningKey.generate().public for _ in range(2)}
    drawn |= {random_bytes(16) for _ in range(2)}
    assert len(drawn) == 4
    assert not drawn & set(draw(1))
