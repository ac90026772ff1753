"""One allocation on a TURN server (RFC 8656): a relayed address and who may use it.

Owns the requests that make, refresh and end it, permissions, channels, and the way of
each datagram through it. Credentials, 401 and 438 are `aioice`'s, on the asyncio
island. Refuses to know which server is used, when to try again, and whose the peers
are.

The server forwards what comes from hosts with a permission. Each peer address gets a
name of its own from `SocketHub.add_carrier`, under which what is above hears and sends.
"""

import logging
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio
from aioice import stun
from aioice.turn import TurnClientUdpProtocol

from opnode.core.addresses import Endpoint
from opnode.core.errors import RelayUnavailable
from opnode.drivers.asyncio_island import Island
from opnode.drivers.network.network import Buffer, segments_of
from opnode.drivers.socket_hub import SocketHub

_log = logging.getLogger(__name__)

RandomBytes = Callable[[int], bytes]

_FRAME: Final = struct.Struct("!HH")
_KIND_MASK, _CHANNEL_DATA = 0xC0, 0x40
_FIRST_CHANNEL, _LAST_CHANNEL = 0x4000, 0x4FFF
# Packets of connections, and the checks of paths: STUN requests and answers.
_PASSED: Final = (b"\xe0", b"\x00", b"\x01")
_UDP_TRANSPORT: Final = 17 << 24
_TRANSACTION_ID_BYTES: Final = 12
_ALLOCATION_MISMATCH: Final = 437
# A run of datagrams with four bytes more each must still fit into one send of 64 kB.
_RUN_BYTES: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnConfig:
    """Limits and times of TURN.

    ``lifetime_s``: what is asked for an allocation; the server's own default.
    ``refresh_s``: an allocation is refreshed so often, which also tells whether the
    server still has it: a restarted server has forgotten it, and nobody says so.
    ``silence_s``: earlier, when nothing came of what was sent for so long.
    ``keepalive_s``: as for our other NAT bindings, below the 30 s of strict gateways.
    ``permission_s``: permissions last 300 s (RFC 8656 §9), channels 600 s and refresh
    the permission as well; what is in use is renewed with a minute to spare.
    ``refused_s``: what the server refused is asked for again after so long.
    ``request_s``: no answer for so long: the server is gone. Five transmissions.
    ``max_permissions`` and ``max_peers``: hosts and addresses that others can make us
    remember; several times what a few calls at once need. The longest unused one goes.
    ``idle_peer_s``: a peer address that nothing was sent to for so long is forgotten.
    ``min_retry_s`` and ``max_retry_s``: between attempts while no server serves us.
    """

    lifetime_s: int = 600
    refresh_s: float = 120.0
    silence_s: float = 3.0
    keepalive_s: float = 25.0
    permission_s: float = 240.0
    refused_s: float = 15.0
    request_s: float = 8.0
    max_permissions: int = 64
    max_peers: int = 64
    idle_peer_s: float = 240.0
    min_retry_s: float = 5.0
    max_retry_s: float = 300.0


class TurnLink(Protocol):
    """How bytes get to the server."""

    def send(self, data: Buffer, segment_size: int = 0) -> bool:
        """Send one message, or a run of equal ones; false when there is no room."""
        ...


@dataclass(frozen=True, slots=True)
class TurnCredentials:
    """What the server knows us by."""

    username: str
    password: str = field(repr=False)


@dataclass(slots=True)
class _Peer:
    """An address that we exchange datagrams with."""

    endpoint: Endpoint
    carried: Endpoint
    channel: int
    used_at: float
    # When the channel has to be bound again; minus infinity while it never was.
    bind_at: float = -math.inf
    is_bound: bool = False
    is_binding: bool = False


@dataclass(slots=True)
class _Permission:
    """A host whose datagrams the server lets through."""

    holders: int = 0
    renew_at: float = -math.inf
    is_asking: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationStatistics:
    """What an allocation has done."""

    relayed: Endpoint
    permissions: int
    peers: int
    datagrams_in: int
    datagrams_out: int
    dropped: int
    failures: int


class _Requests(TurnClientUdpProtocol):
    """aioice's client, for its requests alone: 401 and 438 are answered there."""

    def __init__(
        self,
        server: Endpoint,
        credentials: TurnCredentials,
        link: TurnLink,
        random_bytes: RandomBytes,
    ) -> None:
        super().__init__(
            (server.host, server.port),
            username=credentials.username,
            password=credentials.password,
            lifetime=0,
            channel_refresh_time=0,
        )
        self._link = link
        self._random_bytes = random_bytes

    async def request(
        self, request: stun.Message
    ) -> tuple[stun.Message, tuple[str, int]]:
        """As aioice does, with a transaction id from our randomness."""
        request.transaction_id = self._random_bytes(_TRANSACTION_ID_BYTES)
        return await super().request(request)

    def receive_untrusted(self, message: stun.Message) -> None:
        """Hand an answer to the request that waits for it."""
        transaction = self.transactions.get(message.transaction_id)
        if transaction is not None:
            transaction.response_received(message, self.server)

    def _send(self, data: bytes) -> None:
        # A full buffer counts as loss: requests are repeated anyway.
        self._link.send(data)


