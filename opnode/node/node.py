"""The overlay node: builds the drivers, owns the nursery, routes between them.

Owns the life of everything that runs. What each part does is told in the part; here
stands only who is connected to whom, and the order of starting and stopping.
"""

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import random_bytes
from opnode.core.errors import (
    IntroductionRefused,
    LocalProtocolError,
    OpnodeError,
    PeerUnreachable,
    RecordNotFound,
)
from opnode.core.ids import (
    Contact,
    NodeId,
    PeerId,
    format_peer_id,
    peer_key,
)
from opnode.core.peerfile import (
    Presence,
)
from opnode.core.records import SignedRecord
from opnode.drivers.asyncio_island import Island, open_island
from opnode.drivers.background import open_background
from opnode.drivers.clock import WallClock, system_wall_clock
from opnode.drivers.connections import Connection
from opnode.drivers.dht.dht import Dht
from opnode.drivers.network.network import Network, SystemNetwork
from opnode.node.assembly import Parts, World, assemble
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.checkup import Checkup
from opnode.node.config import NodeConfig, Role
from opnode.node.connector import Connector
from opnode.node.data_directory import DataDirectory
from opnode.node.joining import JoinReport
from opnode.node.keys import (
    CERTIFICATE_RENEWAL_S,
    NodeKeys,
    load_keys,
    make_keys,
    renew_certificate,
)
from opnode.node.node_statistics import NodeStatistics
from opnode.node.peer_view import PeerView, is_presence, view_of
from opnode.node.peer_watch import PeerWatch
from opnode.node.presence.presence import PresenceKeeper
from opnode.node.ways.attempts import AttemptStatistics
from opnode.node.ways.offering import AFTER_FORESEEN_S
from opnode.node.whereabouts import Whereabouts
from opnode.node.wiring import (
    wire_gateways,
    wire_introducers,
    wire_neighbours,
    wire_websocket,
)

logger = logging.getLogger(__name__)

LOCATIONS_AT_ONCE: Final = 3
"""Remembered devices of one person that are called at once: phone, laptop, desk."""

GOODBYE_S: Final = 1.0
"""A node that stops withdraws its presence and hands on its records, but takes no
longer: three round trips around the world."""


