"""Going around a network that passes no UDP: by WebSocket, until UDP works again.

Owns when UDP counts as blocked, which gateways are held meanwhile, and the way back.
Refuses to know how a WebSocket carries datagrams, and what is asked through it.
"""

import enum
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint, reaches
from opnode.core.errors import NetworkError, PeerUnreachable
from opnode.core.ids import Contact
from opnode.drivers.dht.dht import Dht
from opnode.drivers.network.network import Network
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.websocket.client import Dial, GatewayLink, GatewayTrust, dial_tcp
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.network_watch import NetworkChange
from opnode.protocols.rpc.messages import Ping
from opnode.protocols.websocket import CloseCode, GatewayUrl

logger = logging.getLogger(__name__)

HELD: Final = 2
"""WebSockets held at once: when one dies the other goes on without a gap."""

TRY_UDP_S: Final = 60.0
"""How often UDP is tried while it is blocked: a phone leaves the office, a firewall is
opened. Six small datagrams a minute."""

LOOK_S: Final = 5.0
"""How often it is looked whether somebody answered by UDP by chance."""

PROBES: Final = 6
"""Nodes that UDP is tried with: all of them are hardly gone at once."""

PROBE_S: Final = 3.0
"""How long their answers are waited for: twice as long as a request takes to fail."""

PAUSE_S: Final = 3.0
"""After UDP was found to work: one silent peer is no reason to ask all the time."""

LINGER_S: Final = 15.0
"""How long WebSockets stay open after UDP works again: what others sent by them still
arrives until everybody knows our new address."""

FAREWELL_S: Final = 2.0
"""How long closing them may take; then their TCP connections are just closed."""

FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
"""Between attempts at gateways that let nobody in, doubled each time."""

MAX_REACHING: Final = 4
"""WebSockets besides those held: to relays that others chose for calls with us."""

MAX_KNOWN: Final = 16
"""Gateways known: an entry's, remembered ones and those that nodes told of."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A node that takes datagrams by WebSocket.

    ``public_key`` is pinned where it is known; ``host`` and ``port`` are those of UDP,
    by which the node is known in the DHT.
    """

    url: GatewayUrl
    host: str
    port: int
    public_key: bytes | None = None


class UdpState(enum.Enum):
    """Whether our datagrams get through."""

    OPEN = "open"
    BLOCKED = "blocked"
    AROUND = "around, by WebSocket"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaysStatistics:
    """How the node is connected; ``blocked`` counts how often UDP was given up."""

    state: UdpState
    held: tuple[str, ...]
    known: int
    blocked: int
    last_failure: str


