"""One channel: two halves, their states and the credit given to the peer."""

import enum
from typing import Final

from opnode.protocols.rudp.credit import Credit
from opnode.protocols.rudp.frames import INITIAL_CHANNEL_CREDIT
from opnode.protocols.rudp.receive_buffer import IslandLimit, ReceiveBuffer
from opnode.protocols.rudp.send_buffer import SendBuffer
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

DEFAULT_URGENCY: Final = 3
"""What a channel has until its sender says otherwise (RFC 9218 §4.1)."""


class SendNeed(enum.IntEnum):
    """What a channel needs to send something.

    NOTHING: it has nothing to send. CREDIT: new bytes, for which the connection's
    credit must last. TURN: lost bytes, its end or its existence, which are free.
    """

    NOTHING = 0
    CREDIT = 1
    TURN = 2


class SendState(enum.Enum):
    """What our half of a channel is doing."""

    OPEN = "open"
    FINISHED = "finished"
    RESET = "reset"
    OVER = "over"


class ReceiveState(enum.Enum):
    """What the peer's half of a channel is doing, as far as we know."""

    OPEN = "open"
    STOPPED = "stopped"
    OVER = "over"


class Channel:
    """State of one channel; frames in, frames out are the business of others."""

    __slots__ = (
        "channel_id",
        "credit",
        "incoming",
        "is_announced",
        "is_readable_told",
        "is_starved",
        "outgoing",
        "queued_for",
        "receive_state",
        "reset_code",
        "send_state",
        "stop_code",
        "urgency",
    )

    def __init__(
        self, channel_id: int, *, window: int, send_buffer: int, islands: IslandLimit
    ) -> None:
        """Open both halves.

        Args:
            channel_id: Its number.
            window: Unread bytes that we hold at most.
            send_buffer: Unacknowledged bytes that we hold.
            islands: What all channels of the connection hold behind holes.
        """
        self.channel_id = channel_id
        self.incoming = ReceiveBuffer(islands)
        self.outgoing = SendBuffer(
            channel_id, capacity=send_buffer, limit=INITIAL_CHANNEL_CREDIT
        )
        self.credit = Credit(initial=INITIAL_CHANNEL_CREDIT, maximum=window)
        self.send_state = SendState.OPEN
        self.receive_state = ReceiveState.OPEN
        self.reset_code = 0
        self.stop_code = 0
        # A ``send`` was cut short and waits for ChannelWritable.
        self.is_starved = False
        # ChannelReadable is queued and was not taken yet.
        self.is_readable_told = False
        # A channel that we opened is told to the peer even if nothing is written.
        self.is_announced = True
        # 0 to 7, lower goes first; and where the channel waits for its turn.
        self.urgency = DEFAULT_URGENCY
        self.queued_for = SendNeed.NOTHING

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen on it any more."""
        return (
            self.send_state is SendState.OVER
            and self.receive_state is ReceiveState.OVER
        )

    @property
    def need(self) -> SendNeed:
        """What it takes to send something now."""
        out = self.outgoing
        if self.send_state in (SendState.RESET, SendState.OVER):
            return SendNeed.NOTHING
        if out.lost or not self.is_announced or out.has_bare_fin:
            return SendNeed.TURN
        if out.sent < out.written and out.sent < out.limit:
            return SendNeed.CREDIT
        return SendNeed.NOTHING

    def check_data(self, stop: int) -> int:
        """Return how far `stop` lies above all that was received, 0 if it does not.

        Raises:
            PeerViolationError: FLOW_CONTROL when that is above the channel's credit.
        """
        if stop > self.credit.limit:
            raise PeerViolationError(
                CloseCode.FLOW_CONTROL,
                f"channel {self.channel_id} got data up to {stop}, "
                f"its credit is {self.credit.limit}",
            )
        new = stop - self.incoming.highest
        return new if new > 0 else 0
