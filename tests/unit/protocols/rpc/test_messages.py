"""`messages`: what is signed, how contacts are packed, and bounded refusals."""

import msgspec
import pytest

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError
from opnode.core.ids import Contact, NodeId
from opnode.protocols.rpc import messages as m

NODE = NodeId(bytes(range(20)))
V4 = Endpoint("192.0.2.7", 4000)
V6 = Endpoint("2001:db8::7", 4000)


@pytest.mark.parametrize("endpoint", [V4, V6], ids=["v4", "v6"])
def test_a_contact_comes_back_as_it_was(endpoint):
    contact = Contact(NODE, endpoint)
    assert m.unpack_contact_untrusted(m.pack_contact(contact)) == contact


def test_a_contact_of_a_wrong_size_is_refused():
    with pytest.raises(RemoteProtocolError):
        m.unpack_contact_untrusted(bytes(30))


def test_statements_bind_every_field():
    register = m.Register(bytes(16), 60, 5, bytes(32), bytes(64))
    base = m.registration_statement(m.MAIN_NETWORK, NODE, V4, register)
    others = [
        m.registration_statement(m.network_id_of("b"), NODE, V4, register),
        m.registration_statement(m.MAIN_NETWORK, NodeId(bytes(20)), V4, register),
        m.registration_statement(m.MAIN_NETWORK, NODE, V6, register),
        m.registration_statement(
            m.MAIN_NETWORK, NODE, V4, msgspec.structs.replace(register, lifetime_s=61)
        ),
        m.registration_statement(
            m.MAIN_NETWORK, NODE, V4, msgspec.structs.replace(register, issued_at=6)
        ),
        m.registration_statement(
            m.MAIN_NETWORK,
            NODE,
            V4,
            msgspec.structs.replace(register, handle=b"h" * 16),
        ),
    ]
    assert len({base, *others}) == len(others) + 1


def test_a_handle_depends_on_the_location_key():
    assert len(m.handle_of(bytes(32))) == 16
    assert m.handle_of(bytes(32)) != m.handle_of(b"k" * 32)


def test_a_refusal_keeps_code_and_a_bounded_detail():
    refusal = m.Refuse(m.FailureCode.BAG_FULL, "x" * 500)
    assert refusal.code == m.FailureCode.BAG_FULL
    assert len(refusal.detail) == m.MAX_DETAIL
