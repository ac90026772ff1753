"""The figures of a whole node at one instant: what status, tests and simulations read.

Values only; each part counts for itself.
"""

from dataclasses import dataclass

from opnode.core.addresses import Endpoint
from opnode.core.ids import (
    NodeId,
    PeerId,
)
from opnode.core.peerfile import (
    IntroducerEntry,
)
from opnode.drivers.dht.dht import DhtStatistics
from opnode.drivers.introductions import IntroductionsStatistics
from opnode.drivers.router.port_mapping import PortMappingStatus
from opnode.drivers.rpc.config import RpcStatistics
from opnode.drivers.socket_hub import HubStatistics
from opnode.drivers.turn.turn import TurnStatistics
from opnode.drivers.websocket.gateway import GatewayStatistics
from opnode.node.addresses import Ipv6Statistics
from opnode.node.config import Role
from opnode.node.gateways.gateways import GatewaysStatistics
from opnode.node.network_watch import NetworkWatchStatistics
from opnode.node.ports.forecast import ForecastStatistics
from opnode.node.presence.introducers import IntroducersStatistics
from opnode.node.ways.attempts import AttemptStatistics
from opnode.node.ways.relay import RelayUse
from opnode.protocols.nat.mapping import Mapping
from opnode.protocols.reachability import ReachabilityStatistics
from opnode.protocols.relay import RelayStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatistics:
    """The node at one instant.

    ``role`` is the one in force, ``configured_role`` what the node was told;
    ``reachability`` is the evidence, ``None`` where the role does not depend on it.
    ``relay`` is what was passed on for others, ``None`` where nobody asked for it;
    ``relay_use`` is what others pass on for us, ``None`` for a seed.
    ``mapped``: public addresses that routers forward to the node on its request, and
    ``mapping`` what became of asking for one; ``turn``: what TURN servers do for it.
    """

    node_id: NodeId
    peer_id: PeerId | None
    role: Role
    configured_role: Role
    reachability: ReachabilityStatistics | None
    endpoint: Endpoint
    observed: tuple[Endpoint, ...]
    behind_nat: bool
    nat: Mapping
    ipv6: Ipv6Statistics
    mapped: tuple[Endpoint, ...]
    mapping: PortMappingStatus
    turn: TurnStatistics | None
    forecast: ForecastStatistics
    joined: bool
    contacts: int
    introducers: tuple[IntroducerEntry, ...]
    presence: IntroducersStatistics | None
    network: NetworkWatchStatistics
    connections: int
    attempts: tuple[AttemptStatistics, ...]
    dht: DhtStatistics
    rpc: RpcStatistics
    introductions: IntroductionsStatistics
    traffic: HubStatistics
    gateways: GatewaysStatistics
    websocket: GatewayStatistics | None
    relay: RelayStatistics | None
    relay_use: RelayUse | None
