"""Dialling nodes that want to know whether they can be reached.

Owns who dials whom, from which port, and how often. What is sent is paid for by what
was received: DIAL_BACK is padded for the DIAL that it causes, DIAL for the DIALLED.
Refuses to know what the nodes that ask make of it.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint, is_public, network_of
from opnode.core.errors import (
    ConfigError,
    RefusalCode,
    RemoteProtocolError,
    RequestTimeout,
)
from opnode.core.ids import Contact
from opnode.drivers.network.network import DatagramSocket
from opnode.drivers.rpc.exchange import IncomingRequest, Indifferent
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.limits import Buckets
from opnode.protocols.rpc.messages import (
    DIAL_BACK_SIZE,
    DIAL_SIZE,
    Dial,
    DialBack,
    Dialled,
    FailureCode,
    Noted,
    Refuse,
    Reply,
    pack_endpoint,
    unpack_endpoint_untrusted,
)

SocketOpener = Callable[[Endpoint], Awaitable[DatagramSocket]]
"""Binds a socket at an address of this machine; port 0 for a fresh one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiallingConfig:
    """How much a node dials for others.

    Attributes:
        per_s: in all; 30 nodes a minute that come up are more than a server meets.
        burst: at once above the average.
        network_per_s: of that for askers of one public network (/16, /32): whoever has
            us dial must not keep everybody else from proving its port.
        network_burst: at once above it; a helper has many to choose from.
        apart_s: between two for one address; its rounds are a minute apart.
        remembered: addresses dialled lately, and networks that asked; 100 B each.
        queued: dials from a fresh port that wait for their socket.
        repeat_s: a dial from a fresh port is sent again once, as any request is.
    """

    per_s: float = 0.5
    burst: float = 10.0
    network_per_s: float = 0.1
    network_burst: float = 5.0
    apart_s: float = 30.0
    remembered: int = 1024
    queued: int = 16
    repeat_s: float = 0.5


class Dialler:
    """The serving half of the proof that a node can be reached."""

    def __init__(
        self,
        rpc: Rpc,
        contacts: Callable[[], Sequence[Contact]],
        open_socket: SocketOpener,
        rng: random.Random,
        config: DiallingConfig | None = None,
    ) -> None:
        self._rpc = rpc
        self._contacts = contacts
        self._open_socket = open_socket
        self._rng = rng
        self._config = config = config or DiallingConfig()
        self._dialled_at: dict[Endpoint, float] = {}
        self._full_at = 0.0
        self._networks: Buckets[bytes] = Buckets(
            config.network_burst / config.network_per_s, config.remembered
        )
        self._fresh_in, self._fresh = trio.open_memory_channel[tuple[Endpoint, bytes]](
            config.queued
        )
        rpc.serve(DialBack, self._serve_dial_back)
        rpc.serve(Dial, self._serve_dial)

    async def run(self) -> None:
        """Dial from fresh ports, until cancelled."""
        async for target, nonce in self._fresh:
            await self._dial_freshly(target, nonce)

    def _serve_dial_back(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, DialBack)
        self._check(request, DIAL_BACK_SIZE)
        target = request.source
        if is_public(target.host):
            dialler = self._unrelated_to(target)
            self._spend(request, target)
            self._start(dialler.endpoint, Dial(pack_endpoint(target), body.nonce))
            return Noted()
        # In a private network every host counts, and may know everybody already: a
        # port that nobody ever saw is as good as a stranger.
        self._spend(request, target)
        try:
            self._fresh_in.send_nowait((target, body.nonce))
        except trio.WouldBlock:
            raise Refuse(RefusalCode.BUSY, "too many to dial") from None
        return Noted()

    def _serve_dial(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Dial)
        self._check(request, DIAL_SIZE)
        try:
            target = unpack_endpoint_untrusted(body.address)
        except RemoteProtocolError as error:
            raise Refuse(RefusalCode.MALFORMED, "no address to dial") from error
        # Nobody sends us into a private network, or to what another family knows.
        is_same_family = (":" in target.host) == (":" in request.source.host)
        if not is_same_family or not is_public(target.host):
            raise Refuse(RefusalCode.DECLINED, f"{target.host} is not dialled")
        self._spend(request, target)
        self._start(target, Dialled(body.nonce))
        return Noted()

    def _check(self, request: IncomingRequest, size: int) -> None:
        if self._rpc.leaf:
            raise Refuse(FailureCode.NOT_SERVED, "a leaf dials nobody")
        if not request.verified:
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        if request.carried_from is not None:
            raise Refuse(RefusalCode.DECLINED, "you did not come by UDP")
        if request.size < size:
            detail = f"{request.size} bytes pay for no dial, {size} do"
            raise Refuse(RefusalCode.MALFORMED, detail)

    def _unrelated_to(self, target: Endpoint) -> Contact:
        """A contact of another network than the target's; any, so that many are."""
        network = network_of(target.host)
        is_ipv6 = ":" in target.host
        others = [
            contact
            for contact in self._contacts()
            if (":" in contact.endpoint.host) == is_ipv6
            and is_public(contact.endpoint.host)
            and network_of(contact.endpoint.host) != network
        ]
        if not others:
            raise Refuse(RefusalCode.BUSY, "nobody else to dial from")
        return others[self._rng.randrange(len(others))]

    def _spend(self, request: IncomingRequest, target: Endpoint) -> None:
        """Count one dial of this address for whoever asked.

        Raises:
            Refuse: it was dialled a moment ago, or too many were.
        """
        config, now = self._config, trio.current_time()
        # Behind one public host there are many ports, but one victim.
        key = Endpoint(target.host, 0) if is_public(target.host) else target
        last = self._dialled_at.pop(key, None)
        if last is not None and now < last + config.apart_s:
            self._dialled_at[key] = last
            raise Refuse(RefusalCode.BUSY, "dialled a moment ago")
        if self._full_at - now > config.burst / config.per_s:
            raise Refuse(RefusalCode.BUSY, "too many to dial")
        host = request.source.host
        if is_public(host) and not self._networks.take(
            network_of(host), 1 / config.network_per_s, now
        ):
            raise Refuse(RefusalCode.BUSY, "too many to dial for this network")
        self._full_at = max(self._full_at, now) + 1 / config.per_s
        self._dialled_at[key] = now
        if len(self._dialled_at) > config.remembered:
            del self._dialled_at[next(iter(self._dialled_at))]

    def _start(self, destination: Endpoint, body: Dial | Dialled) -> None:
        try:
            self._rpc.start(destination, body, Indifferent())
        except RequestTimeout:
            raise Refuse(RefusalCode.BUSY, "too many requests under way") from None

    async def _dial_freshly(self, target: Endpoint, nonce: bytes) -> None:
        """Send DIALLED from a port that nobody ever talked to, and hear no answer."""
        datagram = self._rpc.unanswered(Dialled(nonce), target)
        try:
            socket = await self._open_socket(Endpoint(self._rpc.local.host, 0))
        except ConfigError:
            return
        try:
            for _ in range(2):
                socket.send(datagram, target)
                await trio.sleep(self._config.repeat_s)
        finally:
            socket.close()
