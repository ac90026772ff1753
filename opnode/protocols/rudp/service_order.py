"""Whose turn it is among the channels that have something to send; moves no bytes.

Strict between levels of urgency, in turn within one (as RFC 9218 §10 advises for what
is not incremental). Every step costs the same with one channel and with ten thousand.
"""

from collections import OrderedDict
from typing import Final

from opnode.protocols.rudp.channel import Channel

URGENCIES: Final = 8
"""Levels of urgency, 0 is served first (RFC 9218 §4.1)."""


class ServiceOrder:
    """Channels in the order of service.

    Attributes:
        occupied: A bit for each level that holds a channel, 0 when none waits.
    """

    __slots__ = ("_levels", "occupied")

    def __init__(self) -> None:
        """Start empty."""
        # Ordered dictionaries, as a plain one finds its first entry ever more slowly
        # the more were taken from its front. Levels are made on their first use.
        self._levels: list[OrderedDict[int, Channel] | None] = [None] * URGENCIES
        self.occupied = 0

    @property
    def top(self) -> int:
        """The most urgent level that holds a channel, ``URGENCIES`` without any."""
        occupied = self.occupied
        return (occupied & -occupied).bit_length() - 1 if occupied else URGENCIES

    @property
    def only(self) -> Channel | None:
        """The channel that waits alone, None when there are none or several."""
        occupied = self.occupied
        if not occupied or occupied & (occupied - 1):
            return None
        level = self._levels[occupied.bit_length() - 1]
        if level is None or len(level) > 1:
            return None
        return next(iter(level.values()))

    def first(self) -> Channel | None:
        """Return the channel whose turn it is."""
        level = self._levels[self.top] if self.occupied else None
        return None if level is None else next(iter(level.values()))

    def add(self, channel: Channel) -> None:
        """Queue a channel behind those of its urgency; again changes nothing."""
        level = self._levels[channel.urgency]
        if level is None:
            level = self._levels[channel.urgency] = OrderedDict()
        level[channel.channel_id] = channel
        self.occupied |= 1 << channel.urgency

    def move_to_back(self, channel: Channel) -> None:
        """Let the others of its urgency go first."""
        level = self._levels[channel.urgency]
        assert level is not None
        level.move_to_end(channel.channel_id)

    def discard(self, channel: Channel) -> None:
        """Take a channel out, under the urgency that it was queued with."""
        level = self._levels[channel.urgency]
        if level is None:
            return
        level.pop(channel.channel_id, None)
        if not level:
            self.occupied &= ~(1 << channel.urgency)
