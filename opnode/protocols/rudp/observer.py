"""What a connection tells somebody who watches it; decides and keeps nothing.

A connection without an observer tests one reference per burst and per run, never per
packet, and does nothing else for it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from opnode.protocols.rudp.statistics import RudpStatistics


class BulkPackets(NamedTuple):
    """Packets ``first`` to ``first + packets - 1``: each a stretch of one channel.

    Attributes:
        first: Number of the first packet.
        packets: How many there are.
        size: Bytes of each whole packet.
        channel_id: The channel.
        offset: Where in the channel the first packet's bytes begin.
        chunk: Bytes of the channel in each packet.
    """

    first: int
    packets: int
    size: int
    channel_id: int
    offset: int
    chunk: int


class LostPackets(NamedTuple):
    """Packets ``first`` to ``stop - 1``, of ``size`` bytes each, declared lost."""

    first: int
    stop: int
    size: int


class RudpObserver(Protocol):
    """Hears of every packet and of every change; must not raise, nor call back.

    Frames are handed over as they stand in the packet, without the proof byte before
    them. They hold what the application sends: to be described, not to be kept.
    """

    def at(self, now: float) -> None:
        """What follows happens at this time, in the connection's seconds."""
        ...

    def packet_sent(self, number: int, frames: bytes, size: int) -> None:
        """One packet left; `size` is that of the whole packet."""
        ...

    def bulk_sent(self, packets: BulkPackets) -> None:
        """A run of packets left."""
        ...

    def packet_received(self, number: int, frames: bytes, size: int) -> None:
        """One authentic packet with a new number arrived."""
        ...

    def packets_lost(self, lost: Sequence[LostPackets]) -> None:
        """Recovery gave packets up."""
        ...

    def measured(self, statistics: RudpStatistics) -> None:
        """The figures after a burst, a run or a deadline, whether changed or not."""
        ...


class ConnectionTrace(RudpObserver, Protocol):
    """Who writes down what a connection does; hears of its end, too."""

    def closed(self, *, code: int, reason: str, by: str) -> None:
        """The connection is over for the application; closing packets may follow."""
        ...

    def end(self) -> None:
        """Nothing will follow."""
        ...
