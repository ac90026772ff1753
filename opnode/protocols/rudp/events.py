"""What a connection tells its driver; values only."""

import enum
from dataclasses import dataclass

from opnode.core.addresses import Endpoint


class Side(enum.Enum):
    """Who ended a connection."""

    LOCAL = "local"
    PEER = "peer"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """The peer opened a channel."""

    channel_id: int


@dataclass(frozen=True, slots=True)
class ChannelReadable:
    """Bytes or the end of the stream wait: call ``read`` until it returns None."""

    channel_id: int


@dataclass(frozen=True, slots=True)
class ChannelWritable:
    """A ``send`` that was cut short may go on."""

    channel_id: int


@dataclass(frozen=True, slots=True)
class ChannelDelivered:
    """The peer has every byte and the end of what we sent on the channel."""

    channel_id: int


@dataclass(frozen=True, slots=True)
class ChannelReset:
    """The peer gave up its half; nothing more can be read."""

    channel_id: int
    code: int


@dataclass(frozen=True, slots=True)
class ChannelStopped:
    """The peer reads no more; our half was reset with the same code."""

    channel_id: int
    code: int


@dataclass(frozen=True, slots=True)
class ChannelsAvailable:
    """The peer lets us open more channels: this many right now."""

    count: int


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """An unreliable message arrived."""

    data: bytes


@dataclass(frozen=True, slots=True)
class DatagramRoom:
    """An unreliable message that was refused would be taken now."""


@dataclass(frozen=True, slots=True)
class PingAcknowledged:
    """A ``ping`` came back after this many seconds."""

    ping_id: int
    rtt_s: float


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Packets go to this address of the peer now, where it has answered."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class PathSilent:
    """Four timeouts brought nothing on the path: the peer or we may have moved.

    Comes again each second while it is so.
    """


@dataclass(frozen=True, slots=True)
class LocalIdsChanged:
    """Packets of the connection bear other ids from now on: see ``local_ids``."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over; the last event.

    Attributes:
        code: 0, the application's code, or a ``packet.CloseCode``.
        reason: One line for people; untrusted text when the peer closed.
        by: Who ended it.
    """

    code: int
    reason: str
    by: Side


Event = (
    ChannelOpened
    | ChannelReadable
    | ChannelWritable
    | ChannelDelivered
    | ChannelReset
    | ChannelStopped
    | ChannelsAvailable
    | DatagramReceived
    | DatagramRoom
    | PingAcknowledged
    | PathChanged
    | PathSilent
    | LocalIdsChanged
    | Closed
)
