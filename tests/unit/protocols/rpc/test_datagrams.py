"""`datagrams`: exact bytes, strict parsing, and sizes that never amplify."""

import msgspec
import pytest

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError
from opnode.core.ids import Contact, NodeId
from opnode.protocols.rpc import datagrams as d
from opnode.protocols.rpc import messages as m

NODE = NodeId(bytes(range(20)))
TRANSACTION = b"12345678"
TOKEN = b"tokentok"
V4 = Endpoint("192.0.2.7", 4000)
V6 = Endpoint("2001:db8::7", 4000)
SENDER = d.Sender(m.MAIN_NETWORK, NODE, leaf=False)
LEAF = d.Sender(m.MAIN_NETWORK, NODE, leaf=True)

REQUESTS = [
    m.Ping(),
    m.Ping(bytes(32), bytes(18)),
    m.FindNode(bytes(20)),
    m.FindValue(bytes(20), 3),
    m.Store(b"record"),
    m.Register(bytes(16), 60, 1_700_000_000, bytes(32), bytes(64)),
    m.Introduce(bytes(16), 10, b"sealed"),
    m.Offer(bytes(16), b"sealed"),
    m.FindValue(bytes(20), 0, bytes(20)),
    m.Store(b"record", bytes(20), m.NO_RECORD),
    m.Watch(bytes(20), 600),
    m.Changed(b"record"),
    m.DialBack(bytes(16)),
    m.Dial(bytes(6), bytes(16)),
    m.Dialled(bytes(16)),
    m.Delegate(bytes(20), True),
    m.Signal(bytes(16), b"sealed"),
    m.FindServices(int(m.Service.RELAY)),
    m.JoinRelay(bytes(8), bytes(16)),
    m.RelayEnded(bytes(8), 1),
]
REPLIES = [
    m.Pong(),
    m.Pong(bytes(32), bytes(64)),
    m.Nodes((bytes(26),)),
    m.Values((b"record",), 1, (bytes(38),)),
    m.Stored(),
    m.Registered(60),
    m.Introduced(b"sealed"),
    m.Answered(b"sealed"),
    m.Stored((bytes(26),)),
    m.Watching(600),
    m.Noted(),
    m.Found((b"record",), (bytes(38),)),
    m.Servers((bytes(26),), ("wss://one.example/",)),
    m.RelayJoined(True, 600, 10_000, 10**9),
    m.Failure(m.FailureCode.STALE_RECORD, "older"),
    m.Failure(2, "", (bytes(26), bytes(38))),
]


def name_of(body):
    return type(body).__name__


@pytest.mark.parametrize("body", REQUESTS, ids=name_of)
@pytest.mark.parametrize("token", [b"", TOKEN])
@pytest.mark.parametrize("sender", [SENDER, LEAF])
def test_a_request_comes_back_as_it_was(body, token, sender):
    data = d.encode_request(sender, TRANSACTION, token, body)
    parsed = d.decode_request_untrusted(data, m.MAIN_NETWORK)
    assert parsed.body == body
    assert parsed.token == token
    assert parsed.leaf == sender.leaf
    assert (parsed.transaction_id, parsed.sender) == (TRANSACTION, NODE)
    assert parsed.size == len(data)


@pytest.mark.parametrize("body", REPLIES, ids=name_of)
@pytest.mark.parametrize("observed", [V4, V6], ids=["v4", "v6"])
def test_a_reply_comes_back_as_it_was(body, observed):
    data = d.encode_reply(SENDER, TRANSACTION, TOKEN, observed, body)
    parsed = d.decode_reply_untrusted(data, m.MAIN_NETWORK)
    assert (parsed.body, parsed.observed, parsed.token) == (body, observed, TOKEN)
    assert len(data) == d.reply_overhead(observed) + d.body_size(body)


def test_a_ping_has_exactly_the_bytes_of_the_page():
    data = d.encode_request(SENDER, TRANSACTION, TOKEN, m.Ping())
    assert (
        data
        == (b"\xc0" + m.MAIN_NETWORK + TRANSACTION + NODE + b"\x02" + TOKEN)
        + b"\x00\x06"
        + b"\x93\x01\xc4\x00\xc4\x00"
    )


def test_padding_is_zeros_and_is_ignored():
    data = d.encode_request(SENDER, TRANSACTION, b"", m.Ping(), 100)
    assert len(data) == 100
    assert data.endswith(bytes(40))
    assert d.decode_request_untrusted(data, m.MAIN_NETWORK).body == m.Ping()


def test_a_reply_with_bytes_behind_it_is_refused():
    data = d.encode_reply(SENDER, TRANSACTION, TOKEN, V4, m.Pong())
    with pytest.raises(RemoteProtocolError, match="expected"):
        d.decode_reply_untrusted(data + b"\0", m.MAIN_NETWORK)


@pytest.mark.parametrize(
    "decode", [d.decode_request_untrusted, d.decode_reply_untrusted]
)
def test_every_truncation_is_refused(decode):
    encoded = {
        d.decode_request_untrusted: d.encode_request(
            SENDER, TRANSACTION, TOKEN, m.FindNode(bytes(20))
        ),
        d.decode_reply_untrusted: d.encode_reply(
            SENDER, TRANSACTION, TOKEN, V4, m.Nodes((bytes(26),))
        ),
    }[decode]
    for length in range(len(encoded)):
        with pytest.raises(RemoteProtocolError):
            decode(encoded[:length], m.MAIN_NETWORK)


