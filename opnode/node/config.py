"""What a node is told before it starts. Values only; nothing is read from disk here."""

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opnode.core.addresses import Endpoint
from opnode.drivers.turn.turn import TurnServer
from opnode.drivers.websocket.client import GatewayTrust
from opnode.drivers.websocket.gateway import GatewayConfig
from opnode.node.bootstrap import BootstrapEntry
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.protocols.relay import RelayConfig
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.websocket import GatewayUrl


class Role(enum.Enum):
    """The node's place in the DHT. An explicit choice always wins.

    ``AUTO`` starts as a leaf and is a server while other nodes prove its port by
    dialling back (``dht.md`` §1). ``SERVER`` is entered into the tables of others;
    ``LEAF`` never is.
    """

    AUTO = "auto"
    SERVER = "server"
    LEAF = "leaf"


EVERY_INTERFACE: Final = Endpoint("::", 0)
"""Of IPv4 and IPv6, and of IPv4 alone where the system has no IPv6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketOffer:
    """Where a node lets clients in whose network passes no UDP.

    Args:
        listen: address and TCP port; port 0 lets the system choose.
        certificate: PEM file for ``wss://``; without it the offer is plain ``ws://``.
        key: PEM file of its key, where that is another one.
        public_url: how others reach it, as behind a proxy that ends TLS; by default
            made from the address that others see.
        limits: how many clients, and how much each.
    """

    listen: Endpoint
    certificate: Path | None = None
    key: Path | None = None
    public_url: GatewayUrl | None = None
    limits: GatewayConfig = field(default_factory=GatewayConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Everything a node needs to know.

    Args:
        listen: address and port of the node's one UDP socket; port 0 lets the system
            choose. ``::`` is every address of both IP versions, ``0.0.0.0`` of IPv4.
        bootstrap: nodes to join through, tried at once and again until one answers.
        data_dir: where keys, records and contacts live; ``None`` keeps them in memory,
            with fresh keys.
        role: the node's place in the DHT.
        has_identity: a seed node has none: it serves the DHT and talks to nobody.
        location_name: what the owner calls this device; public in the certificate.
        network_name: nodes of different networks do not hear each other.
        presence_lifetime_s: seconds that a published presence is valid; the node
            republishes at 0.8 of it.
        registration_lifetime_s: seconds that an introducer keeps our registration.
        nat_keepalive_s: how long an introducer is left in silence at first, where a
            NAT or a firewall may forget it; then that is measured, up to two minutes.
            25 s is below the 30 s binding lifetime of the strictest home gateways.
        prove_after_s: a node that finds its role by itself asks others to dial it so
            long after its start: many are only tried out.
        max_unaccepted: connections that nobody accepted yet; further callers hear
            "busy".
        few_bindings: have servers look up for us as long as we are a leaf, for NATs
            with room for few mappings. A lookup then touches three endpoints.
        turn_servers: that the user may use, the best first; one of them holds a relayed
            address for us.
        port_mapping: ask the home router to forward a port to us (PCP, NAT-PMP, UPnP).
        introducer: how much the node does for the introductions of others.
        relay: pass on the datagrams of others who find no direct path, within these
            limits; ``None`` for a node that does not, as long as nobody says so.
        transport: limits, timers and congestion control of our end of a connection.
        lan: ask who is on our own links, and answer there.
        websocket: where clients without UDP are let in; ``None`` for nowhere.
        gateway_trust: whose certificates are believed when we are such a client.
        qlog_dir: where to log every connection for a qlog viewer; ``None`` for no logs.
    """

    listen: Endpoint = EVERY_INTERFACE
    bootstrap: tuple[BootstrapEntry, ...] = ()
    data_dir: Path | None = None
    role: Role = Role.AUTO
    has_identity: bool = True
    location_name: str = ""
    network_name: str = "main"
    presence_lifetime_s: int = 1200
    registration_lifetime_s: int = 600
    nat_keepalive_s: float = 25.0
    prove_after_s: float = 30.0
    max_unaccepted: int = 64
    few_bindings: bool = False
    introducer: IntroducerConfig = field(default_factory=IntroducerConfig)
    relay: RelayConfig | None = None
    transport: RudpConfig = field(default_factory=RudpConfig)
    turn_servers: tuple[TurnServer, ...] = ()
    lan: bool = False
    websocket: WebSocketOffer | None = None
    gateway_trust: GatewayTrust = field(default_factory=GatewayTrust)
    port_mapping: bool = False
    qlog_dir: Path | None = None
