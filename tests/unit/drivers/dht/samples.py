"""A key, the record under it and who wants it, for the tests of this directory."""

from opnode.core.ids import claim_key
from opnode.core.records import RecordKind, build_record
from opnode.testing.keys import seeded_signing_key

KEY = claim_key("somebody")


def claim(network, owner="anna", seq=1, lifetime_s=10_000, size=20):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=seq,
        expires_at=int(network.wall_clock()) + lifetime_s,
        payload=bytes(size),
    )


def anything(_):
    return True
