"""What a router forwards to us, and whoever asks it: values that all ways share."""

import enum
from dataclasses import dataclass
from typing import Protocol

from opnode.core.addresses import Endpoint


class MappingMethod(enum.Enum):
    """How a router was asked."""

    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A public address that a router forwards to our socket.

    ``lifetime_s``: after which it ends unless it is renewed; 0 for never.
    """

    method: MappingMethod
    router: str
    internal_port: int
    external: Endpoint
    lifetime_s: int


class PortMapper(Protocol):
    """One way to ask a router."""

    async def map(
        self, internal_port: int, wanted_port: int, lifetime_s: int
    ) -> Mapped:
        """Ask for a mapping, or renew it; another port than wanted may be given.

        Raises:
            MappingRefused: there is no such router, or it says no.
        """
        ...

    async def unmap(self, mapped: Mapped) -> None:
        """Give a mapping back, if that is possible."""
        ...
