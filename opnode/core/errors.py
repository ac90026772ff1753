"""The one exception tree; owns every error opnode raises, knows no other module.

::

    OpnodeError
    ├── ProtocolError            abstract
    │   ├── LocalProtocolError   our caller broke the contract: fix the code
    │   └── RemoteProtocolError  the peer broke it: drop the message or that peer
    ├── RecordError              abstract
    │   ├── BadSignature         ├── StaleRecord        ├── EquivocatingRecord
    │   ├── ExpiredRecord        ├── MalformedRecord    └── OtherSequence
    ├── NetworkError
    │   ├── PeerUnreachable      ├── IntroductionRefused
    │   │                        └── IceFailed
    │   ├── BootstrapFailed      ├── RecordNotFound
    │   ├── RequestTimeout       ├── RequestRefused
    │   ├── RelayUnavailable     ├── RelayLimitReached
    │   └── MappingRefused
    ├── StorageError             DataDirectoryInUse · UnreadableKey
    ├── TransferError            TransferDeclined · TransferCorrupt
    └── ConfigError              says which field, what was found, what was expected
"""

# ruff: noqa: N818 - the names are the vocabulary of the design (house rule 16).

import enum


class OpnodeError(Exception):
    """Anything that opnode reports; catch this to catch all of ours."""


class ProtocolError(OpnodeError):
    """A protocol's contract was broken; raised only as one of its two subclasses."""


class LocalProtocolError(ProtocolError):
    """Our own code called a protocol in a way it forbids. A bug: fix the caller."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids. Drop the message, or end that peer."""


class RecordError(OpnodeError):
    """A record cannot be accepted; raised only as one of its subclasses."""


class BadSignature(RecordError):
    """A signature does not match; its bytes were forged or damaged. Ask elsewhere."""


class StaleRecord(RecordError):
    """The record is older than the one already held. Its sender should fetch ours."""


class EquivocatingRecord(RecordError):
    """One owner signed two contents under one sequence number. The owner is at fault.

    The usual innocent cause is one key in use on two devices: publish again with a
    higher sequence number.
    """


class ExpiredRecord(RecordError):
    """The record's time is over. Its owner has to publish a new one."""


class MalformedRecord(RecordError):
    """The bytes break the format or a limit of it. Its builder is at fault."""


class OtherSequence(RecordError):
    """A conditional put met another sequence number than it expected, or none.

    The message says which is held. Read the record again, then decide anew.
    """


class NetworkError(OpnodeError):
    """Network or nodes did not do what was asked. Trying later may help."""


class PeerUnreachable(NetworkError):
    """No path to the peer was found.

    Attributes:
        reason: One sentence for people, without secrets.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RefusalCode(enum.IntEnum):
    """Why an introduction was refused; the numbers travel on the wire."""

    UNKNOWN_TARGET = 1
    BUSY = 2
    EXPIRED = 3
    DECLINED = 4
    GLARE = 5
    MALFORMED = 6


_REFUSALS = {
    RefusalCode.UNKNOWN_TARGET: "the peer is not reachable, it is probably offline",
    RefusalCode.BUSY: "the introducer or the peer is busy",
    RefusalCode.EXPIRED: "the offer came too late or came twice",
    RefusalCode.DECLINED: "the peer declined",
    RefusalCode.GLARE: "both sides called at once and the other call goes on",
    RefusalCode.MALFORMED: "the offer could not be understood",
}


class IntroductionRefused(PeerUnreachable):
    """An introducer or the peer itself said no.

    Attributes:
        code: The reason as it travelled.
        detail: What the refusing side added; untrusted text, may be empty.
    """

    def __init__(self, code: RefusalCode, detail: str = "") -> None:
        sentence = _REFUSALS[code]
        super().__init__(f"{sentence} ({detail})" if detail else sentence)
        self.code = code
        self.detail = detail


class IceFailed(PeerUnreachable):
    """Introduced, but no pair of addresses carried a packet. A relay would help."""


class BootstrapFailed(NetworkError):
    """No bootstrap entry let us join.

    Attributes:
        verdicts: One line for each entry that was tried.
    """

    def __init__(self, verdicts: tuple[str, ...]) -> None:
        super().__init__("\n".join(verdicts) or "no bootstrap entry is known")
        self.verdicts = verdicts


class RecordNotFound(NetworkError):
    """The whole lookup ran and nobody holds a valid record under the key."""


class MappingRefused(NetworkError):
    """No router forwards a port to us, and why. Others still reach us by other ways."""


class RelayUnavailable(NetworkError):
    """A server that would carry our datagrams does not, or no longer.

    Its operator, its address or our credentials may be at fault; the text says which
    is likely. Direct paths are not concerned.
    """


class RequestTimeout(NetworkError):
    """A node did not answer a request in the time its round trips suggest."""


class RequestRefused(NetworkError):
    """A node answered a request with a failure.

    Attributes:
        code: The failure code of the RPC protocol.
        detail: What the other node said; untrusted text, at most one line.
        alternates: Packed contacts that it names instead of itself; nobody's word.
    """

    def __init__(
        self, code: int, detail: str = "", alternates: tuple[bytes, ...] = ()
    ) -> None:
        super().__init__(
            f"refused with code {code}" + (f": {detail}" if detail else "")
        )
        self.code = code
        self.detail = detail
        self.alternates = alternates


class RelayLimitReached(NetworkError):
    """A relay passed on as much as it does for one session. Another one may go on.

    Attributes:
        reason: Which of its limits it was.
    """

    def __init__(self, relay: object, reason: str) -> None:
        super().__init__(f"relay {relay}: {reason}")
        self.reason = reason


class StorageError(OpnodeError):
    """Something in the data directory stands in the way. The message says what."""


class DataDirectoryInUse(StorageError):
    """Another process runs on this data directory. Stop it or name another one."""


class UnreadableKey(StorageError):
    """A key file cannot be used; it is never overwritten. Restore it from a copy."""


class TransferError(OpnodeError):
    """A file transfer ended without the file."""


class TransferDeclined(TransferError):
    """The receiver did not want the file."""


class TransferCorrupt(TransferError):
    """What arrived is not what was announced; nothing was kept under its name."""


class ConfigError(OpnodeError):
    """A setting or an argument cannot be used.

    Attributes:
        field: Name of the setting, as its user writes it.
        found: What stood there; the caller leaves secrets out.
        expected: What would have been right.
    """

    def __init__(self, field: str, found: object, expected: str) -> None:
        super().__init__(f"{field}: found {found}, expected {expected}")
        self.field = field
        self.found = found
        self.expected = expected