class Allocation:
    """A relayed address, from `open` to `close`; a carrier of the hub.

    Attributes:
        relayed: where peers send to.
        mapped: where the server sees us.
    """

    def __init__(  # noqa: PLR0913 - what stands between a server and the hub
        self,
        hub: SocketHub,
        island: Island,
        link: TurnLink,
        server: Endpoint,
        credentials: TurnCredentials,
        *,
        config: TurnConfig,
        random_bytes: RandomBytes,
    ) -> None:
        self.relayed: Endpoint
        self.mapped: Endpoint
        self._hub = hub
        self._island = island
        self._link = link
        self._config = config
        self._random_bytes = random_bytes
        self._requests = island.call(
            lambda: _Requests(server, credentials, link, random_bytes)
        )
        self._permissions: dict[str, _Permission] = {}
        self._peers: dict[Endpoint, _Peer] = {}
        self._by_carried: dict[Endpoint, _Peer] = {}
        # The server binds a number to an address for ten minutes, longer than we
        # remember the peer: neither may have another partner meanwhile.
        self._numbers: dict[Endpoint, int] = {}
        self._by_channel: dict[int, Endpoint] = {}
        # Since when nothing came of what was sent; infinity when something did.
        self._unheard_at = math.inf
        self._wake = trio.Event()
        self._lost: RelayUnavailable | None = None
        self._in = self._out = self._dropped = self._failures = 0

    # --- life -------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the allocation.

        Raises:
            RelayUnavailable: the server does not answer, or why it refuses.
        """
        try:
            response = await self._ask(stun.Method.ALLOCATE, self._allocation())
        except _Refused as refusal:
            if refusal.code != _ALLOCATION_MISMATCH:
                raise
            # Ours from before a restart: the same socket, and the server keeps it for
            # ten minutes (RFC 8656 §7.2).
            await self._ask(stun.Method.REFRESH, {"LIFETIME": 0})
            response = await self._ask(stun.Method.ALLOCATE, self._allocation())
        try:
            self.relayed = Endpoint(*response.attributes["XOR-RELAYED-ADDRESS"])
            self.mapped = Endpoint(*response.attributes["XOR-MAPPED-ADDRESS"])
        except KeyError as missing:
            raise RelayUnavailable(
                f"the TURN server's answer names no {missing}"
            ) from None

    async def run(self) -> None:
        """Keep the allocation, its permissions and channels until it is lost.

        Raises:
            RelayUnavailable: the server no longer has it.
        """
        config = self._config
        now = trio.current_time()
        refresh_at, alive_at = now + config.refresh_s, now + config.keepalive_s
        async with trio.open_nursery() as nursery:
            while self._lost is None:
                now = trio.current_time()
                if now >= min(refresh_at, self._unheard_at + config.silence_s):
                    nursery.start_soon(self._refresh)
                    refresh_at = now + config.refresh_s
                    self._unheard_at = math.inf
                if now >= alive_at:
                    self._link.send(bytes(self._indication()))
                    alive_at = now + config.keepalive_s
                self._forget_idle(now)
                self._renew(nursery, now)
                silent_at = self._unheard_at + config.silence_s
                until = min(refresh_at, silent_at, alive_at, self._next_renewal())
                with trio.CancelScope(deadline=until):
                    await self._wake.wait()
                self._wake = trio.Event()
            nursery.cancel_scope.cancel()
        raise self._lost

    def fail(self, reason: str) -> None:
        """Let `run` end: the way to the server is gone."""
        self._lost = RelayUnavailable(reason)
        self._wake.set()

    async def release(self) -> None:
        """Give the address back; the caller bounds the time."""
        await self._ask_gently(stun.Method.REFRESH, {"LIFETIME": 0})

    def close(self) -> None:
        """Forget all names; the server lets the address expire by itself."""
        for peer in list(self._peers.values()):
            self._forget(peer)

    # --- who may use it ---------------------------------------------------------------

    def permit(self, host: str) -> bool:
        """Let a host's datagrams through, until as many `revoke` calls.

        False when the allocation cannot carry its family, or has no more room.
        """
        if (":" in host) != (":" in self.relayed.host):
            return False
        permission = self._permissions.get(host)
        if permission is None:
            if len(self._permissions) >= self._config.max_permissions:
                return False
            permission = self._permissions[host] = _Permission()
        permission.holders += 1
        self._wake.set()
        return True

    def revoke(self, host: str) -> None:
        """No longer renew a host's permission; the server forgets it by itself."""
        permission = self._permissions.get(host)
        if permission is None:
            return
        permission.holders -= 1
        if permission.holders <= 0:
            del self._permissions[host]

    def name_of(self, endpoint: Endpoint) -> Endpoint:
        """Under which name to send to a peer's address through this allocation."""
        peer = self._peers.get(endpoint)
        return self._enter(endpoint).carried if peer is None else peer.carried

    # --- datagrams --------------------------------------------------------------------

    def send(self, data: Buffer, destination: Endpoint, segment_size: int) -> bool:
        """Send to a peer, by its channel once there is one (see `Carrier.send`)."""
        peer = self._by_carried.get(destination)
        if peer is None:
            return True
        peer.used_at = now = trio.current_time()
        if self._unheard_at is math.inf:
            self._unheard_at = now
            self._wake.set()
        size = segment_size or max(len(data), 1)
        if not peer.is_bound:
            if not peer.is_binding:
                self._wake.set()
            self._out += 1
            for segment in segments_of(data, size):
                self._link.send(bytes(self._send_indication(bytes(segment), peer)))
            return True
        is_taken = True
        step = max(_RUN_BYTES // size, 1) * size
        for run in segments_of(data, step):
            framed = b"".join(
                _FRAME.pack(peer.channel, len(segment)) + segment
                for segment in segments_of(run, size)
            )
            is_taken = self._link.send(framed, size + _FRAME.size)
            if not is_taken:
                break
            self._out += -(-len(run) // size)
        return is_taken

    def receive_untrusted(self, data: bytes) -> None:
        """Take one message of the server: channel data, an answer, an indication."""
        self._unheard_at = math.inf
        if len(data) < _FRAME.size:
            self._dropped += 1
        elif data[0] & _KIND_MASK == _CHANNEL_DATA:
            channel, length = _FRAME.unpack_from(data)
            endpoint = self._by_channel.get(channel)
            payload = data[_FRAME.size : _FRAME.size + length]
            if endpoint is None or len(payload) != length:
                self._dropped += 1
            else:
                self._deliver(payload, endpoint)
        else:
            self._receive_stun_untrusted(data)

    def statistics(self) -> AllocationStatistics:
        """Read the counters."""
        return AllocationStatistics(
            relayed=self.relayed,
            permissions=len(self._permissions),
            peers=len(self._peers),
            datagrams_in=self._in,
            datagrams_out=self._out,
            dropped=self._dropped,
            failures=self._failures,
        )

    # --- inside -----------------------------------------------------------------------

    def _receive_stun_untrusted(self, data: bytes) -> None:
        try:
            message = stun.parse_message(data)
        except (ValueError, LookupError, struct.error, OverflowError):
            self._dropped += 1
            return
        if message.message_class in (stun.Class.RESPONSE, stun.Class.ERROR):
            self._island.call(self._requests.receive_untrusted, message)
            return
        payload = message.attributes.get("DATA")
        source = message.attributes.get("XOR-PEER-ADDRESS")
        if (
            message.message_method is not stun.Method.DATA
            or payload is None
            or source is None
        ):
            self._dropped += 1
            return
        self._deliver(payload, Endpoint(*source))

    def _deliver(self, payload: bytes, source: Endpoint) -> None:
        is_let_through = source.host in self._permissions
        if not is_let_through or payload[:1] not in _PASSED:
            # Requests have other ways; here they could only mistake a name of ours
            # for an address.
            self._dropped += 1
            return
        self._in += 1
        peer = self._peers.get(source) or self._enter(source)
        self._hub.deliver_untrusted(payload, peer.carried)

    def _enter(self, endpoint: Endpoint) -> _Peer:
        if len(self._peers) >= self._config.max_peers:
            self._forget(min(self._peers.values(), key=lambda peer: peer.used_at))
        now = trio.current_time()
        name = self._hub.add_carrier(self, shown=endpoint)
        peer = _Peer(endpoint, name, self._number_of(endpoint), now)
        self._peers[endpoint] = self._by_carried[name] = peer
        return peer

    def _number_of(self, endpoint: Endpoint) -> int:
        """The channel of a peer: the one it had, a new one, or the oldest one's."""
        number = self._numbers.pop(endpoint, None)
        if number is None:
            number = _FIRST_CHANNEL + len(self._numbers)
            if number > _LAST_CHANNEL:
                number = self._numbers.pop(next(iter(self._numbers)))
        self._numbers[endpoint] = number
        self._by_channel[number] = endpoint
        return number

    def _forget(self, peer: _Peer) -> None:
        self._hub.remove_carrier(peer.carried)
        del self._peers[peer.endpoint]
        del self._by_carried[peer.carried]

    def _forget_idle(self, now: float) -> None:
        for peer in list(self._peers.values()):
            # As `_next_renewal` says it: rounded otherwise, the loop would not rest.
            if now >= peer.used_at + self._config.idle_peer_s:
                self._forget(peer)

    def _renew(self, nursery: trio.Nursery, now: float) -> None:
        for host, permission in self._permissions.items():
            if now >= permission.renew_at and not permission.is_asking:
                permission.is_asking = True
                nursery.start_soon(self._ask_permission, host, permission)
        for peer in self._peers.values():
            if now >= peer.bind_at and not peer.is_binding:
                peer.is_binding = True
                nursery.start_soon(self._bind, peer)

    def _next_renewal(self) -> float:
        times = [p.renew_at for p in self._permissions.values() if not p.is_asking]
        times += [
            min(peer.bind_at, peer.used_at + self._config.idle_peer_s)
            for peer in self._peers.values()
            if not peer.is_binding
        ]
        return min(times, default=math.inf)

    async def _ask_permission(self, host: str, permission: _Permission) -> None:
        # The port does not matter (RFC 8656 §9), but is part of the attribute.
        attributes: dict[str, object] = {"XOR-PEER-ADDRESS": (host, 1)}
        is_given = await self._ask_gently(stun.Method.CREATE_PERMISSION, attributes)
        permission.renew_at = trio.current_time() + self._renewal_s(is_done=is_given)
        permission.is_asking = False
        self._wake.set()

    async def _bind(self, peer: _Peer) -> None:
        attributes = {
            "CHANNEL-NUMBER": peer.channel,
            "XOR-PEER-ADDRESS": tuple(peer.endpoint),
        }
        is_bound = await self._ask_gently(stun.Method.CHANNEL_BIND, attributes)
        # Where it failed, indications go on.
        peer.is_bound = is_bound
        peer.bind_at = trio.current_time() + self._renewal_s(is_done=is_bound)
        peer.is_binding = False
        self._wake.set()

    async def _refresh(self) -> None:
        try:
            await self._ask(stun.Method.REFRESH, {"LIFETIME": self._config.lifetime_s})
        except RelayUnavailable as failure:
            self.fail(str(failure))

    async def _ask_gently(
        self, method: stun.Method, attributes: dict[str, object]
    ) -> bool:
        """Ask for what the allocation can live without; false when it is refused."""
        try:
            await self._ask(method, attributes)
        except RelayUnavailable as failure:
            self._failures += 1
            _log.info("%s", failure)
            return False
        return True

    async def _ask(
        self, method: stun.Method, attributes: dict[str, object]
    ) -> stun.Message:
        """Send a request until it is answered.

        Raises:
            RelayUnavailable: nothing came back, or why the server refuses.
        """
        request = stun.Message(method, stun.Class.REQUEST, attributes=attributes)
        name = method.name.lower().replace("_", " ")
        try:
            with trio.fail_after(self._config.request_s):
                response, _ = await self._island.run(
                    self._requests.request_with_retry(request)
                )
        except stun.TransactionFailed as failure:
            raise _Refused(name, failure.response) from None
        except (stun.TransactionTimeout, trio.TooSlowError):
            raise RelayUnavailable(
                f"the TURN server does not answer ({name})"
            ) from None
        return response

    def _renewal_s(self, *, is_done: bool) -> float:
        return self._config.permission_s if is_done else self._config.refused_s

    def _allocation(self) -> dict[str, object]:
        return {
            "LIFETIME": self._config.lifetime_s,
            "REQUESTED-TRANSPORT": _UDP_TRANSPORT,
        }

    def _indication(self) -> stun.Message:
        """Keeps the NAT's binding; nobody answers (RFC 8656 §8 allows it)."""
        return stun.Message(
            stun.Method.BINDING,
            stun.Class.INDICATION,
            self._random_bytes(_TRANSACTION_ID_BYTES),
        )

    def _send_indication(self, data: bytes, peer: _Peer) -> stun.Message:
        return stun.Message(
            stun.Method.SEND,
            stun.Class.INDICATION,
            self._random_bytes(_TRANSACTION_ID_BYTES),
            {"XOR-PEER-ADDRESS": tuple(peer.endpoint), "DATA": data},
        )


class _Refused(RelayUnavailable):
    """The server said no.

    Attributes:
        code: the number of its reason.
    """

    def __init__(self, name: str, response: stun.Message) -> None:
        code, reason = response.attributes.get("ERROR-CODE", (0, ""))
        text = "".join(c if c.isprintable() else "\ufffd" for c in str(reason)[:64])
        super().__init__(f"the TURN server refused ({name}): {code} {text}")
        self.code = int(code)
