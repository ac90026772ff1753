import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.decoder_targets import GENUINE_RECORDS, TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
@given(data=st.binary(max_size=1400))
@example(data=b"")
@example(data=GENUINE_RECORDS[0])
@example(data=GENUINE_RECORDS[1])
@example(data=b'{"version":1,"verb":"id"}')
@example(data=b"../../etc/passwd")
def test_only_the_named_error_escapes_a_decoder(target, data):
    target(data)
