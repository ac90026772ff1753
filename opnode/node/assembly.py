"""Building a node's parts in the order in which they need each other.

Owns the wiring of constructors and nothing that happens later.
"""

import functools
import random
from dataclasses import dataclass

from opnode.core.addresses import is_wildcard
from opnode.core.crypto import random_bytes
from opnode.core.ids import Contact, node_id_of
from opnode.drivers.asyncio_island import Island
from opnode.drivers.clock import WallClock
from opnode.drivers.connection_table import ConnectionTable
from opnode.drivers.dht.config import DelegationConfig, DhtConfig
from opnode.drivers.dht.dht import Dht
from opnode.drivers.dht.dialling import Dialler
from opnode.drivers.dht.reachability import ReachabilityCheck
from opnode.drivers.ice.ice import IceAgent
from opnode.drivers.introductions import Introductions
from opnode.drivers.lan.lan import Lan
from opnode.drivers.lan.sockets import open_lan_sockets
from opnode.drivers.network.network import Network
from opnode.drivers.qlog.qlog import QlogDirectory
from opnode.drivers.qlog.trace import QlogTraces
from opnode.drivers.router.port_mapping import PortMapping
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.services import Services
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.store import RecordStore
from opnode.drivers.turn.turn import TurnClient
from opnode.node.acquaintances import Acquaintances
from opnode.node.addresses import ObservedAddresses
from opnode.node.bootstrap import probe
from opnode.node.checkup import Checkup
from opnode.node.config import NodeConfig, Role
from opnode.node.connector import Connector, ConnectorConfig
from opnode.node.contact_cache import ContactCache
from opnode.node.data_directory import DataDirectory
from opnode.node.gateways.finder import GatewayFinder
from opnode.node.gateways.gateways import HELD, GatewayKeeper, gateways_of
from opnode.node.gateways.memory import load_gateways
from opnode.node.gateways.service import WebSocketService
from opnode.node.joining import Joiner
from opnode.node.keys import NodeKeys
from opnode.node.neighbours import Neighbours, OwnEndpoints
from opnode.node.network_watch import NetworkChange, NetworkWatch
from opnode.node.outlets import Outlets, port_mappers, told_of
from opnode.node.ports.forecast import PortForecast
from opnode.node.ports.probe import PortProbe
from opnode.node.presence.introducers import Introducers
from opnode.node.presence.knocker import Knocker
from opnode.node.presence.presence import PresenceConfig, PresenceKeeper
from opnode.node.presence.publishing import PresencePublisher
from opnode.node.relaying import Relaying
from opnode.node.roles import RoleKeeper
from opnode.node.ways.turn import TurnWays
from opnode.protocols.binding_lifetime import BindingLifetime, BindingLifetimeConfig
from opnode.protocols.introductions.desk import IntroductionDesk
from opnode.protocols.introductions.handshake import Handshakes
from opnode.protocols.introductions.introducer import IntroducerDesk
from opnode.protocols.lan import LanDesk
from opnode.protocols.noise import NoiseInitiator, NoiseResponder
from opnode.protocols.reachability import ReachabilityConfig
from opnode.protocols.rpc.messages import MAX_ALTERNATES, Service, network_id_of


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a node takes from outside: the real thing, or a simulation's."""

    network: Network
    wall_clock: WallClock
    rng: random.Random
    island: Island | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that a node is built from."""

    keys: NodeKeys
    directory: DataDirectory | None
    hub: SocketHub
    rpc: Rpc
    dht: Dht
    store: RecordStore
    table: ConnectionTable
    qlog: QlogDirectory | None
    introductions: Introductions
    acquaintances: Acquaintances
    connector: Connector | None
    joiner: Joiner
    presence: PresenceKeeper | None
    observed: ObservedAddresses
    forecast: PortForecast
    checkup: Checkup
    cache: ContactCache
    roles: RoleKeeper
    dialler: Dialler
    relaying: Relaying
    network_watch: NetworkWatch
    gateways: GatewayKeeper
    finder: GatewayFinder
    websocket: WebSocketService | None
    outlets: Outlets
    neighbours: Neighbours | None

    def close(self) -> None:
        """Let go of the socket and the database."""
        self.hub.close()
        self.store.close()
        if self.qlog is not None:
            self.qlog.write_all()


async def assemble(
    config: NodeConfig,
    keys: NodeKeys,
    directory: DataDirectory | None,
    world: World,
) -> Parts:
    """Build the parts of one node; nothing runs yet.

    Raises:
        ConfigError: the address to listen on cannot be bound, or the directory for
            logs cannot be used.
        StorageError: the records cannot be opened.
    """
    qlog = _qlog(config, world)
    store = RecordStore(directory.records_path if directory else ":memory:")
    try:
        hub, rpc, websocket = await _open_sockets(config, keys, world)
    except BaseException:
        store.close()
        raise
    dht = Dht(
        rpc,
        store,
        wall_clock=world.wall_clock,
        rng=world.rng,
        config=DhtConfig(delegation=DelegationConfig(few_bindings=config.few_bindings)),
    )
    introductions = _introductions(config, rpc, dht, world)
    known_at = directory.acquaintances_path if directory else None
    acquaintances = Acquaintances(world.wall_clock, known_at)
    cache = ContactCache(directory, world.wall_clock)
    observed = ObservedAddresses(hub.local, _hosts(world))
    table = ConnectionTable(hub, traces=QlogTraces(qlog) if qlog else None)
    roles = _roles(config, dht, rpc, world)
    connector = _connector(config, keys, introductions, table, world, acquaintances)
    relaying = _relaying(config, rpc, dht, hub, connector, world)
    gateways = _gateways(config, directory, hub, rpc, dht, world)
    return Parts(
        keys=keys,
        directory=directory,
        hub=hub,
        rpc=rpc,
        dht=dht,
        store=store,
        table=table,
        qlog=qlog,
        introductions=introductions,
        acquaintances=acquaintances,
        connector=connector,
        joiner=_joiner(config, cache, dht, rpc, world),
        presence=_presence(config, keys, rpc, dht, introductions, world),
        observed=observed,
        forecast=_forecast(dht, rpc, observed, world),
        checkup=_checkup(config, dht, rpc, world),
        cache=cache,
        roles=roles,
        dialler=Dialler(rpc, dht.contacts, world.network.bind, world.rng),
        network_watch=_network_watch(world, observed),
        outlets=_outlets(config, hub, connector, world, roles),
        gateways=gateways,
        finder=_finder(directory, rpc, gateways, relaying.services, world),
        websocket=websocket,
        neighbours=_neighbours(config, keys, rpc, acquaintances, world),
        relaying=relaying,
    )


def _neighbours(
    config: NodeConfig,
    keys: NodeKeys,
    rpc: Rpc,
    acquaintances: Acquaintances,
    world: World,
) -> Neighbours | None:
    if not config.lan:
        return None
    desk = LanDesk(rpc.network_id, random_bytes)
    desk.location, desk.node_key = keys.location, keys.node
    desk.is_server = lambda: not rpc.leaf
    own = OwnEndpoints(rpc.local, world.network.interface_addresses)
    lan = Lan(
        desk,
        lambda: open_lan_sockets(own.refresh()),
        own.towards,
        world.wall_clock,
    )
    return Neighbours(lan, acquaintances)


async def _open_sockets(
    config: NodeConfig, keys: NodeKeys, world: World
) -> tuple[SocketHub, Rpc, WebSocketService | None]:
    hub = SocketHub(await world.network.bind(config.listen))
    rpc = _rpc(config, keys, hub, world)
    if config.websocket is None:
        return hub, rpc, None
    try:
        return hub, rpc, await WebSocketService.open(hub, rpc, config.websocket)
    except BaseException:
        hub.close()
        raise


def _gateways(
    config: NodeConfig,
    directory: DataDirectory | None,
    hub: SocketHub,
    rpc: Rpc,
    dht: Dht,
    world: World,
) -> GatewayKeeper:
    keeper = GatewayKeeper(
        hub=hub,
        rpc=rpc,
        dht=dht,
        network=world.network,
        entries=config.bootstrap,
        rng=world.rng,
        trust=config.gateway_trust,
    )
    if directory is not None:
        keeper.learn(gateways_of(load_gateways(directory.gateways_path)))
    return keeper


def _finder(
    directory: DataDirectory | None,
    rpc: Rpc,
    keeper: GatewayKeeper,
    services: Services,
    world: World,
) -> GatewayFinder:
    async def find() -> list[Contact]:
        return await services.find(Service.WEBSOCKET, HELD)

    path = directory.gateways_path if directory is not None else None
    return GatewayFinder(rpc, keeper, find, world.rng, path)


def _rpc(config: NodeConfig, keys: NodeKeys, hub: SocketHub, world: World) -> Rpc:
    return Rpc(
        hub,
        node_id=node_id_of(keys.node.public, hub.local.host),
        leaf=config.role is not Role.SERVER,
        signing_key=keys.node,
        rng=world.rng,
        config=RpcConfig(network=network_id_of(config.network_name)),
    )


def _relaying(
    config: NodeConfig,
    rpc: Rpc,
    dht: Dht,
    hub: SocketHub,
    connector: Connector | None,
    world: World,
) -> Relaying:
    relaying = Relaying(
        hub,
        rpc,
        Services(rpc, dht.contacts, dht.closest_nodes_again, world.rng),
        world.rng,
        has_identity=config.has_identity,
        config=config.relay,
    )
    if connector is not None and relaying.ways is not None:
        connector.way_makers.append(relaying.ways)
    return relaying


def _forecast(
    dht: Dht, rpc: Rpc, observed: ObservedAddresses, world: World
) -> PortForecast:
    probe = PortProbe(rpc, world.network.bind)
    return PortForecast(rpc, dht.contacts, lambda: observed.nat, probe)


def _hosts(world: World) -> list[str]:
    return [one.host for one in world.network.interface_addresses()]


def _network_watch(world: World, observed: ObservedAddresses) -> NetworkWatch:
    """The first to hear of a change is who knows where we are."""
    watch = NetworkWatch(world.network, world.wall_clock)

    def forget(change: NetworkChange) -> None:
        if change is NetworkChange.ADDRESSES:
            observed.moved(_hosts(world))

    watch.subscribe(forget)
    return watch


def _introductions(
    config: NodeConfig, rpc: Rpc, dht: Dht, world: World
) -> Introductions:
    introductions = Introductions(
        rpc, IntroducerDesk(config.introducer), wall_clock=world.wall_clock
    )
    introductions.alternates = functools.partial(dht.some_servers, MAX_ALTERNATES)
    introductions.read_contacts = dht.read_contacts_untrusted
    return introductions


def _qlog(config: NodeConfig, world: World) -> QlogDirectory | None:
    if config.qlog_dir is None:
        return None
    return QlogDirectory(config.qlog_dir, wall_clock=world.wall_clock)


def _connector(
    config: NodeConfig,
    keys: NodeKeys,
    introductions: Introductions,
    table: ConnectionTable,
    world: World,
    acquaintances: Acquaintances,
) -> Connector | None:
    """Who talks to people; a node without an identity has nobody to talk for."""
    if keys.location is None:
        return None
    assert world.island is not None, "who has an identity needs ICE"
    introductions.live_at(keys.location.signing.public)
    handshakes = Handshakes(initiator=NoiseInitiator, responder=NoiseResponder)
    return Connector(
        desk=IntroductionDesk(keys.location, handshakes=handshakes),
        introductions=introductions,
        ice=IceAgent(table.hub, world.island, world.network),
        table=table,
        acquaintances=acquaintances,
        wall_clock=world.wall_clock,
        rng=world.rng,
        config=ConnectorConfig(
            max_unaccepted=config.max_unaccepted, transport=config.transport
        ),
    )


def _outlets(
    config: NodeConfig,
    hub: SocketHub,
    connector: Connector | None,
    world: World,
    roles: RoleKeeper,
) -> Outlets:
    mapping = None
    if config.port_mapping and is_wildcard(hub.local.host):
        find = functools.partial(port_mappers, world.network)
        mapping = PortMapping(hub.local.port, find)
    if connector is None:
        return Outlets(None, mapping)
    offered = connector.ice.candidates
    if mapping is not None:
        told_of(mapping, offered.add_mapped, offered.forget_mapped, roles.retry)
    assert world.island is not None, "who has a connector has ICE"
    # Without a server of our own the peer's may still be one to send to.
    client = TurnClient(hub, world.island, world.network, config.turn_servers)
    connector.way_makers.append(TurnWays(client, connector.ice))
    return Outlets(client, mapping)


def _presence(
    config: NodeConfig,
    keys: NodeKeys,
    rpc: Rpc,
    dht: Dht,
    introductions: Introductions,
    world: World,
) -> PresenceKeeper | None:
    if keys.location is None or keys.identity is None:
        return None
    introducers = Introducers(
        introductions,
        Knocker(world.network, rpc, introductions, world.rng),
        keys.location.signing,
        registration_lifetime_s=config.registration_lifetime_s,
        binding=BindingLifetime(BindingLifetimeConfig(start_s=config.nat_keepalive_s)),
        rng=world.rng,
    )
    keeper = PresenceKeeper(
        location=keys.location,
        publisher=PresencePublisher(
            identity=keys.identity,
            location=keys.location,
            dht=dht,
            wall_clock=world.wall_clock,
            lifetime_s=config.presence_lifetime_s,
        ),
        introducers=introducers,
        introductions=introductions,
        rng=world.rng,
        config=PresenceConfig(presence_lifetime_s=config.presence_lifetime_s),
    )
    keeper.others = dht.contacts
    return keeper


def _checkup(config: NodeConfig, dht: Dht, rpc: Rpc, world: World) -> Checkup:
    return Checkup(
        dht,
        config.bootstrap,
        functools.partial(probe, rpc=rpc, network=world.network),
        wall_clock=world.wall_clock,
        rng=world.rng,
    )


def _roles(config: NodeConfig, dht: Dht, rpc: Rpc, world: World) -> RoleKeeper:
    proof = ReachabilityConfig(settle_s=config.prove_after_s)
    check = ReachabilityCheck(rpc, dht.contacts, world.rng, proof)
    return RoleKeeper(config.role, rpc, dht, check)


def _joiner(
    config: NodeConfig,
    cache: ContactCache,
    dht: Dht,
    rpc: Rpc,
    world: World,
) -> Joiner:
    return Joiner(
        dht=dht,
        rpc=rpc,
        network=world.network,
        entries=config.bootstrap,
        remembered=cache.known(),
        rng=world.rng,
        is_server=config.role is Role.SERVER,
    )
