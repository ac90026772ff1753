"""What must hold for any bytes given to a decoder that strangers reach.

The invariant of every target: only the named error escapes, and what was accepted is
encoded to the same bytes again. The targets are run by atheris (``fuzz_decoders``) and
replayed by hypothesis (``test_decoder_targets``).
"""

import itertools
from collections.abc import Callable

from opnode.core.addresses import Endpoint, pack, unpack_untrusted
from opnode.core.crypto import SigningKey, StaticKey, sha256
from opnode.core.errors import (
    ConfigError,
    OpnodeError,
    RecordError,
    RemoteProtocolError,
)
from opnode.core.ids import NodeId
from opnode.core.peerfile import (
    Identity,
    IntroducerEntry,
    build_peer_file,
    build_presence,
    certify_location,
    unpack_certificate_untrusted,
    verify_record_untrusted,
)
from opnode.core.records import parse_record_untrusted
from opnode.daemon.control_messages import parse_request_untrusted
from opnode.daemon.file_names import safe_file_name_untrusted
from opnode.protocols.lan import LanDesk, Reply
from opnode.protocols.rpc.datagrams import (
    Sender,
    decode_reply_untrusted,
    decode_request_untrusted,
    encode_reply,
    encode_request,
)
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    FindValue,
    Nodes,
)
from opnode.protocols.websocket import (
    GatewayUrl,
    HelloError,
    check_hello_untrusted,
    hello,
)
from tests.fuzz.introduction_targets import mutate

Target = Callable[[bytes], None]

WALL_NOW = 1_800_000_000.0
IDENTITY = Identity(SigningKey.from_seed(b"i" * 32))
LOCATION = certify_location(
    IDENTITY,
    signing=SigningKey.from_seed(b"l" * 32),
    static=StaticKey.from_bytes(b"s" * 32),
    name="fuzzed",
    wall_now=WALL_NOW,
    lifetime_s=86_400,
)
ENTRY = IntroducerEntry(
    node_id=NodeId(bytes(20)), endpoint=Endpoint("192.0.2.1", 1), handle=bytes(16)
)
GENUINE_RECORDS = (
    build_peer_file(IDENTITY, wall_now=WALL_NOW, seq=1).wire,
    build_presence(LOCATION, (ENTRY,), wall_now=WALL_NOW, lifetime_s=600, seq=1).wire,
)
SENDER = Sender(MAIN_NETWORK, NodeId(bytes(20)), False)
GENUINE_REQUEST = encode_request(SENDER, bytes(8), b"", FindValue(bytes(20)), 0)
GENUINE_REPLY = encode_reply(
    SENDER, bytes(8), bytes(8), Endpoint("192.0.2.1", 1), Nodes((bytes(26),))
)


def record_target(data: bytes) -> None:
    """Any bytes, and changed genuine records: nothing but the genuine one verifies."""
    for genuine in GENUINE_RECORDS:
        for received in (data, mutate(genuine, data)):
            try:
                record = verify_record_untrusted(received, WALL_NOW)
            except RecordError:
                continue
            assert record.wire == received
            is_chunk = not record.owner
            assert is_chunk or received in GENUINE_RECORDS, "a forgery was believed"


def hello_target(data: bytes) -> None:
    """Any bytes as the first message of a WebSocket, and changed genuine ones."""
    genuine = hello(MAIN_NETWORK)
    for received in (data, mutate(genuine, data), genuine + data):
        try:
            check_hello_untrusted(received, MAIN_NETWORK)
        except HelloError:
            continue
        assert received.startswith(genuine), "a HELLO of something else was taken"


def gateway_url_target(data: bytes) -> None:
    """Any text as the address of a gateway: what is taken is written the same."""
    try:
        url = GatewayUrl.parse(data.decode("utf-8", "replace"))
    except ConfigError:
        return
    assert GatewayUrl.parse(str(url)) == url


def lan_target(data: bytes) -> None:
    """Any bytes from a neighbour, and changed genuine ones: no more goes back."""
    counter = itertools.count()

    def draw(size: int) -> bytes:
        return sha256(str(next(counter)).encode())[:size]

    here, there = (LanDesk(MAIN_NETWORK[:8], draw) for _ in range(2))
    here.location, here.node_key = LOCATION, SigningKey.from_seed(b"n" * 32)
    source, own = Endpoint("192.168.1.7", 1), [Endpoint("192.168.1.9", 2)]
    peer_id = IDENTITY.peer_id
    for _, question in (there.seek(peer_id), there.hello()):
        for received in (data, mutate(question, data)):
            answer = here.receive_untrusted(
                received, source, own, now=0.0, wall_now=WALL_NOW
            )
            if isinstance(answer, Reply):
                assert len(answer.datagram) <= len(received), "an answer not paid for"
        genuine = here.receive_untrusted(
            question, source, own, now=0.0, wall_now=WALL_NOW
        )
        assert isinstance(genuine, Reply)
        changed = mutate(genuine.datagram, data)
        found = there.receive_untrusted(
            changed, source, own, now=0.0, wall_now=WALL_NOW
        )
        assert found is None or changed == genuine.datagram, "a forgery was believed"


def parsed_record_target(data: bytes) -> None:
    """Any bytes as a record that is only parsed."""
    try:
        parse_record_untrusted(data)
    except RecordError:
        return


def certificate_target(data: bytes) -> None:
    """Any bytes, and a changed certificate: only the genuine one verifies."""
    genuine = LOCATION.certificate.pack()
    for received in (data, mutate(genuine, data)):
        try:
            certificate = unpack_certificate_untrusted(received)
            assert certificate.pack() == received
            certificate.verify(WALL_NOW)
        except RecordError:
            continue
        assert received == genuine, "a forged certificate was believed"


def rpc_target(data: bytes) -> None:
    """Any bytes, and changed datagrams, as requests and as replies."""
    for received in (data, mutate(GENUINE_REQUEST, data), mutate(GENUINE_REPLY, data)):
        for decode in (decode_request_untrusted, decode_reply_untrusted):
            try:
                decode(received, MAIN_NETWORK)
            except RemoteProtocolError:
                continue


def endpoint_target(data: bytes) -> None:
    """Any bytes as a packed address."""
    try:
        endpoint = unpack_untrusted(data)
    except RemoteProtocolError:
        return
    assert pack(endpoint) == data


def control_target(data: bytes) -> None:
    """Any line at the control socket."""
    try:
        parse_request_untrusted(data)
    except OpnodeError:
        return


def file_name_target(data: bytes) -> None:
    """Any text as a file's name: what is left stays inside its directory."""
    name = safe_file_name_untrusted(data.decode("utf-8", "replace"))
    assert name
    assert name not in (".", "..")
    assert not set(name) & set("/\\\0")
    assert name.isprintable()


TARGETS: tuple[Target, ...] = (
    record_target,
    parsed_record_target,
    certificate_target,
    rpc_target,
    endpoint_target,
    control_target,
    file_name_target,
    hello_target,
    gateway_url_target,
    lan_target,
)
"""The fuzz targets of the decoders, replayed by hypothesis as plain tests."""
