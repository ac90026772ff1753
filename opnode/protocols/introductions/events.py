"""What the introduction desk tells its owner between calls; values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutgoingSuperseded:
    """Both sides called at once and the other's call won: wait for that one.

    Attributes:
        remote_static: 32-byte static key of the location that both calls concern.
        offer_digest: SHA-256 of our offer, which is over.
    """

    remote_static: bytes
    offer_digest: bytes


@dataclass(frozen=True, slots=True)
class IncomingWithdrawn:
    """The caller gave up an offer that we had taken: drop what was built on it.

    Attributes:
        remote_static: 32-byte static key of the caller's location.
        offer_digest: SHA-256 of its offer, as in `Established.offer_digest`.
    """

    remote_static: bytes
    offer_digest: bytes


Event = OutgoingSuperseded | IncomingWithdrawn
