"""A small TURN server (RFC 8656) on any `Network`: the fake behind the TURN client.

Owns allocations, permissions, channels and nonces, each with its exact end: what a real
server may forgive for a while, this one does not. Refuses IPv6, TCP and reservations.
"""

import random
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio
from aioice import stun
from aioice.turn import make_integrity_key

from opnode.core.addresses import Endpoint
from opnode.drivers.network.network import DatagramSocket, Network, segments_of

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAME: Final = struct.Struct("!HH")
_REALM: Final = "testing"
_LIFETIME_S: Final = 600.0
_PERMISSION_S: Final = 300.0
_CHANNEL_S: Final = 600.0
_UNAUTHORIZED: Final = (401, "Unauthorized")
_STALE_NONCE: Final = (438, "Stale Nonce")
_MISMATCH: Final = (437, "Allocation Mismatch")
_FORBIDDEN: Final = (403, "Forbidden")
_BAD_REQUEST: Final = (400, "Bad Request")


@dataclass(slots=True)
class _Lease:
    """One client's relayed address, and what it may be used for until when."""

    client: Endpoint
    socket: DatagramSocket
    until: float
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    permissions: dict[str, float] = field(default_factory=dict)
    channels: dict[int, tuple[Endpoint, float]] = field(default_factory=dict)

    def channel_to(self, peer: Endpoint, now: float) -> int | None:
        """The channel bound to a peer, while it is."""
        for number, (bound, until) in self.channels.items():
            if bound == peer and now < until:
                return number
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnServerCounts:
    """What was asked of the server, and what it relayed."""

    allocations: int
    requests: int
    stale_nonces: int
    to_peers: int
    to_clients: int
    refused: int