class GatewayKeeper:
    """Notices that UDP is blocked and holds WebSockets to gateways meanwhile.

    Attributes:
        on_change: called when the gateways held changed; UDP works when none is.
        look_up: asks the node at an address for its WebSocket.
    """

    def __init__(  # noqa: PLR0913 - collaborators, all different types
        self,
        *,
        hub: SocketHub,
        rpc: Rpc,
        dht: Dht,
        network: Network,
        entries: Sequence[BootstrapEntry],
        rng: random.Random,
        trust: GatewayTrust,
        dial: Dial = dial_tcp,
    ) -> None:
        self.on_change: Callable[[], None] = _nothing
        self.look_up: Callable[[Endpoint], Awaitable[Gateway | None]] = _unknown
        self._hub = hub
        self._rpc = rpc
        self._dht = dht
        self._network = network
        self._entries = tuple(entries)
        self._rng = rng
        self._trust = trust
        self._dial = dial
        self._known: dict[GatewayUrl, Gateway] = {}
        self._busy: set[GatewayUrl] = set()
        self._reaching: set[Endpoint] = set()
        self._nursery: trio.Nursery | None = None
        self._tried: dict[GatewayUrl, float] = {}
        self._links: dict[Contact, GatewayLink] = {}
        self._state = UdpState.OPEN
        self._was_leaf = True
        self._suspicion = trio.Event()
        self._moved = trio.Event()
        self._ended = trio.Event()
        self._blocked = 0
        self._last_failure = ""
        self.learn(gateways_of(entries))

    @property
    def held(self) -> tuple[Contact, ...]:
        """The gateways that carry our datagrams now; none while UDP works."""
        is_around = self._state is UdpState.AROUND
        return tuple(self._links) if is_around else ()

    def known(self) -> tuple[Gateway, ...]:
        """Gateways that can be tried, those of entries first."""
        return tuple(self._known.values())

    def learn(self, gateways: Iterable[Gateway]) -> None:
        """Remember more gateways, up to a limit; the first known stay."""
        for gateway in gateways:
            if len(self._known) < MAX_KNOWN:
                self._known.setdefault(gateway.url, gateway)

    def reach(self, endpoint: Endpoint) -> None:
        """Try to reach one more node by its WebSocket, as a relay of somebody else."""
        is_full = len(self._reaching) >= MAX_REACHING or endpoint in self._reaching
        if self._state is not UdpState.AROUND or self._nursery is None or is_full:
            return
        self._reaching.add(endpoint)
        self._nursery.start_soon(self._reach, endpoint, self._nursery)

    async def _reach(self, endpoint: Endpoint, nursery: trio.Nursery) -> None:
        try:
            gateway = await self.look_up(endpoint)
            if gateway is None or gateway.url in self._busy:
                # Nobody is asked again and again in vain.
                await trio.sleep(MAX_PAUSE_S)
                return
            self._busy.add(gateway.url)
            try:
                await self._use(gateway, nursery)
            finally:
                self._busy.discard(gateway.url)
        finally:
            self._reaching.discard(endpoint)

    def network_changed(self, change: NetworkChange) -> None:
        """Try UDP at once: the network may be another one now."""
        if change is not NetworkChange.SEEN_ELSEWHERE:
            self._moved.set()

    def statistics(self) -> GatewaysStatistics:
        """How the node is connected now."""
        return GatewaysStatistics(
            state=self._state,
            held=tuple(str(link.url) for link in self._links.values()),
            known=len(self._known),
            blocked=self._blocked,
            last_failure=self._last_failure,
        )

    async def run(self) -> None:
        """Watch UDP and go around it when it is blocked, until cancelled."""
        self._rpc.silence.on_suspicion = self.suspect
        self._rpc.detour.on_slow = self._doubt
        while True:
            await self._suspicion.wait()
            self._suspicion = trio.Event()
            if self._known and not await self._hears_udp():
                await self._go_around()
            else:
                await trio.sleep(PAUSE_S)

    def suspect(self) -> None:
        """Something did not come back: find out whether UDP works."""
        self._suspicion.set()

    def _doubt(self, endpoint: Endpoint) -> None:
        """A gateway is late with an answer: find out whether it is there."""
        for contact, link in self._links.items():
            if contact.endpoint == endpoint and link.carrier is not None:
                link.carrier.check()

    async def _hears_udp(self) -> bool:
        """Ask some nodes by UDP; whether any of them, or anybody else, answers."""
        began_at = trio.current_time()
        endpoints = await self._witnesses()
        with trio.move_on_after(PROBE_S):
            async with trio.open_nursery() as nursery:

                async def ask(endpoint: Endpoint) -> None:
                    if await self._rpc.answers_by_udp(endpoint):
                        heard.append(endpoint)
                        nursery.cancel_scope.cancel()

                heard: list[Endpoint] = []
                for endpoint in endpoints:
                    nursery.start_soon(ask, endpoint)
        return bool(heard) or self._rpc.silence.heard_at > began_at

    async def _witnesses(self) -> list[Endpoint]:
        """Whom UDP is tried with: contacts, then entries."""
        contacts = [contact.endpoint for contact in self._dht.contacts()]
        lost = [known.contact.endpoint for known in self._dht.lost_contacts()]
        chosen = self._rng.sample(contacts, min(len(contacts), PROBES // 2))
        chosen += [*lost[: PROBES // 2], *(c.endpoint for c in self._links)]
        for entry in self._entries[:PROBES]:
            endpoint = await self._resolve(entry.host, entry.port)
            chosen += [endpoint] if endpoint is not None else []
        return list(dict.fromkeys(chosen))[:PROBES]

    async def _go_around(self) -> None:
        """Hold WebSockets until UDP works again, and a little longer."""
        self._state = UdpState.BLOCKED
        self._blocked += 1
        logger.warning("no answer by UDP: trying %d gateways", len(self._known))
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for _ in range(HELD):
                nursery.start_soon(self._hold, nursery)
            await self._wait_udp()
            self._leave()
            await trio.sleep(LINGER_S)
            await self._close_links()
            nursery.cancel_scope.cancel()
        self._nursery = None
        self._links.clear()
        self._busy.clear()

    async def _close_links(self) -> None:
        for link in self._links.values():
            if link.carrier is not None:
                link.carrier.close(CloseCode.GOING_AWAY, "UDP works again")
        with trio.move_on_after(FAREWELL_S):
            while self._links:
                await self._ended.wait()

    async def _wait_udp(self) -> None:
        while True:
            began_at = trio.current_time()
            while trio.current_time() < began_at + TRY_UDP_S:
                with trio.move_on_after(LOOK_S):
                    await self._moved.wait()
                if self._moved.is_set() or self._rpc.silence.heard_at > began_at:
                    break
            self._moved = trio.Event()
            if await self._hears_udp():
                return

    def _leave(self) -> None:
        """Send by UDP again. The WebSockets stay open for what is under way."""
        logger.warning("UDP works again")
        was_around = self._state is UdpState.AROUND
        self._state = UdpState.OPEN
        self._suspicion = trio.Event()
        self._rpc.detour.gateways = ()
        for contact, link in self._links.items():
            link.release()
            self._rpc.forget_peer(contact.endpoint)
        if was_around:
            self._rpc.leaf = self._was_leaf
            self.on_change()

    async def _hold(self, nursery: trio.Nursery) -> None:
        """Keep one WebSocket open, to whichever gateway lets us in."""
        pause_s = FIRST_PAUSE_S
        while self._state is not UdpState.OPEN:
            gateway = self._choose()
            if gateway is None:
                await trio.sleep(pause_s)
                continue
            self._busy.add(gateway.url)
            self._tried[gateway.url] = trio.current_time()
            try:
                was_held = await self._use(gateway, nursery)
            finally:
                self._busy.discard(gateway.url)
            pause_s = FIRST_PAUSE_S if was_held else min(2 * pause_s, MAX_PAUSE_S)
            if not was_held and self._choose_fresh() is None:
                await trio.sleep(self._rng.uniform(0.5, 1.0) * pause_s)

    def _choose(self) -> Gateway | None:
        """One that is not in use; those never tried first, then the longest ago."""
        free = [g for g in self._known.values() if g.url not in self._busy]
        return min(free, key=lambda g: self._tried.get(g.url, -1.0), default=None)

    def _choose_fresh(self) -> Gateway | None:
        chosen = self._choose()
        return chosen if chosen is not None and chosen.url not in self._tried else None

    async def _use(self, gateway: Gateway, nursery: trio.Nursery) -> bool:
        """Hold a WebSocket to this gateway until it ends; whether it ever was open."""
        endpoint = await self._resolve(gateway.host, gateway.port)
        if endpoint is None:
            self._last_failure = f"{gateway.host} does not resolve"
            return False
        link = GatewayLink(
            self._hub,
            url=gateway.url,
            endpoint=endpoint,
            network=self._rpc.network_id,
            dial=self._dial,
            trust=self._trust,
        )
        ended = trio.Event()

        async def carry(task_status: trio.TaskStatus[None]) -> None:
            try:
                self._last_failure = await link.run(task_status)
            finally:
                ended.set()

        try:
            await nursery.start(carry)
            contact = await self._meet(gateway, endpoint)
        except NetworkError as failure:
            logger.info("%s", failure)
            if link.carrier is not None:
                link.carrier.close(CloseCode.GOING_AWAY, "not who it should be")
                await ended.wait()
            self._last_failure = str(failure)
            return False
        self._enter(contact, link, nursery)
        await ended.wait()
        self._lose(contact)
        return True

    async def _meet(self, gateway: Gateway, endpoint: Endpoint) -> Contact:
        """Have the gateway prove that it is the node whose datagrams we give it.

        Raises:
            NetworkError: it is another, or does not answer.
        """
        self._rpc.forget_peer(endpoint)
        key = await self._rpc.prove(endpoint)
        if gateway.public_key is not None and key != gateway.public_key:
            raise PeerUnreachable(f"gateway {gateway.url}: another node's key")
        return (await self._rpc.request(endpoint, Ping())).contact

    def _enter(
        self, contact: Contact, link: GatewayLink, nursery: trio.Nursery
    ) -> None:
        """Use a gateway that let us in and proved itself."""
        if self._state is UdpState.OPEN:
            return
        self._links[contact] = link
        if self._state is UdpState.BLOCKED:
            # In nobody's table: we cannot be asked.
            self._was_leaf, self._rpc.leaf = self._rpc.leaf, True
            self._state = UdpState.AROUND
        self._rpc.detour.gateways = tuple(c.endpoint for c in self._links)
        logger.warning("no UDP: going around by %s", link.url)
        nursery.start_soon(self._dht.join, [contact.endpoint])
        self.on_change()

    def _lose(self, contact: Contact) -> None:
        link = self._links.pop(contact, None)
        self._ended.set()
        self._ended = trio.Event()
        self._rpc.forget_peer(contact.endpoint)
        if link is None or self._state is not UdpState.AROUND:
            return
        logger.warning("the WebSocket to %s ended: %s", link.url, self._last_failure)
        self._rpc.detour.gateways = tuple(c.endpoint for c in self._links)
        if not self._links:
            self._state = UdpState.BLOCKED
            self._rpc.leaf = self._was_leaf
        self.on_change()

    async def _resolve(self, host: str, port: int) -> Endpoint | None:
        """The address of UDP that the node is known by; of our IP version."""
        try:
            endpoints = await self._network.resolve(host, port)
        except NetworkError:
            return None
        bound = self._hub.local.host
        reached = [e for e in endpoints if reaches(bound, e.host)]
        # The DHT is that of IPv4 for whoever has it: an id fits one address only.
        return min(reached, key=lambda e: ":" in e.host, default=None)


def gateways_of(entries: Iterable[BootstrapEntry]) -> list[Gateway]:
    """Those that entries name."""
    return [
        Gateway(entry.gateway, entry.host, entry.port, entry.node_public_key)
        for entry in entries
        if entry.gateway is not None
    ]


def _nothing() -> None:
    return None


async def _unknown(_: Endpoint) -> Gateway | None:
    await trio.lowlevel.checkpoint()
    return None
