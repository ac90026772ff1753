"""Which nodes do more than the DHT asks of them: relays, gateways; finding one.

Owns what this node knows of such nodes, what it tells others of them, and the search.
A node counts as one when it said so itself, from an address that was proven: by its
answer to us or by a token of ours that it showed. What others name is only asked, once,
with a PING. Refuses to know how a service is used.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint, may_name, public_subnet
from opnode.core.crypto import sha256
from opnode.core.errors import NetworkError, RemoteProtocolError
from opnode.core.ids import NODE_ID_SIZE, Contact
from opnode.drivers.rpc.exchange import Answer, IncomingRequest, Indifferent
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.messages import (
    MAX_ALTERNATES,
    MAX_SERVERS,
    NO_SERVICE,
    FailureCode,
    FindServices,
    Ping,
    Refuse,
    Reply,
    Servers,
    Service,
    pack_contact,
    unpack_contact_untrusted,
)

_SERVICES: Final = (Service.RELAY, Service.WEBSOCKET)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesConfig:
    """How much is remembered and asked.

    Attributes:
        remembered: servers of one service; 200 B each. With more, chance decides who
            stays: nobody can push out all others by being many, or by coming first.
        per_subnet: of them in one /24 or /48; a relay operator needs no more, and
            whoever has one subnet is not all that we know.
        fresh_s: for so long after it was heard a server is named and used without
            being asked again.
        asked: nodes asked in one search, and of them at once.
        at_once: of them under way together.
        pinged: servers named by others that are pinged in one search: what a liar can
            make us send to strangers, one small datagram each.
        wanted: servers that are enough: one to use and one to fall back on.
        announce_s: a server lets the meeting place of its service know so often.
        announced_to: nodes there that it tells.
        first_retry_s: a search that found nothing is repeated once after so long, then
            every ``retry_s``.
        retry_s: four hours, as a search of an idle node is 24 mappings of its NAT and
            3 kB, and who needs a relay now asks again at once.
    """

    remembered: int = 64
    per_subnet: int = 2
    fresh_s: float = 900.0
    asked: int = 24
    at_once: int = 4
    pinged: int = 24
    wanted: int = 2
    announce_s: float = 600.0
    announced_to: int = 8
    first_retry_s: float = 300.0
    retry_s: float = 14_400.0


@dataclass(slots=True)
class _Known:
    """One server: who, what it does, and when it said so."""

    contact: Contact
    services: Service
    heard_at: float


def meeting_key(service: Service) -> bytes:
    """The place in the DHT where servers of this kind let themselves be known."""
    return sha256(b"opnode service", bytes([int(service)]))[:NODE_ID_SIZE]


class Services:
    """The servers that this node knows of.

    Attributes:
        is_wanted: whether ``run`` keeps relays known in advance, for those who will
            need one in a hurry.
        own_urls: where our own WebSockets are, if we have any.
    """

    def __init__(
        self,
        rpc: Rpc,
        contacts: Callable[[], Sequence[Contact]],
        closest_nodes: Callable[[bytes], Awaitable[list[Contact]]],
        rng: random.Random,
        config: ServicesConfig | None = None,
    ) -> None:
        """Hear what nodes say of themselves, and answer FIND_SERVICES."""
        self.is_wanted: Callable[[], bool] = _never
        self.own_urls: Callable[[], tuple[str, ...]] = _no_urls
        self._rpc = rpc
        self._contacts = contacts
        self._closest_nodes = closest_nodes
        self._rng = rng
        self._config = config or ServicesConfig()
        self._known: dict[Endpoint, _Known] = {}
        self._retry_s = self._config.first_retry_s
        rpc.on_offered = self._heard
        rpc.serve(FindServices, self._serve_find)

    def known(self, wanted: Service) -> list[Contact]:
        """Servers that were heard lately, the last first."""
        oldest = trio.current_time() - self._config.fresh_s
        found = [
            known
            for known in self._known.values()
            if wanted in known.services and known.heard_at >= oldest
        ]
        found.sort(key=lambda known: known.heard_at, reverse=True)
        return [known.contact for known in found]

    def forget(self, endpoint: Endpoint) -> None:
        """A server did not do what it said, or is gone."""
        self._known.pop(endpoint, None)

    def hear_of(self, endpoints: Sequence[Endpoint]) -> None:
        """Ask nodes that somebody else named what they do; whoever answers is known."""
        for endpoint in endpoints[:MAX_ALTERNATES]:
            if self._rpc.may_be_sent_to(endpoint):
                try:
                    self._rpc.start(endpoint, Ping(), Indifferent())
                except NetworkError:
                    return

    async def find(self, wanted: Service, count: int = 1) -> list[Contact]:
        """Ask around until as many servers are known; may find fewer, or none.

        First the nodes that we know, then those at the service's meeting place. One
        search sends at most ``asked`` + ``pinged`` requests besides one lookup.
        """
        found = self.known(wanted)
        if len(found) >= count:
            await trio.lowlevel.checkpoint()
            return found
        search = _Search(self, self._rpc, self._config, wanted)
        contacts = list(self._contacts())
        self._rng.shuffle(contacts)
        half = self._config.asked // 2
        await search.ask(contacts[:half], count)
        if len(self.known(wanted)) < count:
            await search.ask(await self._closest_nodes(meeting_key(wanted)), count)
        return self.known(wanted)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Announce what we do, and keep relays known if they are wanted."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce_often)
            nursery.start_soon(self._look_often)

    async def _announce_often(self) -> None:
        while True:
            for service in _SERVICES:
                if service in self._rpc.services and not self._rpc.leaf:
                    await self._announce(service)
            period_s = self._config.announce_s
            has_contacts = bool(self._contacts())
            await trio.sleep(
                self._rng.uniform(0.8, 1.2) * (period_s if has_contacts else 10.0)
            )

    async def _announce(self, service: Service) -> None:
        """Be heard at the meeting place: by a request whose token proves our address.

        Who lacks our token refuses first and brings one, then hears us.
        """
        place = await self._closest_nodes(meeting_key(service))
        for contact in place[: self._config.announced_to]:
            try:
                body = FindServices(int(service))
                self._rpc.start(contact.endpoint, body, Indifferent())
            except NetworkError:
                return

    async def _look_often(self) -> None:
        config = self._config
        while True:
            wait_s = config.first_retry_s
            if self.is_wanted():
                found = await self.find(Service.RELAY, config.wanted)
                for contact in found[: config.wanted]:
                    await self._see(contact)
                wait_s = self._retry_s
                # Where there is no relay, nobody should be asked for one for ever; who
                # needs one now asks again at once.
                self._retry_s = config.retry_s
                if found:
                    wait_s = config.fresh_s / 2
            await trio.sleep(self._rng.uniform(0.8, 1.2) * wait_s)

    async def _see(self, contact: Contact) -> None:
        """Ask a server whether it is still there; forget it if not."""
        try:
            answer = await self._rpc.request(contact.endpoint, Ping())
        except NetworkError:
            self.forget(contact.endpoint)
            return
        if not answer.services:
            self.forget(contact.endpoint)

    # --- what others say --------------------------------------------------------------

    def _heard(self, contact: Contact, services: Service) -> None:
        """A node said of itself what it does, at an address that was proven."""
        now = trio.current_time()
        known = self._known.get(contact.endpoint)
        if known is not None:
            known.contact, known.services, known.heard_at = contact, services, now
            return
        if self._has_room(contact.endpoint, now):
            self._known[contact.endpoint] = _Known(contact, services, now)

    def _has_room(self, endpoint: Endpoint, now: float) -> bool:
        """Make room for one more, where one owner may have no more than its share."""
        config = self._config
        subnet = public_subnet(endpoint.host)
        if subnet is not None:
            near = [e for e in self._known if public_subnet(e.host) == subnet]
            if len(near) >= config.per_subnet:
                return False
        limit = config.remembered * len(_SERVICES)
        if len(self._known) < limit:
            return True
        silent = [
            e for e, k in self._known.items() if k.heard_at < now - config.fresh_s
        ]
        choice = silent or list(self._known)
        del self._known[choice[self._rng.randrange(len(choice))]]
        return True

    def _serve_find(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, FindServices)
        if not request.verified:
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        wanted = Service(body.wanted & int(Service.RELAY | Service.WEBSOCKET))
        is_at_socket = request.services and request.carried_from is None
        if is_at_socket and not request.leaf:
            self._heard(request.contact, request.services)
        if wanted == NO_SERVICE:
            return Servers(())
        urls = self.own_urls() if Service.WEBSOCKET in wanted else ()
        named = tuple(map(pack_contact, self.alternates(request, wanted)))
        return Servers(named, urls)

    def alternates(
        self,
        request: IncomingRequest,
        wanted: Service = Service.RELAY,
        count: int = MAX_SERVERS,
    ) -> tuple[Contact, ...]:
        """Servers to name to somebody, by chance if there are many."""
        asker = request.seen_at
        useful = [
            contact
            for contact in self.known(wanted)
            if contact.endpoint != asker and may_name(asker.host, contact.endpoint.host)
        ]
        self._rng.shuffle(useful)
        return tuple(useful[:count])


class _Search:
    """One search: whom it asked and pinged, so that it stays within its limits."""

    def __init__(
        self, services: Services, rpc: Rpc, config: ServicesConfig, wanted: Service
    ) -> None:
        self._services = services
        self._rpc = rpc
        self._config = config
        self._wanted = wanted
        self._asked: set[Endpoint] = set()
        self._pinged: set[Endpoint] = set()

    async def ask(self, contacts: Sequence[Contact], count: int) -> None:
        """Ask these, a few at once, until as many servers are known."""
        waiting = [contact.endpoint for contact in contacts]

        async def ask_next() -> None:
            while waiting and len(self._services.known(self._wanted)) < count:
                endpoint = waiting.pop(0)
                if endpoint in self._asked or len(self._asked) >= self._config.asked:
                    continue
                self._asked.add(endpoint)
                await self._ask(endpoint)

        async with trio.open_nursery() as nursery:
            for _ in range(self._config.at_once):
                nursery.start_soon(ask_next)

    async def _ask(self, endpoint: Endpoint) -> None:
        try:
            body = FindServices(int(self._wanted))
            answer = await self._rpc.request(endpoint, body)
        except NetworkError:
            return
        async with trio.open_nursery() as nursery:
            for named in _named_untrusted(answer):
                if self._may_ping(answer.contact.endpoint, named):
                    self._pinged.add(named)
                    nursery.start_soon(self._ping, named)

    def _may_ping(self, reporter: Endpoint, named: Endpoint) -> bool:
        return (
            named not in self._pinged
            and len(self._pinged) < self._config.pinged
            and may_name(reporter.host, named.host)
        )

    async def _ping(self, endpoint: Endpoint) -> None:
        """Whoever is there says of itself what it does, or nothing."""
        try:
            await self._rpc.request(endpoint, Ping())
        except NetworkError:
            return


def _named_untrusted(answer: Answer) -> list[Endpoint]:
    if not isinstance(answer.body, Servers):
        return []
    named = []
    for packed in answer.body.contacts:
        try:
            named.append(unpack_contact_untrusted(packed).endpoint)
        except RemoteProtocolError:
            continue
    return named


def _no_urls() -> tuple[str, ...]:
    return ()


def _never() -> bool:
    return False
