"""The exception tree: one root, faults told apart, texts that name things."""

import inspect

import pytest

from opnode.core import errors
from opnode.core.errors import (
    BootstrapFailed,
    ConfigError,
    EquivocatingRecord,
    IceFailed,
    IntroductionRefused,
    LocalProtocolError,
    NetworkError,
    OpnodeError,
    PeerUnreachable,
    ProtocolError,
    RecordError,
    RefusalCode,
    RemoteProtocolError,
    RequestRefused,
    StaleRecord,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception)
]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_descends_from_the_one_root(error: type[Exception]):
    assert issubclass(error, OpnodeError)


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_stands_in_the_tree_of_the_module(error: type[Exception]):
    assert error.__name__ in (errors.__doc__ or "")


def test_local_and_remote_faults_are_not_each_other():
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


def test_catching_network_errors_does_not_catch_bad_records():
    assert not issubclass(RecordError, NetworkError)


def test_an_equivocating_record_is_not_taken_for_a_stale_one():
    assert not issubclass(EquivocatingRecord, StaleRecord)


def test_a_config_error_says_field_found_and_expected():
    error = ConfigError("listen", "'moon'", "HOST:PORT")
    assert str(error) == "listen: found 'moon', expected HOST:PORT"
    assert (error.field, error.found, error.expected) == (
        "listen",
        "'moon'",
        "HOST:PORT",
    )


def test_an_unreachable_peer_carries_its_reason():
    error = PeerUnreachable("no introducer answered")
    assert error.reason == str(error) == "no introducer answered"


def test_failed_ice_is_an_unreachable_peer_with_its_reason():
    with pytest.raises(PeerUnreachable) as caught:
        raise IceFailed("no pair worked")
    assert caught.value.reason == "no pair worked"


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_refusal_has_a_sentence_of_its_own(code: RefusalCode):
    error = IntroductionRefused(code)
    assert error.code is code
    others = [IntroductionRefused(other).reason for other in RefusalCode]
    assert others.count(error.reason) == 1


def test_a_refusal_shows_its_detail():
    error = IntroductionRefused(RefusalCode.BUSY, "40 offers wait")
    assert error.reason == "the introducer or the peer is busy (40 offers wait)"


def test_the_refusal_codes_on_the_wire_never_change():
    assert {code.name: int(code) for code in RefusalCode} == {
        "UNKNOWN_TARGET": 1,
        "BUSY": 2,
        "EXPIRED": 3,
        "DECLINED": 4,
        "GLARE": 5,
        "MALFORMED": 6,
    }


def test_a_failed_bootstrap_lists_its_verdicts_one_a_line():
    error = BootstrapFailed(("a: no answer", "b: does not resolve"))
    assert error.verdicts == ("a: no answer", "b: does not resolve")
    assert str(error).splitlines() == ["a: no answer", "b: does not resolve"]


def test_a_bootstrap_without_entries_says_so():
    assert str(BootstrapFailed(())) == "no bootstrap entry is known"


def test_a_refused_request_says_its_code_and_detail():
    assert str(RequestRefused(3)) == "refused with code 3"
    error = RequestRefused(4, "full")
    assert (error.code, error.detail) == (4, "full")
    assert str(error) == "refused with code 4: full"
