"""Records for the tests of this directory."""

from opnode.core.ids import claim_key, peer_key
from opnode.core.peerfile import Identity, build_presence, certify_location
from opnode.core.records import RecordKind, build_record
from opnode.testing.keys import seeded_signing_key, seeded_static_key

NOW = 1_000_000.0
KEY = claim_key("somebody")


IDENTITY = Identity(seeded_signing_key("identity"))
PEER_KEY = peer_key(IDENTITY.peer_id)


def presence(name, seq=1):
    location = certify_location(
        IDENTITY,
        signing=seeded_signing_key(f"location {name}"),
        static=seeded_static_key(name),
        name=name,
        wall_now=NOW,
        lifetime_s=10_000,
    )
    return build_presence(location, (), wall_now=NOW, lifetime_s=600, seq=seq)


def squatter(number):
    return build_record(
        seeded_signing_key(f"squatter {number}"),
        kind=RecordKind.CLAIM,
        key=PEER_KEY,
        seq=1,
        expires_at=int(NOW) + 700,
        payload=b"",
    )


def claim(owner="anna", seq=1, lifetime_s=100, payload=b"claim", name="somebody"):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=claim_key(name),
        seq=seq,
        expires_at=int(NOW) + lifetime_s,
        payload=payload,
    )