class OverlayNode:
    """A running node. Made by ``open_node``."""

    def __init__(self, config: NodeConfig, parts: Parts, clock: WallClock) -> None:
        self._config = config
        self._parts = parts
        self._wall_clock = clock
        parts.network_watch.subscribe(parts.outlets.moved)
        parts.dht.watch_behind_nat(self._is_filtered)
        if parts.presence is not None:
            parts.presence.watch_filter(self._is_filtered)
            parts.dht.watch_behind_nat(self._is_filtered, parts.presence.silence_s)
        Whereabouts(parts).wire()
        if parts.presence is not None:
            parts.network_watch.subscribe(parts.presence.network_changed)
        if parts.presence is not None and config.role is Role.SERVER:
            parts.presence.own_endpoint = lambda: parts.observed.best
        wire_introducers(parts, self.lookup)
        wire_gateways(parts)
        wire_websocket(parts)
        wire_neighbours(parts)

    @property
    def node_id(self) -> NodeId:
        """The node's place in the DHT."""
        return self._parts.rpc.node_id

    @property
    def node_public_key(self) -> bytes:
        """The key that invites pin."""
        return self._parts.keys.node.public

    @property
    def peer_id(self) -> PeerId:
        """The identity that lives here.

        Raises:
            LocalProtocolError: a seed node has none.
        """
        identity = self._parts.keys.identity
        if identity is None:
            raise LocalProtocolError("this node has no identity: it is a seed")
        return identity.peer_id

    @property
    def endpoint(self) -> Endpoint:
        """Where others reach the node, as far as is known; else what it bound."""
        return self._parts.observed.best or self._parts.hub.local

    @property
    def data_directory(self) -> DataDirectory | None:
        """The open data directory, or ``None`` for a node in memory."""
        return self._parts.directory

    @property
    def dht(self) -> Dht:
        """The node's part in the DHT: any record, and lookups step by step."""
        return self._parts.dht

    @property
    def checkup(self) -> Checkup:
        """What the node can find out about itself by asking others."""
        return self._parts.checkup

    @property
    def connector(self) -> Connector:
        """Who may connect, and the live connections.

        Raises:
            LocalProtocolError: a seed node connects to nobody.
        """
        if self._parts.connector is None:
            raise LocalProtocolError("this node has no identity: it is a seed")
        return self._parts.connector

    @property
    def reports(self) -> trio.MemoryReceiveChannel[JoinReport]:
        """What became of each bootstrap entry, as it happens."""
        return self._parts.joiner.reports

    @property
    def role_changes(self) -> trio.MemoryReceiveChannel[Role]:
        """Each new role in force, when the node finds its role by itself."""
        return self._parts.roles.changes

    def invite(self) -> str | None:
        """The line by which others join through this node; a leaf has none."""
        if self._parts.roles.in_force is not Role.SERVER:
            return None
        observed = self._parts.observed
        endpoint = observed.best or observed.guess
        websocket = self._parts.websocket
        gateway = websocket.url(endpoint.host) if websocket is not None else None
        return str(BootstrapEntry(self.node_public_key, *endpoint, gateway))

    async def wait_joined(self) -> None:
        """Wait until the node has a contact (a first seed: at once)."""
        await self._parts.joiner.joined.wait()

    async def wait_evidence(self) -> None:
        """Wait until it was tried once whether strangers reach the node.

        At once where the role does not depend on it.
        """
        await self._parts.roles.wait_evidence()

    async def wait_published(self) -> None:
        """Wait until others can find this identity."""
        presence = self._parts.presence
        if presence is None:
            raise LocalProtocolError("this node has no identity: it is a seed")
        await presence.published.wait()

    async def lookup(self, peer_id: PeerId) -> PeerView:
        """Find everything that is published of a peer: its file, all its locations.

        Raises:
            RecordNotFound: nobody holds anything that verifies for this identity.
            PeerUnreachable: there is nobody to ask.
        """
        await self._parts.joiner.come_back()
        if not self._parts.joiner.is_joined:
            raise PeerUnreachable("this node is not connected to any other node")
        found = await self._parts.dht.find_all(peer_key(peer_id))
        if not found:
            name = format_peer_id(peer_id)
            raise RecordNotFound(f"{name}: not known to any node that was asked")
        return self._note(view_of(peer_id, found))

    @contextlib.asynccontextmanager
    async def watch(self, peer_id: PeerId) -> AsyncIterator[PeerWatch]:
        """Hear when the peer's locations come, change and go, without asking again.

        Within the block, iterate over what it gives: first those that are here.

        Raises:
            LocalProtocolError: too many watches are open.
        """
        async with self._parts.dht.watch(peer_key(peer_id)) as records:
            yield PeerWatch(records, self._wall_clock, self._parts.acquaintances.found)

    async def connect(self, peer_id: PeerId, *, early_data: bytes = b"") -> Connection:
        """Return the live connection to the peer, or make one.

        The first presence that comes in is tried at once; only when that location
        cannot be reached, all of them are looked up.

        Args:
            peer_id: whom to reach.
            early_data: at most 1024 bytes for `Connector.on_early_data` over there,
                which has them one round trip through an introducer before a path is
                found. Replayable, and each location that is tried gets them: a call
                that may ring twice, never a payment. Whether they were sent is told
                by the connection's ``early_data``, and so is what came back.

        Raises:
            RecordNotFound: the identity is not known.
            IntroductionRefused: the peer, or its introducer, said no, and why.
            PeerUnreachable: no location answered, or no path was found.
        """
        if peer_id == self.peer_id:
            raise LocalProtocolError("this is our own identity")
        for connection in self.connector.connections():
            if connection.peer_id == peer_id:
                await trio.lowlevel.checkpoint()
                return connection
        self._parts.forecast.prepare()
        remembered = self._parts.acquaintances.presences_of(peer_id)
        if remembered or self._parts.neighbours is not None:
            return await self._call_every_way(peer_id, remembered, early_data)
        return await self._find_and_connect(peer_id, early_data)

    async def _call_every_way(
        self, peer_id: PeerId, remembered: Sequence[Presence], early_data: bytes
    ) -> Connection:
        """Call where the peer was reached last, and on our links, and look it up.

        Two who know each other meet again although no node is left to introduce them,
        and two at one link meet although there is nothing beyond it.
        """
        made: list[Connection] = []
        failures: list[OpnodeError] = []
        connect = partial(self.connector.connect, lookup_s=0.0, early_data=early_data)

        async def attempt(call: Callable[[], Awaitable[Connection]]) -> None:
            try:
                made.append(await call())
            except OpnodeError as failure:
                failures.append(failure)
            else:
                nursery.cancel_scope.cancel()

        async def attempt_remembered(presence: Presence) -> None:
            if self._parts.forecast.is_needed:
                # Each node that the lookup asks takes a port of those foretold.
                await trio.sleep(AFTER_FORESEEN_S)
            await attempt(partial(connect, [presence]))

        async with trio.open_nursery() as nursery:
            for presence in remembered[:LOCATIONS_AT_ONCE]:
                nursery.start_soon(attempt_remembered, presence)
            found = partial(self._find_and_connect, peer_id, early_data)
            nursery.start_soon(attempt, found)
            if self._parts.neighbours is not None:
                near = await self._parts.neighbours.find(peer_id)
                if near is not None:
                    await attempt(partial(connect, [near]))
        if made:
            return made[0]
        raise _most_telling(failures)

    async def _find_and_connect(self, peer_id: PeerId, early_data: bytes) -> Connection:
        connector = self.connector
        started_at = trio.current_time()
        view = await self._find_quickly(peer_id)
        lookup_s = trio.current_time() - started_at
        try:
            return await connector.connect(
                view.presences, lookup_s=lookup_s, early_data=early_data
            )
        except PeerUnreachable:
            known = (await self.lookup(peer_id)).presences
            others = [p for p in known if p not in view.presences]
            if not others:
                raise
            return await connector.connect(
                others, lookup_s=lookup_s, early_data=early_data
            )

    async def _find_quickly(self, peer_id: PeerId) -> PeerView:
        def note(newer: SignedRecord) -> None:
            # The peer may have moved on: the next call goes where it is now.
            self._note(view_of(peer_id, [newer]))

        key = peer_key(peer_id)
        try:
            found = await self._parts.dht.find_first(key, is_presence, note)
        except RecordNotFound:
            return await self.lookup(peer_id)
        return self._note(view_of(peer_id, found))

    def _note(self, view: PeerView) -> PeerView:
        self._parts.acquaintances.found(view.presences)
        return view

    async def accept_connection(self) -> Connection:
        """Wait for the next connection that a peer made to us."""
        return await self.connector.accept()

    async def publish(self, record: SignedRecord) -> int:
        """Store a record and keep it alive; returns the holders that took it."""
        return await self._parts.dht.put(record, republish=True)

    def contacts(self) -> list[Contact]:
        """The nodes in our routing table."""
        return self._parts.dht.contacts()

    def statistics(self) -> NodeStatistics:
        """The node at this instant."""
        parts = self._parts
        presence = parts.presence
        identity = parts.keys.identity
        return NodeStatistics(
            node_id=self.node_id,
            peer_id=identity.peer_id if identity else None,
            role=parts.roles.in_force,
            configured_role=parts.roles.configured,
            reachability=parts.roles.evidence(),
            endpoint=self.endpoint,
            observed=parts.observed.agreed,
            behind_nat=parts.observed.behind_nat,
            nat=parts.observed.nat,
            ipv6=parts.observed.ipv6,
            mapped=parts.connector.ice.candidates.mapped if parts.connector else (),
            mapping=parts.outlets.mapping,
            turn=parts.outlets.turn,
            forecast=parts.forecast.statistics(),
            joined=parts.joiner.is_joined,
            contacts=len(parts.dht.contacts()),
            introducers=presence.introducers if presence else (),
            presence=presence.statistics() if presence else None,
            network=parts.network_watch.statistics(),
            attempts=self._attempts(),
            connections=len(parts.connector.connections()) if parts.connector else 0,
            dht=parts.dht.statistics(),
            rpc=parts.rpc.statistics(),
            introductions=parts.introductions.statistics(),
            traffic=parts.hub.statistics(),
            gateways=parts.gateways.statistics(),
            websocket=parts.websocket.statistics() if parts.websocket else None,
            relay=parts.relaying.statistics(),
            relay_use=parts.relaying.use(),
        )

    def _attempts(self) -> tuple[AttemptStatistics, ...]:
        connector = self._parts.connector
        if connector is None:
            return ()
        return connector.attempt_log.statistics(trio.current_time())

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run every part until cancelled."""
        parts = self._parts
        async with trio.open_nursery() as nursery:
            await nursery.start(parts.hub.run)
            await nursery.start(parts.rpc.run)
            await nursery.start(parts.dht.run)
            await nursery.start(parts.network_watch.run)
            if parts.qlog is not None:
                await nursery.start(parts.qlog.run)
            await nursery.start(parts.introductions.run)
            await nursery.start(parts.relaying.run, parts.joiner.joined)
            if parts.connector is not None:
                await nursery.start(parts.table.run)
                await nursery.start(parts.connector.run)
                nursery.start_soon(parts.acquaintances.run)
            if parts.websocket is not None:
                await nursery.start(parts.websocket.run)
            nursery.start_soon(parts.gateways.run)
            nursery.start_soon(parts.finder.run)
            nursery.start_soon(parts.outlets.run)
            if parts.neighbours is not None:
                await nursery.start(parts.neighbours.lan.run)
            nursery.start_soon(parts.joiner.run)
            if parts.presence is not None:
                nursery.start_soon(self._keep_presence, parts.presence)
                nursery.start_soon(self._keep_certificate, parts.presence)
            nursery.start_soon(parts.cache.run, parts.dht)
            nursery.start_soon(parts.dialler.run)
            nursery.start_soon(parts.forecast.run)
            nursery.start_soon(self._keep_role)
            task_status.started()

    async def leave(self) -> None:
        """Withdraw our presence, hand on what we hold. The caller bounds the time."""
        parts = self._parts
        async with trio.open_nursery() as nursery:
            if parts.presence is not None:
                nursery.start_soon(parts.presence.withdraw)
            nursery.start_soon(parts.outlets.leave)
            nursery.start_soon(parts.dht.leave)
            parts.relaying.stop()

    def close(self) -> None:
        """Say good-bye to every peer and remember the contacts."""
        self._parts.table.close_all("the node is shutting down")
        self._parts.acquaintances.save()
        self._parts.cache.save(self._parts.dht)

    def _is_filtered(self) -> bool:
        """Whether something in front of us may forget whom it lets in.

        A leaf was not proven to be reached by strangers: a NAT, or a firewall.
        """
        return self._parts.rpc.leaf or self._parts.observed.behind_nat

    async def _keep_presence(self, presence: PresenceKeeper) -> None:
        await self._parts.joiner.joined.wait()
        await presence.run()

    async def _keep_role(self) -> None:
        await self._parts.joiner.joined.wait()
        await self._parts.roles.run()

    async def _keep_certificate(self, presence: PresenceKeeper) -> None:
        while True:
            await trio.sleep(CERTIFICATE_RENEWAL_S)
            wall_now = self._wall_clock()
            location = renew_certificate(self._parts.keys, wall_now=wall_now)
            presence.adopt(location)
            self.connector.adopt(location)
            if self._parts.neighbours is not None:
                self._parts.neighbours.adopt(location)


@contextlib.asynccontextmanager
async def open_node(
    config: NodeConfig,
    *,
    network: Network | None = None,
    wall_clock: WallClock | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[OverlayNode]:
    """Run a node for the length of the ``async with`` block.

    The node joins in the background; wait with ``wait_joined`` and ``wait_published``.

    Args:
        config: what the node is told.
        network: where sockets come from; the operating system's by default.
        wall_clock: seconds since 1970, for the expiry of records.
        rng: jitter and sampling; never keys. Seeded by a simulation.

    Raises:
        ConfigError: an address that cannot be bound, a wrong setting.
        StorageError: the data directory or a key in it cannot be used.
    """
    clock = wall_clock or system_wall_clock
    with contextlib.ExitStack() as stack:
        directory: DataDirectory | None = None
        if config.data_dir is not None:
            directory = stack.enter_context(DataDirectory.open(config.data_dir))
        keys = _keys(config, directory, clock)
        # Jitter needs no secrecy, only that two nodes draw differently.
        jitter = rng or random.Random(random_bytes(16))  # noqa: S311
        async with _island(config) as island:
            world = World(
                network=network or SystemNetwork(),
                wall_clock=clock,
                rng=jitter,
                island=island,
            )
            parts = await assemble(config, keys, directory, world)
            stack.callback(parts.close)
            node = OverlayNode(config, parts, clock)
            # Shielded until the block ends: a block that is cancelled, as by Ctrl-C,
            # still needs the socket to say good-bye.
            life = trio.CancelScope(shield=True)
            async with open_background() as nursery:
                await nursery.start(_run_within, life, node)
                try:
                    yield node
                finally:
                    await _say_goodbye(node)
                    node.close()
                    life.cancel()


async def _run_within(
    life: trio.CancelScope,
    node: OverlayNode,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with life:
        await node.run(task_status=task_status)


async def _say_goodbye(node: OverlayNode) -> None:
    """Leave the network; bounded, as it is done also when the block is cancelled."""
    deadline = trio.current_time() + GOODBYE_S
    with trio.CancelScope(deadline=deadline, shield=True):
        await node.leave()


def _island(
    config: NodeConfig,
) -> contextlib.AbstractAsyncContextManager[Island | None]:
    """Where ICE runs; a seed connects to nobody."""
    return open_island() if config.has_identity else contextlib.nullcontext()


def _keys(
    config: NodeConfig, directory: DataDirectory | None, clock: WallClock
) -> NodeKeys:
    name = config.location_name
    if directory is None:
        return make_keys(has_identity=config.has_identity, name=name, wall_now=clock())
    return load_keys(
        directory, has_identity=config.has_identity, name=name, wall_now=clock()
    )


def _most_telling(failures: Sequence[OpnodeError]) -> OpnodeError:
    """A refusal says more than silence, and silence more than an unknown name."""
    for kind in (IntroductionRefused, PeerUnreachable):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[-1]
