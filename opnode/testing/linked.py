"""Two connection tables on a virtual network with one keyed connection between them.

What the introduction and ICE would have left behind is made up from seeded keys; all
that happens afterwards is the shipped code.
"""

import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import TransportKeys
from opnode.core.peerfile import Identity, LocationCertificate, certify_location
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connection_table import ConnectionTable, ConnectionTraces
from opnode.drivers.connections import Connection
from opnode.drivers.network.network import Network
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.testing.keys import (
    SeededKem,
    seeded_bytes,
    seeded_signing_key,
    seeded_static_key,
)
from opnode.testing.virtual_network import Link, VirtualNetwork

HOSTS = ("10.0.0.1", "10.0.0.2")


@dataclass(frozen=True, slots=True)
class LinkedEnd:
    """One end: its socket, its table and the connection."""

    hub: SocketHub
    table: ConnectionTable
    connection: Connection


@dataclass(frozen=True, slots=True)
class LinkedPair:
    """Both ends and the network between them."""

    network: VirtualNetwork
    first: LinkedEnd
    second: LinkedEnd


def seeded_certificate(label: str) -> LocationCertificate:
    """The certificate of a location whose keys depend on ``label`` alone."""
    location = certify_location(
        Identity(seeded_signing_key(f"{label} identity")),
        signing=seeded_signing_key(label),
        static=seeded_static_key(label),
        name=label,
        wall_now=0.0,
        lifetime_s=86_400,
    )
    return location.certificate


def transport_keys(label: str = "keys") -> tuple[TransportKeys, TransportKeys]:
    """What a handshake would leave to the initiator and to the responder."""
    one, two, both = (seeded_bytes(f"{label} {n}") for n in range(3))
    return (
        TransportKeys(send=one, receive=two, handshake_hash=both),
        TransportKeys(send=two, receive=one, handshake_hash=both),
    )


@contextlib.asynccontextmanager
async def open_linked_pair(
    link: Link | None = None,
    *,
    seed: int = 1,
    config: RudpConfig | None = None,
    traces: ConnectionTraces | None = None,
) -> AsyncIterator[LinkedPair]:
    """Two ends with a direct path to each other."""
    # Simulated loss and jitter must repeat from their seed; nothing here is secret.
    network = VirtualNetwork(random.Random(seed), link or Link())  # noqa: S311
    async with trio.open_nursery() as nursery:
        ends: list[LinkedEnd] = []
        for index, keys in enumerate(transport_keys()):
            rudp = RudpConnection(
                initiator=index == 0,
                keys=keys,
                config=config or RudpConfig(),
                # As above: repeatable, not secret.
                rng=random.Random(seed),  # noqa: S311
                kem=SeededKem(f"{seed} {index}"),
            )
            host, local = HOSTS[index], Endpoint(HOSTS[index], 0)
            end = await open_end(
                network.host(host), local, rudp, nursery, traces=traces
            )
            ends.append(end)
        for end, other in zip(ends, reversed(ends), strict=True):
            end.connection.set_path(Path(PathKind.DIRECT, other.hub.local))
        yield LinkedPair(network, *ends)
        nursery.cancel_scope.cancel()


async def open_end(
    network: Network,
    local: Endpoint,
    rudp: RudpConnection,
    nursery: trio.Nursery,
    *,
    traces: ConnectionTraces | None = None,
) -> LinkedEnd:
    """One end on any network, real ones too, that has no path yet."""
    hub = SocketHub(await network.bind(local))
    table = ConnectionTable(hub, traces=traces)
    await nursery.start(hub.run)
    await nursery.start(table.run)
    return LinkedEnd(hub, table, table.open(rudp, seeded_certificate(local.host)))
