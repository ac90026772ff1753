"""Seeded people for the introduction tests: identities, desks and ICE halves."""

from dataclasses import dataclass, field
from itertools import count
from typing import Self

from opnode.core.addresses import Candidate, Endpoint, IceHalf
from opnode.core.crypto import SigningKey, StaticKey, sha256
from opnode.core.peerfile import Identity, Location, certify_location
from opnode.protocols.introductions import (
    Handshakes,
    IntroductionConfig,
    IntroductionDesk,
)
from opnode.protocols.noise import NoiseInitiator, NoiseResponder

# A date like any other; nothing depends on it but certificates.
WALL_NOW = 1_800_000_000.0
LIFETIME_S = 90 * 24 * 3600
NOISE = Handshakes(initiator=NoiseInitiator, responder=NoiseResponder)
PASSWORD = "0123456789abcdefghijkl"  # noqa: S105 - an ICE password of no session


def host_candidate(number: int = 1) -> Candidate:
    return Candidate(
        kind="host",
        endpoint=Endpoint(f"192.0.2.{number}", 40_000 + number),
        priority=2_130_706_431 - number,
        foundation=sha256(b"host", bytes([number])).hex()[:32],
    )


def reflexive_candidate(number: int = 1) -> Candidate:
    return Candidate(
        kind="srflx",
        endpoint=Endpoint(f"198.51.100.{number}", 50_000 + number),
        priority=1_694_498_815 - number,
        foundation=sha256(b"srflx", bytes([number])).hex()[:32],
        related=Endpoint(f"192.0.2.{number}", 40_000 + number),
    )


def ice_half(ufrag: str = "ufra", *candidates: Candidate) -> IceHalf:
    chosen = candidates or (host_candidate(), reflexive_candidate())
    return IceHalf(ufrag, PASSWORD, chosen)


@dataclass
class Person:
    """A location with its desk, and everything that its secrets are made from."""

    name: str
    location: Location
    identity: Identity
    desk: IntroductionDesk
    ice: IceHalf = field(default_factory=ice_half)

    @classmethod
    def named(cls, name: str, config: IntroductionConfig | None = None) -> Self:
        """The same name has the same keys, and the same ephemerals in their order."""
        identity = Identity(SigningKey.from_seed(sha256(b"identity", name.encode())))
        location = certify_location(
            identity,
            signing=SigningKey.from_seed(sha256(b"location", name.encode())),
            static=StaticKey.from_bytes(sha256(b"static", name.encode())),
            name=f"{name}'s telephone",
            wall_now=WALL_NOW,
            lifetime_s=LIFETIME_S,
        )
        return cls(
            name, location, identity, desk_of(location, seed=name, config=config)
        )

    @property
    def static(self) -> bytes:
        return self.location.static.public


def desk_of(
    location: Location, *, seed: str, config: IntroductionConfig | None = None
) -> IntroductionDesk:
    numbers = count()

    def new_ephemeral() -> StaticKey:
        return StaticKey.from_bytes(sha256(f"{seed} {next(numbers)}".encode()))

    return IntroductionDesk(
        location, handshakes=NOISE, new_ephemeral=new_ephemeral, config=config
    )