def test_a_request_is_no_reply_and_the_other_way_round():
    request = d.encode_request(SENDER, TRANSACTION, TOKEN, m.Ping(), 80)
    reply = d.encode_reply(SENDER, TRANSACTION, TOKEN, V4, m.Pong())
    with pytest.raises(RemoteProtocolError, match="expected 0xc1"):
        d.decode_reply_untrusted(request, m.MAIN_NETWORK)
    with pytest.raises(RemoteProtocolError, match="expected 0xc0"):
        d.decode_request_untrusted(reply, m.MAIN_NETWORK)


def test_another_network_is_named_before_the_body_is_read():
    other = m.network_id_of("other")
    request = d.encode_request(SENDER, TRANSACTION, TOKEN, m.Ping())
    reply = d.encode_reply(SENDER, TRANSACTION, TOKEN, V4, m.Pong())
    with pytest.raises(d.OtherNetworkError):
        d.decode_request_untrusted(request[:-1] + b"\xff", other)
    with pytest.raises(d.OtherNetworkError):
        d.decode_reply_untrusted(reply, other)


@pytest.mark.parametrize(
    ("request_type", "fields"),
    [
        (1, [bytes(33)]),
        (2, [bytes(19)]),
        (2, [bytes(20), 1]),
        (3, [bytes(20), 33]),
        (3, [bytes(20), -1]),
        (4, [b""]),
        (4, [bytes(1138)]),
        (6, [bytes(16), 1, bytes(1101)]),
        (6, [bytes(16), 86_401, b"s"]),
        (9, []),
        (2, ["text of twenty chars"]),
    ],
)
def test_a_field_out_of_bounds_is_refused(request_type, fields):
    body = msgspec.msgpack.encode([request_type, *fields])
    data = d.encode_request(SENDER, TRANSACTION, TOKEN, m.Ping())
    data = data[:46] + len(body).to_bytes(2, "big") + body
    with pytest.raises(RemoteProtocolError, match="request body"):
        d.decode_request_untrusted(data, m.MAIN_NETWORK)


def test_a_reply_that_names_more_contacts_than_a_bucket_is_refused():
    data = d.encode_reply(SENDER, TRANSACTION, TOKEN, V4, m.Nodes((bytes(26),) * 21))
    with pytest.raises(RemoteProtocolError, match="reply body"):
        d.decode_reply_untrusted(data, m.MAIN_NETWORK)


@pytest.mark.parametrize("observed", [V4, V6], ids=["v4", "v6"])
def test_an_unknown_asker_pads_to_the_largest_honest_reply(observed):
    contact = m.pack_contact(Contact(NODE, observed))
    pairs = [
        (m.Ping(), m.Pong()),
        (m.Ping(bytes(32)), m.Pong(bytes(32), bytes(64))),
        (m.FindNode(bytes(20)), m.Nodes((contact,) * m.MAX_CONTACTS)),
        (m.FindValue(bytes(20)), m.Values((bytes(1137),), 16, ())),
        (m.Introduce(bytes(16), 9, b"s"), m.Introduced(bytes(m.MAX_SEALED))),
        (m.Offer(bytes(16), b"s"), m.Answered(bytes(m.MAX_SEALED))),
        (m.Store(b"r"), m.Stored()),
        (REQUESTS[5], m.Registered(60)),
    ]
    for request, reply in pairs:
        data = d.encode_reply(SENDER, TRANSACTION, TOKEN, observed, reply)
        assert len(data) <= d.largest_reply(request, observed), request
        assert len(data) <= m.MAX_DATAGRAM


def test_a_full_record_over_ipv4_stays_within_1200_bytes():
    full = m.Values((bytes(1137),), 16, ())
    assert len(d.encode_reply(SENDER, TRANSACTION, TOKEN, V4, full)) <= 1200
    store = d.encode_request(SENDER, TRANSACTION, TOKEN, m.Store(bytes(1137)))
    assert len(store) <= 1200


def test_the_text_of_a_refusal_cannot_move_a_terminals_cursor():
    refusal = m.Failure(3, "\x1b]0;owned\x07\x1b[2J\nno \u202e room")
    data = d.encode_reply(SENDER, TRANSACTION, b"", V4, refusal)
    body = d.decode_reply_untrusted(data, m.MAIN_NETWORK).body
    assert body.code == refusal.code
    assert body.detail.isprintable()
    assert "no" in body.detail
    assert len(body.detail) == len(refusal.detail)


@pytest.mark.parametrize("services", [m.NO_SERVICE, m.Service.RELAY, m.Service(0x0C)])
def test_every_datagram_says_what_its_sender_does_for_others(services):
    sender = SENDER._replace(services=services)
    asked = d.encode_request(sender, TRANSACTION, b"", m.Ping())
    told = d.encode_reply(sender, TRANSACTION, b"", V4, m.Pong())
    assert d.decode_request_untrusted(asked, m.MAIN_NETWORK).services == services
    assert d.decode_reply_untrusted(told, m.MAIN_NETWORK).services == services
    assert not d.decode_reply_untrusted(told, m.MAIN_NETWORK).leaf
