import click
import pytest

from opnode.cli.options import EndpointType, EntryType, PeerType
from opnode.core.addresses import Endpoint
from opnode.core.ids import PeerId, format_peer_id
from opnode.node.bootstrap import BootstrapEntry

PEER = format_peer_id(PeerId(bytes(32)))


def test_an_endpoint_is_parsed_once():
    endpoint = EndpointType().convert("[::1]:5", None, None)
    assert endpoint == Endpoint("::1", 5)
    assert EndpointType().convert(endpoint, None, None) is endpoint


def test_an_entry_is_parsed_once():
    entry = EntryType().convert("seed.example.org:4848", None, None)
    assert entry == BootstrapEntry(None, "seed.example.org", 4848)
    assert EntryType().convert(entry, None, None) is entry


@pytest.mark.parametrize("peer", ["ann", PEER, PEER.upper()])
def test_a_name_or_a_sound_peer_id_passes(peer):
    assert PeerType().convert(peer, None, None) == peer


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (EndpointType(), "localhost", "expected"),
        (EndpointType(), "1.2.3.4:70000", "expected"),
        (EntryType(), "opnode://x@h:1", "base32"),
        (PeerType(), PEER[:-1], "length"),
        (PeerType(), PEER[:-2] + "aq", "checksum"),
    ],
)
def test_what_is_wrong_and_what_was_expected_is_said(kind, text, says):
    with pytest.raises(click.BadParameter, match=says):
        kind.convert(text, None, None)
