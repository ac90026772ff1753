import pytest

from opnode.core.addresses import Candidate, Endpoint
from opnode.drivers.ice.connection import ice_text, is_dialable, to_aioice


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "127.0.0.1", "203.0.113.1", "2001:db8::1"]
)
def test_hosts_are_dialable(host: str):
    assert is_dialable(Endpoint(host, 1))
    assert is_dialable(Endpoint(host, 65_535))


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_ports_outside_of_the_range_are_not_dialable(port: int):
    assert not is_dialable(Endpoint("10.0.0.1", port))


@pytest.mark.parametrize(
    "host",
    ["", "::", "0.0.0.0", "224.0.0.251", "ff02::fb", "255.255.255.255", "a.b"],
)
def test_nobody_everybody_and_names_are_not_dialable(host: str):
    assert not is_dialable(Endpoint(host, 5))


def test_credentials_use_the_whole_ice_alphabet_without_padding():
    assert ice_text(bytes(6)) == "AAAAAAAA"
    assert ice_text(b"\xff\xef\xbe") == "/+++"


def test_a_candidate_reaches_aioice_as_it_is():
    related = Endpoint("10.0.0.1", 7)
    candidate = Candidate(
        kind="srflx",
        endpoint=Endpoint("203.0.113.1", 9),
        priority=77,
        foundation="s0",
        related=related,
    )
    assert to_aioice(candidate).to_sdp() == (
        "s0 1 udp 77 203.0.113.1 9 typ srflx raddr 10.0.0.1 rport 7"
    )
