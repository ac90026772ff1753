"""The keys of the handshake protect the packets of both directions."""

import pytest

from opnode.core.crypto import AeadError
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.testing.pair import seeded_keys


def test_what_one_end_seals_only_the_other_opens():
    one, other = (PacketKeys(keys) for keys in seeded_keys())
    sealed = one.encrypt(bytes(12), b"text", None)
    assert other.decrypt(bytes(12), sealed, None) == b"text"
    with pytest.raises(AeadError):
        one.decrypt(bytes(12), sealed, None)


def test_a_phase_that_never_began_opens_nothing():
    one, other = (PacketKeys(keys) for keys in seeded_keys())
    sealed = one.encrypt(bytes(12), b"text", None)
    assert other.open_other_phase(0, bytes(12), sealed) is None