class FakeTurnServer:
    """Serves one user until it is cancelled.

    Attributes:
        forbidden: hosts that no permission is given for.
        is_silent: whether it takes nothing in and says nothing, like a dead one.
    """

    def __init__(
        self,
        network: Network,
        endpoint: Endpoint,
        *,
        username: str,
        password: str,
        rng: random.Random,
        nonce_s: float = 3600.0,
    ) -> None:
        """``nonce_s``: how long a nonce is good for."""
        self.forbidden: set[str] = set()
        self.is_silent = False
        self._network = network
        self._endpoint = endpoint
        self._username = username
        self._key = make_integrity_key(username, _REALM, password)
        self._rng = rng
        self._nonce_s = nonce_s
        self._nonces: dict[bytes, float] = {}
        self._leases: dict[Endpoint, _Lease] = {}
        self._socket: DatagramSocket
        self._nursery: trio.Nursery
        self._allocations = self._requests = self._stale = 0
        self._to_peers = self._to_clients = self._refused = 0
        self._verbs: dict[stun.Method, Callable[[stun.Message, _Lease], None]] = {
            stun.Method.REFRESH: self._refresh,
            stun.Method.CREATE_PERMISSION: self._permit,
            stun.Method.CHANNEL_BIND: self._bind,
        }

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled."""
        self._socket = await self._network.bind(self._endpoint)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    await self._socket.wait_readable()
                    while (received := self._socket.receive()) is not None:
                        for part in segments_of(received.buffer, received.segment_size):
                            if not self.is_silent:
                                await self._take_untrusted(bytes(part), received.source)
            finally:
                self._socket.close()
                for lease in self._leases.values():
                    lease.socket.close()

    def restart(self) -> None:
        """Forget every allocation, as a server does that was started anew."""
        for client in list(self._leases):
            self._end(client)

    def counts(self) -> TurnServerCounts:
        """Read the counters."""
        return TurnServerCounts(
            allocations=self._allocations,
            requests=self._requests,
            stale_nonces=self._stale,
            to_peers=self._to_peers,
            to_clients=self._to_clients,
            refused=self._refused,
        )

    def _lease_of(self, client: Endpoint) -> _Lease | None:
        lease = self._leases.get(client)
        if lease is not None and trio.current_time() >= lease.until:
            self._end(client)
            return None
        return lease

    def _end(self, client: Endpoint) -> None:
        lease = self._leases.pop(client)
        lease.scope.cancel()
        lease.socket.close()

    async def _take_untrusted(self, data: bytes, client: Endpoint) -> None:
        lease = self._lease_of(client)
        if data[0] & 0xC0 == 0x40:  # noqa: PLR2004 - RFC 8656 §12
            number, length = _FRAME.unpack_from(data)
            peer, until = (
                lease.channels.get(number, (None, 0.0)) if lease else (None, 0.0)
            )
            if lease is not None and peer is not None and trio.current_time() < until:
                self._relay(lease, peer, data[_FRAME.size : _FRAME.size + length])
            return
        message = stun.parse_message(data)
        if message.message_class is stun.Class.INDICATION:
            if lease is not None and message.message_method is stun.Method.SEND:
                peer = Endpoint(*message.attributes["XOR-PEER-ADDRESS"])
                self._relay(lease, peer, message.attributes["DATA"])
            return
        self._requests += 1
        if self._is_authentic_untrusted(message, client):
            await self._serve(message, client, lease)

    def _is_authentic_untrusted(self, message: stun.Message, client: Endpoint) -> bool:
        """Check the long-term credentials (RFC 8489 §9.2.4); refuse what fails."""
        nonce = message.attributes.get("NONCE", b"")
        if (
            message.attributes.get("USERNAME") != self._username
            or nonce not in self._nonces
            or not message.check_message_integrity(self._key)
        ):
            self._fail(message, client, _UNAUTHORIZED, self._challenge())
            return False
        if trio.current_time() - self._nonces[nonce] >= self._nonce_s:
            self._stale += 1
            self._fail(message, client, _STALE_NONCE, self._challenge())
            return False
        return True

    def _challenge(self) -> dict[str, object]:
        nonce = self._rng.randbytes(8).hex().encode()
        self._nonces[nonce] = trio.current_time()
        return {"REALM": _REALM, "NONCE": nonce}

    async def _serve(
        self, request: stun.Message, client: Endpoint, lease: _Lease | None
    ) -> None:
        if request.message_method is stun.Method.ALLOCATE:
            if lease is not None:
                self._fail(request, client, _MISMATCH)
            else:
                await self._allocate(request, client)
            return
        verb = self._verbs.get(request.message_method)
        if lease is None:
            self._fail(request, client, _MISMATCH)
        elif verb is None:
            self._fail(request, client, _BAD_REQUEST)
        else:
            verb(request, lease)

    async def _allocate(self, request: stun.Message, client: Endpoint) -> None:
        socket = await self._network.bind(Endpoint(self._endpoint.host, 0))
        lease = _Lease(client, socket, trio.current_time() + _LIFETIME_S)
        self._leases[client] = lease
        self._allocations += 1
        self._nursery.start_soon(self._pump, lease)
        self._answer(
            request,
            client,
            {
                "XOR-RELAYED-ADDRESS": tuple(socket.local),
                "XOR-MAPPED-ADDRESS": tuple(client),
                "LIFETIME": int(_LIFETIME_S),
            },
        )

    def _refresh(self, request: stun.Message, lease: _Lease) -> None:
        lifetime = min(request.attributes.get("LIFETIME", _LIFETIME_S), _LIFETIME_S)
        self._answer(request, lease.client, {"LIFETIME": int(lifetime)})
        lease.until = trio.current_time() + lifetime
        if not lifetime:
            self._end(lease.client)

    def _permit(self, request: stun.Message, lease: _Lease) -> None:
        host, _ = request.attributes["XOR-PEER-ADDRESS"]
        if host in self.forbidden:
            self._fail(request, lease.client, _FORBIDDEN)
            return
        lease.permissions[host] = trio.current_time() + _PERMISSION_S
        self._answer(request, lease.client, {})

    def _bind(self, request: stun.Message, lease: _Lease) -> None:
        now = trio.current_time()
        number = request.attributes["CHANNEL-NUMBER"]
        peer = Endpoint(*request.attributes["XOR-PEER-ADDRESS"])
        bound, until = lease.channels.get(number, (peer, 0.0))
        other = lease.channel_to(peer, now)
        if (bound != peer and now < until) or other not in (None, number):
            self._fail(request, lease.client, _BAD_REQUEST)
            return
        lease.channels[number] = (peer, now + _CHANNEL_S)
        lease.permissions[peer.host] = now + _PERMISSION_S
        self._answer(request, lease.client, {})

    def _relay(self, lease: _Lease, peer: Endpoint, data: bytes) -> None:
        if trio.current_time() < lease.permissions.get(peer.host, 0.0):
            self._to_peers += 1
            lease.socket.send(data, peer)
        else:
            self._refused += 1

    async def _pump(self, lease: _Lease) -> None:
        """Carry what peers send to the relayed address."""
        with lease.scope:
            while True:
                await lease.socket.wait_readable()
                while (received := lease.socket.receive()) is not None:
                    for part in segments_of(received.buffer, received.segment_size):
                        self._carry(lease, bytes(part), received.source)

    def _carry(self, lease: _Lease, data: bytes, peer: Endpoint) -> None:
        now = trio.current_time()
        if now >= lease.permissions.get(peer.host, 0.0) or now >= lease.until:
            self._refused += 1
            return
        self._to_clients += 1
        number = lease.channel_to(peer, now)
        if number is not None:
            frame = _FRAME.pack(number, len(data)) + data
            self._socket.send(frame, lease.client)
            return
        indication = stun.Message(
            stun.Method.DATA,
            stun.Class.INDICATION,
            self._rng.randbytes(12),
            {"XOR-PEER-ADDRESS": tuple(peer), "DATA": data},
        )
        self._socket.send(bytes(indication), lease.client)

    def _answer(
        self, request: stun.Message, client: Endpoint, attributes: dict[str, object]
    ) -> None:
        message = stun.Message(
            request.message_method,
            stun.Class.RESPONSE,
            request.transaction_id,
            attributes,
        )
        message.add_message_integrity(self._key)
        self._socket.send(bytes(message), client)

    def _fail(
        self,
        request: stun.Message,
        client: Endpoint,
        error: tuple[int, str],
        attributes: dict[str, object] | None = None,
    ) -> None:
        """Refuse; a refusal of who is not known is not signed (RFC 8489 §9.2.4)."""
        message = stun.Message(
            request.message_method,
            stun.Class.ERROR,
            request.transaction_id,
            {"ERROR-CODE": error, **(attributes or {})},
        )
        if attributes is None:
            message.add_message_integrity(self._key)
        self._socket.send(bytes(message), client)
