"""Codes of the protocol leave the lower half to applications."""

from opnode.protocols.rudp.violation import CloseCode, PeerViolationError


def test_codes_of_the_protocol_are_in_the_upper_half():
    assert all(code == 0 or code >= 1 << 31 for code in CloseCode)


def test_a_violation_carries_its_code_and_says_what_was_found():
    error = PeerViolationError(CloseCode.FINAL_SIZE, "the final size is 3")
    assert error.code is CloseCode.FINAL_SIZE
    assert str(error) == "the final size is 3"
