"""What being there costs: packets and bytes of each user, by cause.

Owns the counters and when they begin to count. Refuses to know why anybody writes.
"""

from typing import Final

PING_BYTES: Final = 115
"""One exchange of the shipped PING, both ways, without UDP and IP headers. Chord is
charged the same, though its own messages have no tokens: nobody keeps a binding open
with less than an authenticated exchange today."""
PACKET_BYTES: Final = PING_BYTES / 2
ANSWER_BYTES: Final = 400
"""A reply that names up to a dozen others."""


class Bill:
    """Counters of every user; a packet counts where it leaves and where it arrives.

    Args:
        users: lives that there will be.
        from_s: what happens before is not counted.
    """

    def __init__(self, users: int, from_s: float) -> None:
        self.packets = [0.0] * users
        self.bytes = [0.0] * users
        self.causes: dict[str, float] = {}
        self._from_s = from_s

    def spend(
        self, user: int, cause: str, packets: float, size: float, now: float
    ) -> None:
        """Packets that one user sent or got at this moment; ``size`` of all of them."""
        if now >= self._from_s:
            self.packets[user] += packets
            self.bytes[user] += size
            self.causes[cause] = self.causes.get(cause, 0.0) + packets

    def keep_alive(
        self, user: int, since_s: float, until_s: float, interval_s: float
    ) -> None:
        """Exchanges of one end of a binding, one each interval of its life."""
        began_s = max(since_s, self._from_s)
        if until_s > began_s:
            exchanges = (until_s - began_s) / interval_s
            self.packets[user] += 2 * exchanges
            self.bytes[user] += PING_BYTES * exchanges
            held = self.causes.get("keep-alive", 0.0)
            self.causes["keep-alive"] = held + 2 * exchanges
