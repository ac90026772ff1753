"""How often we want to be acknowledged (draft-ietf-quic-ack-frequency); sends nothing.

Many acknowledgements cost both ends time and tell nothing new; few keep the window
from moving. The peer obeys what the last ACK_FREQUENCY frame asked for.
"""

from typing import NamedTuple

# So many acknowledgements a round trip: HyStart++ judges by four, and a window that
# moves in small parts never stands still.
_ACKS_PER_WINDOW = 32
# On a short path acknowledgements cost more than the link: on loopback BBR, whose
# window is smaller than CUBIC's, took 2.45 s of CPU for 1 GB with 32, 2.25 s with 8.
_SHORT_RTT_S = 0.005
_ACKS_PER_SHORT_WINDOW = 8
_MIN_PACKETS = 2
# Some 300 kB of small packets: acknowledging every burst took a quarter of a sender's
# time at 400 MB/s.
_MAX_PACKETS = 256
# A lone packet waits an eighth of a round trip at most; a timer is good to 1 ms.
_DELAY_FRACTION = 8
_MIN_DELAY_S = 0.001
_MAX_DELAY_S = 0.025


class AckRequest(NamedTuple):
    """What the peer is asked for: acknowledge so many packets, or after so long."""

    sequence: int
    packets: int
    max_delay_s: float


class AckFrequency:
    """Decides when to ask the peer for something else."""

    __slots__ = ("_asked_at", "request")

    def __init__(self) -> None:
        """Ask for nothing: the protocol's own figures hold."""
        self.request: AckRequest | None = None
        self._asked_at = float("-inf")

    def update(
        self, *, in_flight: int, packet_size: int, rtt_s: float, now: float
    ) -> bool:
        """Look at the window once a round trip; true when the request changed.

        Args:
            in_flight: Bytes that a full window has in flight.
            packet_size: Size of a full packet.
            rtt_s: The average round trip.
            now: The present.
        """
        if now - self._asked_at < rtt_s:
            return False
        self._asked_at = now
        is_short = rtt_s < _SHORT_RTT_S
        acks = _ACKS_PER_SHORT_WINDOW if is_short else _ACKS_PER_WINDOW
        packets = in_flight // (packet_size * acks)
        packets = min(max(packets, _MIN_PACKETS), _MAX_PACKETS)
        known = self.request
        # A change of less than a half is not worth a frame.
        if known is None:
            if packets == _MIN_PACKETS:
                return False
        elif known.packets < 2 * packets < 4 * known.packets:
            return False
        delay_s = min(max(rtt_s / _DELAY_FRACTION, _MIN_DELAY_S), _MAX_DELAY_S)
        sequence = 0 if known is None else known.sequence + 1
        self.request = AckRequest(sequence, packets, delay_s)
        return True
