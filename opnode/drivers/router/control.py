"""Having a router forward a port by PCP or NAT-PMP: two tiny datagrams.

Owns the questions, their repetition and the matching of answers. Refuses to know when
a mapping is renewed and what it is for.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, MappingRefused, RemoteProtocolError
from opnode.drivers.network.network import DatagramSocket, Network, segments_of
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import Mapped, MappingMethod
from opnode.protocols.port_control import (
    NONCE_LENGTH,
    PMP_ADDRESS_REQUEST,
    SERVER_PORT,
    GatewayAnswer,
    GatewayError,
    GatewayRefusal,
    PcpMapped,
    PmpAddress,
    PmpMapped,
    parse_answer_untrusted,
    pcp_map_request,
    pmp_map_request,
)

_Answer = TypeVar("_Answer", bound=GatewayAnswer)

_FIRST_WAIT_S: Final = 0.25
_TRIES: Final = 4
"""RFC 6886 §3.1 doubles from 250 ms nine times, a minute and a half. A router is one
hop away, and most know neither protocol: four tries, 3.75 s, then UPnP."""

_ANYWHERE: Final = "0.0.0.0"  # noqa: S104 - "any external address", in a request


class RouterControl:
    """PCP where the router knows it, else NAT-PMP."""

    def __init__(
        self, network: Network, router: HomeRouter, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._network = network
        self._router = router
        self._server = Endpoint(router.host, SERVER_PORT)
        # The same for all requests: it proves that a mapping is ours (RFC 6887 §11.2).
        self._nonce = random_bytes(NONCE_LENGTH)

    async def map(
        self, internal_port: int, wanted_port: int, lifetime_s: int
    ) -> Mapped:
        """Ask for a mapping, or renew it.

        Raises:
            MappingRefused: the router does not answer, or says no.
        """
        async with self._socket() as socket:
            try:
                return await self._map_by_pcp(
                    socket, internal_port, wanted_port, lifetime_s
                )
            except _OldRouter:
                return await self._map_by_pmp(
                    socket, internal_port, wanted_port, lifetime_s
                )

    async def unmap(self, mapped: Mapped) -> None:
        """Give a mapping back; said once, as it also ends by itself."""
        async with self._socket() as socket:
            if mapped.method is MappingMethod.PCP:
                external = Endpoint(_ANYWHERE, 0)
                request = self._pcp_request(mapped.internal_port, external, 0)
            else:
                request = pmp_map_request(mapped.internal_port, 0, 0)
            socket.send(request, self._server)

    async def _map_by_pcp(
        self, socket: DatagramSocket, internal_port: int, wanted_port: int, life_s: int
    ) -> Mapped:
        def is_ours(answer: GatewayAnswer) -> PcpMapped | None:
            if not isinstance(answer, PcpMapped):
                return None
            is_it = (
                answer.nonce == self._nonce and answer.internal_port == internal_port
            )
            return answer if is_it and answer.lifetime_s else None

        request = self._pcp_request(
            internal_port, Endpoint(_ANYWHERE, wanted_port), life_s
        )
        answer = await self._ask(socket, request, is_ours)
        return Mapped(
            method=MappingMethod.PCP,
            router=self._router.host,
            internal_port=internal_port,
            external=answer.external,
            lifetime_s=min(answer.lifetime_s, life_s),
        )

    async def _map_by_pmp(
        self, socket: DatagramSocket, internal_port: int, wanted_port: int, life_s: int
    ) -> Mapped:
        def is_ours(answer: GatewayAnswer) -> PmpMapped | None:
            if not isinstance(answer, PmpMapped):
                return None
            is_it = answer.internal_port == internal_port
            return answer if is_it and answer.lifetime_s else None

        def is_address(answer: GatewayAnswer) -> PmpAddress | None:
            return answer if isinstance(answer, PmpAddress) else None

        address = await self._ask(socket, PMP_ADDRESS_REQUEST, is_address)
        request = pmp_map_request(internal_port, wanted_port, life_s)
        answer = await self._ask(socket, request, is_ours)
        return Mapped(
            method=MappingMethod.NAT_PMP,
            router=self._router.host,
            internal_port=internal_port,
            external=Endpoint(address.host, answer.external_port),
            lifetime_s=min(answer.lifetime_s, life_s),
        )

    def _pcp_request(
        self, internal_port: int, external: Endpoint, lifetime_s: int
    ) -> bytes:
        return pcp_map_request(
            self._router.ours, self._nonce, internal_port, external, lifetime_s
        )

    async def _ask(
        self,
        socket: DatagramSocket,
        request: bytes,
        is_ours: Callable[[GatewayAnswer], _Answer | None],
    ) -> _Answer:
        """Repeat a question until it is answered.

        Raises:
            MappingRefused: it is not, or the router says no.
        """
        wait_s = _FIRST_WAIT_S
        for _ in range(_TRIES):
            socket.send(request, self._server)
            with trio.move_on_after(wait_s):
                while True:
                    answer = await self._next_answer(socket)
                    if isinstance(answer, GatewayRefusal):
                        self._refuse(answer)
                    wanted = is_ours(answer)
                    if wanted is not None:
                        return wanted
            wait_s *= 2
        raise MappingRefused(f"{self._router.host} knows neither PCP nor NAT-PMP")

    def _refuse(self, refusal: GatewayRefusal) -> None:
        if refusal.error is GatewayError.UNSUPPORTED_VERSION and not refusal.is_pcp:
            raise _OldRouter("the router knows NAT-PMP alone")
        name = refusal.error.name.lower().replace("_", " ")
        protocol = "PCP" if refusal.is_pcp else "NAT-PMP"
        raise MappingRefused(f"{self._router.host} refuses by {protocol}: {name}")

    async def _next_answer(self, socket: DatagramSocket) -> GatewayAnswer:
        """What comes next from the router itself; all else is dropped."""
        while True:
            await socket.wait_readable()
            while (received := socket.receive()) is not None:
                if received.source != self._server:
                    continue
                for part in segments_of(received.buffer, received.segment_size or 1):
                    try:
                        return parse_answer_untrusted(bytes(part))
                    except RemoteProtocolError:
                        continue

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[DatagramSocket]:
        try:
            socket = await self._network.bind(Endpoint(self._router.ours, 0))
        except ConfigError as error:
            raise MappingRefused(f"no socket in its network: {error}") from None
        try:
            yield socket
        finally:
            socket.close()


class _OldRouter(MappingRefused):
    """The router knows NAT-PMP alone."""
