"""How much the peer may send: windows of channels and of the connection together.

Owns the sharing of memory between channels. Whoever stops reading keeps what its window
was, so the windows that have grown take at most three quarters of the connection's: the
rest is there for channels that are new.
"""

from typing import Final

from opnode.protocols.rudp.channel import Channel
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.credit import Credit
from opnode.protocols.rudp.frames import INITIAL_CONNECTION_CREDIT, FrameType
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# The connection's window is granted in small parts: what is not granted while some
# channels are stuck is lost to all others.
_CONNECTION_STEPS: Final = 8
# Of the connection's window, for channels that have read fast; and each takes two
# thirds of what the others left, so that there is always something for the next.
_GROWN_SHARE: Final = 3 / 4
_SHARE_OF_REST: Final = 2 / 3


class FlowControl:
    """Counts what arrives and what is read, and asks for the frames that grant more.

    Attributes:
        credit: Of the connection.
        rtt_s: The round trip that windows are fitted to.
        now: When something was read last.
    """

    __slots__ = ("_controls", "_grown", "_grown_limit", "credit", "now", "rtt_s")

    def __init__(self, config: RudpConfig, controls: ControlQueue) -> None:
        """Start with what the protocol grants."""
        self.credit = Credit(
            initial=INITIAL_CONNECTION_CREDIT,
            maximum=config.connection_window,
            steps=_CONNECTION_STEPS,
        )
        self.rtt_s = config.initial_rtt_s
        self.now = 0.0
        self._controls = controls
        # Bytes by which the windows of all channels exceed their first size.
        self._grown = 0
        self._grown_limit = int(config.connection_window * _GROWN_SHARE)

    def account(self, channel: Channel, stop: int) -> None:
        """Charge the connection's credit for bytes up to `stop`.

        Raises:
            PeerViolationError: FLOW_CONTROL; the peer was not allowed to send them.
        """
        credit = self.credit
        new = channel.check_data(stop)
        if credit.received + new > credit.limit:
            raise PeerViolationError(
                CloseCode.FLOW_CONTROL,
                f"{credit.received + new} bytes on all channels, "
                f"the connection's credit is {credit.limit}",
            )
        credit.received += new
        unread = credit.received - credit.consumed
        if 2 * unread > credit.window < credit.maximum:
            self._keep_room(unread)
            if credit.consume(0, self.now):
                self._controls.add(FrameType.CONNECTION_CREDIT)

    def consume(self, channel: Channel, size: int) -> None:
        """Bytes of a channel were read."""
        if channel.credit.consume(size, self.now) and (
            channel.incoming.final_size is None
        ):
            self._tune(channel)
            self._controls.add(FrameType.CHANNEL_CREDIT, channel.channel_id)
        self.discard(size)

    def discard(self, size: int) -> None:
        """Bytes were read, or dropped because nobody will read them."""
        credit = self.credit
        if credit.consume(size, self.now):
            credit.tune(self.now, self.rtt_s, credit.maximum)
            self._keep_room(credit.received - credit.consumed)
            self._controls.add(FrameType.CONNECTION_CREDIT)

    def release(self, channel: Channel) -> None:
        """A channel is read no more: what its window had grown is free again."""
        credit = channel.credit
        self._grown -= credit.window - credit.smallest
        credit.window = credit.smallest

    def _keep_room(self, unread: int) -> None:
        """Let channels that nobody reads take half of the window at most.

        Four that wait for their reader would else stop all others for ever: the first
        windows of four channels are the connection's.
        """
        credit = self.credit
        credit.window = max(credit.window, min(2 * unread, credit.maximum))

    def _tune(self, channel: Channel) -> None:
        credit, whole = channel.credit, self.credit
        grown = credit.window - credit.smallest
        share = int((self._grown_limit - self._grown + grown) * _SHARE_OF_REST)
        self._grown += credit.tune(self.now, self.rtt_s, share - grown)
        # One channel alone must not be held back by the connection's window.
        whole.window = max(whole.window, min(2 * credit.window, whole.maximum))
