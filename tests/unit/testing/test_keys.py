from opnode.testing.keys import seeded_bytes, seeded_signing_key, seeded_static_key


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
