"""A home router that speaks PCP and NAT-PMP on any `Network`: the fake behind both.

Owns mappings with their ends. Forwards nothing: `opnode.testing.nat` does that.
"""

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.network.network import DatagramSocket, Network, segments_of
from opnode.protocols.port_control import SERVER_PORT

_PCP_REQUEST: Final = struct.Struct("!BBHI16s12sB3xHH16s")
_PMP_REQUEST: Final = struct.Struct("!BBHHHI")
_PMP_ANSWER: Final = struct.Struct("!BBHIHHI")
_PCP_ANSWER: Final = struct.Struct("!BBBBII12x12sB3xHH16s")
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
_PCP_VERSION: Final = 2
_UNSUPPORTED_VERSION: Final = 1
_NOT_AUTHORIZED: Final = 2
_MAP: Final = 1
_UDP: Final = 17
_MAX_PORT: Final = 65_535


@dataclass(slots=True)
class ForwardedPort:
    """One external port: to whom it leads, and until when."""

    internal: Endpoint
    owner: bytes
    until: float


class FakeHomeRouter:
    """Serves until it is cancelled.

    Attributes:
        ports: what is forwarded, by external port.
        knows_pcp: else NAT-PMP alone.
        refuses: every request, as where the owner switched it off.
    """

    def __init__(self, network: Network, host: str, external: str) -> None:
        self.ports: dict[int, ForwardedPort] = {}
        self.knows_pcp = True
        self.refuses = False
        self._network = network
        self._host = host
        self._external = ipaddress.IPv4Address(external)
        self._started_at = 0.0

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer until cancelled."""
        self._started_at = trio.current_time()
        socket = await self._network.bind(Endpoint(self._host, SERVER_PORT))
        task_status.started()
        try:
            while True:
                await socket.wait_readable()
                while (received := socket.receive()) is not None:
                    for part in segments_of(received.buffer, received.segment_size):
                        self._take_untrusted(socket, bytes(part), received.source)
        finally:
            socket.close()

    def restart(self) -> None:
        """Forget everything."""
        self.ports.clear()
        self._started_at = trio.current_time()

    def _take_untrusted(
        self, socket: DatagramSocket, data: bytes, source: Endpoint
    ) -> None:
        if data[0] == _PCP_VERSION and len(data) == _PCP_REQUEST.size:
            socket.send(self._serve_pcp(data, source), source)
        elif data[0] == 0 and data[1] == _MAP and len(data) == _PMP_REQUEST.size:
            socket.send(self._serve_pmp(data, source), source)
        elif data == b"\x00\x00":
            answer = struct.pack("!BBHI", 0, 0x80, 0, self._epoch_s())
            socket.send(answer + self._external.packed, source)

    def _serve_pcp(self, data: bytes, source: Endpoint) -> bytes:
        fields = _PCP_REQUEST.unpack(data)
        _, operation, _, lifetime_s, client, nonce, protocol, port, wanted, _ = fields
        if not self.knows_pcp:
            return struct.pack(
                "!BBHI", 0, 0x80 | operation, _UNSUPPORTED_VERSION, self._epoch_s()
            )
        result = 0
        if self.refuses or client != _MAPPED_PREFIX + _packed(source.host):
            result = _NOT_AUTHORIZED
        external = 0
        if not result:
            internal = source._replace(port=port)
            external = self._forward(internal, nonce, wanted, lifetime_s)
        return _PCP_ANSWER.pack(
            _PCP_VERSION,
            0x80 | operation,
            0,
            result,
            lifetime_s,
            self._epoch_s(),
            nonce,
            protocol,
            port,
            external,
            _MAPPED_PREFIX + self._external.packed,
        )

    def _serve_pmp(self, data: bytes, source: Endpoint) -> bytes:
        _, _, _, port, wanted, lifetime_s = _PMP_REQUEST.unpack(data)
        if self.refuses:
            return struct.pack("!BBHI", 0, 0x81, _NOT_AUTHORIZED, self._epoch_s())
        owner = _packed(source.host)
        internal = source._replace(port=port)
        external = self._forward(internal, owner, wanted, lifetime_s)
        return _PMP_ANSWER.pack(0, 0x81, 0, self._epoch_s(), port, external, lifetime_s)

    def _forward(
        self, internal: Endpoint, owner: bytes, wanted: int, lifetime_s: int
    ) -> int:
        """Enter, renew or end a mapping; returns its external port."""
        now = trio.current_time()
        for port, one in list(self.ports.items()):
            if now >= one.until:
                del self.ports[port]
            elif (one.internal, one.owner) == (internal, owner):
                one.until = now + lifetime_s
                if not lifetime_s:
                    del self.ports[port]
                return port
        if not lifetime_s:
            return 0
        port = wanted or internal.port
        while port in self.ports:
            port = port + 1 if port < _MAX_PORT else 1024
        self.ports[port] = ForwardedPort(internal, owner, now + lifetime_s)
        return port

    def _epoch_s(self) -> int:
        return int(trio.current_time() - self._started_at)


def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host).packed
