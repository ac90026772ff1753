"""Codes of the protocol leave the lower half to applications."""

import pytest

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError, checked_code


def test_codes_of_the_protocol_are_in_the_upper_half():
    assert all(code == 0 or code >= 1 << 31 for code in CloseCode)


def test_a_violation_carries_its_code_and_says_what_was_found():
    error = PeerViolationError(CloseCode.FINAL_SIZE, "the final size is 3")
    assert error.code is CloseCode.FINAL_SIZE
    assert str(error) == "the final size is 3"


@pytest.mark.parametrize("code", [0, 1, (1 << 32) - 1])
def test_a_code_that_fits_the_wire_is_kept(code):
    assert checked_code(code) == code


@pytest.mark.parametrize("code", [-1, 1 << 32])
def test_a_code_that_does_not_fit_the_wire_is_the_caller_s_fault(code):
    with pytest.raises(LocalProtocolError, match="32 bits"):
        checked_code(code)
