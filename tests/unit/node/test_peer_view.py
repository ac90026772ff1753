from opnode.core.peerfile import (
    Identity,
    build_peer_file,
    build_presence,
    certify_location,
)
from opnode.node.peer_view import is_presence, view_of
from opnode.testing.clock import DEFAULT_BASE
from opnode.testing.keys import seeded_signing_key, seeded_static_key

IDENTITY = Identity(seeded_signing_key("identity"))


def presence(name, seq):
    location = certify_location(
        IDENTITY,
        signing=seeded_signing_key(name),
        static=seeded_static_key(name),
        name=name,
        wall_now=DEFAULT_BASE,
        lifetime_s=86_400,
    )
    return build_presence(location, (), wall_now=DEFAULT_BASE, lifetime_s=600, seq=seq)


def test_the_newest_presence_stands_first_beside_the_peer_file():
    peer_file = build_peer_file(IDENTITY, wall_now=DEFAULT_BASE, seq=1)
    records = [presence("phone", 5), peer_file, presence("laptop", 7)]
    view = view_of(IDENTITY.peer_id, records)
    assert view.peer_id == IDENTITY.peer_id
    assert view.peer_file is not None
    names = [found.certificate.name for found in view.presences]
    assert names == ["laptop", "phone"]
    assert [is_presence(record) for record in records] == [True, False, True]


def test_without_a_peer_file_there_is_none():
    view = view_of(IDENTITY.peer_id, [presence("phone", 5)])
    assert view.peer_file is None
