"""The control protocol's messages: what a terminal asks the running node, line by line.

Owns the types, the JSON lines and their bounds. Refuses to know what a verb does. See
docs/protocols/control.md.
"""

from typing import Annotated, Final, Generic, TypeAlias, TypeVar

import msgspec
import trio

from opnode.core.errors import RemoteProtocolError

VERSION: Final = 1

MAX_LINE: Final = 64 * 1024
"""Bytes of one line: a full status with every counter has about 4 kB."""

READ_SIZE: Final = 16 * 1024

Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]
"""A petname or a peer id; the address book says what is wrong with it."""


class _Verb(msgspec.Struct, frozen=True, kw_only=True, tag_field="verb"):
    version: int = VERSION


class Id(_Verb, frozen=True, kw_only=True, tag="id"):
    """Who is this node?"""


class Status(_Verb, frozen=True, kw_only=True, tag="status"):
    """How is it?"""


class Lookup(_Verb, frozen=True, kw_only=True, tag="lookup"):
    """Where is that peer?"""

    peer: Name


class Trace(_Verb, frozen=True, kw_only=True, tag="trace"):
    """Look ``target`` up and tell every hop of the way.

    ``target`` is a peer, or 40 hexadecimal digits of a storage key or node id. With
    ``nodes`` the closest nodes are looked for, not records.
    """

    target: Name
    nodes: bool = False


class Doctor(_Verb, frozen=True, kw_only=True, tag="doctor"):
    """What is right and wrong with the node? Asks others; takes some seconds."""


class Ping(_Verb, frozen=True, kw_only=True, tag="ping"):
    """Connect, and measure ``count`` round trips, ``interval_s`` seconds apart."""

    peer: Name
    count: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 4
    interval_s: Annotated[float, msgspec.Meta(ge=0.01, le=3600)] = 1.0


class HangUp(_Verb, frozen=True, kw_only=True, tag="hang up"):
    """End the connections to a peer, whoever uses them."""

    peer: Name


class Send(_Verb, frozen=True, kw_only=True, tag="send"):
    """Send the file at the absolute ``path``; progress every ``report_s`` seconds."""

    peer: Name
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    report_s: Annotated[float, msgspec.Meta(ge=0.001, le=60)] = 0.05


class Chat(_Verb, frozen=True, kw_only=True, tag="chat"):
    """Chat: followed by ``say`` and ``shown`` lines until the client hangs up."""

    peer: Name


class Say(_Verb, frozen=True, kw_only=True, tag="say"):
    """A line for the peer; ``number`` comes back when it was shown."""

    number: int
    text: Annotated[str, msgspec.Meta(max_length=4096)]


class MarkShown(_Verb, frozen=True, kw_only=True, tag="shown"):
    """The terminal has shown the peer's line ``number``."""

    number: int


class AddContact(_Verb, frozen=True, kw_only=True, tag="contacts add"):
    """Call a peer by a name."""

    name: Name
    peer: Name


class ListContacts(_Verb, frozen=True, kw_only=True, tag="contacts list"):
    """Who has a name?"""


class RemoveContact(_Verb, frozen=True, kw_only=True, tag="contacts remove"):
    """Forget a name."""

    name: Name


class Stop(_Verb, frozen=True, kw_only=True, tag="stop"):
    """Leave and end."""


Request: TypeAlias = (
    Id
    | Status
    | Lookup
    | Trace
    | Doctor
    | Ping
    | HangUp
    | Send
    | Chat
    | Say
    | MarkShown
    | AddContact
    | ListContacts
    | RemoveContact
    | Stop
)

VERBS: Final = (
    "id",
    "status",
    "lookup",
    "trace",
    "doctor",
    "ping",
    "hang up",
    "send",
    "chat",
    "contacts add",
    "contacts list",
    "contacts remove",
    "stop",
)


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    pass


class Identity(_Event, frozen=True, kw_only=True, tag="identity"):
    """Who this node is. A seed has no ``peer_id``, a leaf no ``invite``."""

    peer_id: str | None
    node_id: str
    endpoint: str
    invite: str | None


class StatusReport(_Event, frozen=True, kw_only=True, tag="status"):
    """Counters of every part, as plain values."""

    version: str
    peer_id: str | None
    uptime_s: float
    connections: list[dict[str, object]]
    node: dict[str, object]
    services: dict[str, object]


