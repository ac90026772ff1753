"""The desk's events are values."""

from opnode.protocols.introductions.events import IncomingWithdrawn, OutgoingSuperseded


def test_events_about_the_same_offer_are_equal_and_of_another_kind_are_not():
    assert OutgoingSuperseded(b"s", b"o") == OutgoingSuperseded(b"s", b"o")
    assert OutgoingSuperseded(b"s", b"o") != IncomingWithdrawn(b"s", b"o")