class LocationFound(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a peer, from its presence."""

    name: str
    introducers: list[str]
    certified_until: int


class PeerFound(_Event, frozen=True, kw_only=True, tag="found"):
    """What a lookup found; times in Unix seconds."""

    peer_id: str
    name: str | None
    lookup_ms: float
    created_at: int | None
    expires_at: int | None
    locations: list[LocationFound]


class Hop(_Event, frozen=True, kw_only=True, tag="hop"):
    """One node that a traced lookup asked.

    ``number``: place in the order of the questions, from 0 on; ``named_by``: number of
    the hop whose answer named it first, null for a contact of our own. ``outcome``:
    ``answered``, ``late``, ``failed``, or ``open`` where the lookup was over before.
    ``new``: contacts that its answer added.
    """

    number: int
    named_by: int | None
    node_id: str
    endpoint: str
    path: int
    shared_bits: int
    in_region: bool
    outcome: str
    asked_at_ms: float
    rtt_ms: float | None
    new: int
    records: int


class Traced(_Event, frozen=True, kw_only=True, tag="traced"):
    """The end of a traced lookup, after its hops.

    ``records``: slots under the key of which a record verified. ``complete``: it ended
    by itself, not at a limit. ``first_record_ms``: when the first record came.
    """

    target: str
    nodes: bool
    took_ms: float
    complete: bool
    records: int
    holders: int
    asked: int
    answered: int
    paths: int
    first_record_ms: float | None


class Check(_Event, frozen=True, kw_only=True, tag="check"):
    """One finding about the node.

    ``verdict``: ``ok``, ``warn``, ``bad``, or ``unknown`` where nothing tells.
    ``advice``: what to do about it, empty where nothing is to be done. ``facts``: what
    the finding says, by name, where it says several things.
    """

    name: str
    verdict: str
    finding: str
    advice: str = ""
    facts: dict[str, str] = {}


class Diagnosis(_Event, frozen=True, kw_only=True, tag="diagnosis"):
    """The end of an examination: how many checks came out how."""

    ok: int
    warn: int
    bad: int
    unknown: int


class Connected(_Event, frozen=True, kw_only=True, tag="connected"):
    """A connection to the peer is there.

    ``first_byte_ms``: from the start of the lookup (of the request, if ``reused``) to
    the first byte that came back from the peer; ``None`` where no echo was asked for.
    The three before it: what making the connection took; ``None`` if it was there.
    """

    peer_id: str
    path: str
    endpoint: str
    reused: bool
    lookup_ms: float | None
    introduce_ms: float | None
    ice_ms: float | None
    first_byte_ms: float | None = None


class RoundTrip(_Event, frozen=True, kw_only=True, tag="round trip"):
    """One ping came back; ``ms`` is ``None`` when it did not in time."""

    number: int
    ms: float | None


class HungUp(_Event, frozen=True, kw_only=True, tag="hung up"):
    """So many connections to the peer were ended; 0: there was none."""

    connections: int


class TransferProgress(_Event, frozen=True, kw_only=True, tag="progress"):
    """Bytes handed to the connection so far."""

    done: int
    size: int


class Interrupted(_Event, frozen=True, kw_only=True, tag="interrupted"):
    """The connection broke; the transfer goes on from where it was."""

    reason: str
    retry_in_s: float


class Sent(_Event, frozen=True, kw_only=True, tag="sent"):
    """The receiver has the whole file, verified, under ``name``."""

    name: str
    size: int
    resumed_at: int
    seconds: float
    sha256: str


class ContactEntry(_Event, frozen=True, kw_only=True, tag="contact"):
    """One petname."""

    name: str
    peer_id: str


class ChatReady(_Event, frozen=True, kw_only=True, tag="chatting"):
    """Lines may be said."""

    peer_id: str
    name: str | None


class ChatLine(_Event, frozen=True, kw_only=True, tag="line"):
    """A line of the peer; answer ``shown`` with its number."""

    number: int
    text: str


class Delivered(_Event, frozen=True, kw_only=True, tag="delivered"):
    """The peer has shown the line ``number``."""

    number: int


class Done(_Event, frozen=True, kw_only=True, tag="done"):
    """The verb has ended well; nothing follows."""


class Failed(_Event, frozen=True, kw_only=True, tag="error"):
    """The verb has failed; nothing follows. ``code`` names the error's type."""

    code: str
    message: str


Event: TypeAlias = (
    Identity
    | StatusReport
    | PeerFound
    | Hop
    | Traced
    | Check
    | Diagnosis
    | Connected
    | RoundTrip
    | HungUp
    | TransferProgress
    | Interrupted
    | Sent
    | ContactEntry
    | ChatReady
    | ChatLine
    | Delivered
    | Done
    | Failed
)

EVENTS: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)
_REQUESTS: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)


class _Envelope(msgspec.Struct):
    version: int
    verb: str


_ENVELOPES: Final = msgspec.json.Decoder(_Envelope)
_FOLLOW_UPS: Final = ("say", "shown")


class RequestError(RemoteProtocolError):
    """A line that is no request; ``code`` names what is wrong with it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_request_untrusted(line: bytes) -> Request:
    """Read one request.

    Raises:
        RequestError: MalformedRequest, UnsupportedVersion or UnknownVerb.
    """
    try:
        envelope = _ENVELOPES.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        expected = 'expected {"version": 1, "verb": ...} in one line of JSON'
        raise RequestError("MalformedRequest", f"{error}; {expected}") from None
    if envelope.version != VERSION:
        text = f"found version {envelope.version}, this node speaks {VERSION}"
        raise RequestError("UnsupportedVersion", text)
    if envelope.verb not in VERBS + _FOLLOW_UPS:
        found = ascii(envelope.verb[:64])
        text = f"no verb {found}; there are {', '.join(VERBS)}"
        raise RequestError("UnknownVerb", text)
    try:
        return _REQUESTS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"{envelope.verb}: {error}"
        raise RequestError("MalformedRequest", text) from None


Message = TypeVar("Message", bound=msgspec.Struct)


class LineReader:
    """Lines of bounded length from a local stream."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        """One task reads."""
        self._stream = stream
        self._buffer = bytearray()

    async def receive_line_untrusted(self) -> bytes | None:
        """Wait for the next line, without its end; ``None`` when there are no more.

        Raises:
            RequestError: a line longer than ``MAX_LINE``.
            trio.BrokenResourceError: the other side went away.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched, MAX_LINE + 1)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE:
                text = f"a line of more than {MAX_LINE} bytes"
                raise RequestError("MalformedRequest", text)
            data = await self._stream.receive_some(READ_SIZE)
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


class JsonLines(LineReader, Generic[Message]):
    """One JSON object per line, both ways."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        """One task reads, any number may send."""
        super().__init__(stream)
        self._sink = stream
        self._encoder = msgspec.json.Encoder()
        self._sending = trio.Lock()

    async def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            trio.BrokenResourceError: the other side went away.
        """
        async with self._sending:
            await self._sink.send_all(self._encoder.encode(message) + b"\n")
