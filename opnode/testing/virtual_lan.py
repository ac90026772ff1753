"""A link in memory: what one asks all others hear, answers go to one.

Owns who is at the link and what it drops. Refuses to know the datagrams.
"""

from collections.abc import Callable, Sequence

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.lan.sockets import Address, LanSocket

_LATENCY_S = 0.002
_QUEUED = 256


class VirtualLan:
    """One link; sockets are opened at an address of it.

    Attributes:
        drops: told each question before it is passed on; True loses it.
        asked: questions that were sent, lost ones too.
        bytes_answered: of all answers.
    """

    def __init__(self) -> None:
        self.drops: Callable[[bytes], bool] = _nothing
        self.asked = 0
        self.bytes_answered = 0
        self._sockets: dict[Endpoint, VirtualLanSocket] = {}
        self._ports = 50_000

    def opener(self, *hosts: str) -> Callable[[], Sequence[LanSocket]]:
        """What opens the sockets of a node that has these addresses at the link."""

        def open_all() -> Sequence[LanSocket]:
            return [self._open(host) for host in hosts]

        return open_all

    def _open(self, host: str) -> LanSocket:
        self._ports += 1
        at = Endpoint(host, self._ports)
        made = self._sockets[at] = VirtualLanSocket(self, at)
        return made

    async def pass_on(self, datagram: bytes, source: Endpoint) -> None:
        """Give a question to everybody, the asker too, as systems do."""
        self.asked += 1
        if self.drops(datagram):
            await trio.lowlevel.checkpoint()
            return
        await trio.sleep(_LATENCY_S)
        for one in list(self._sockets.values()):
            one.take(datagram, source)

    async def deliver(self, datagram: bytes, source: Endpoint, target: Address) -> None:
        """Give an answer to whoever is there."""
        self.bytes_answered += len(datagram)
        await trio.sleep(_LATENCY_S)
        one = self._sockets.get(Endpoint(str(target[0]), int(target[1])))
        if one is not None:
            one.take(datagram, source)

    def leave(self, endpoint: Endpoint) -> None:
        """Nobody is there any more."""
        self._sockets.pop(endpoint, None)


class VirtualLanSocket:
    """See `LanSocket`."""

    def __init__(self, lan: VirtualLan, at: Endpoint) -> None:
        self._lan = lan
        self._at = at
        self._in, self._out = trio.open_memory_channel[tuple[bytes, Endpoint]](_QUEUED)

    async def receive(self) -> tuple[bytes, Endpoint, Address]:
        """See `LanSocket.receive`."""
        data, source = await self._out.receive()
        return data, source, (source.host, source.port)

    async def ask(self, datagram: bytes) -> None:
        """See `LanSocket.ask`."""
        await self._lan.pass_on(datagram, self._at)

    async def reply(self, datagram: bytes, address: Address) -> None:
        """See `LanSocket.reply`."""
        await self._lan.deliver(datagram, self._at, address)

    def close(self) -> None:
        """See `LanSocket.close`."""
        self._lan.leave(self._at)
        self._in.close()

    def take(self, datagram: bytes, source: Endpoint) -> None:
        """A datagram arrives; what finds no room is lost."""
        if self._in.statistics().current_buffer_used < _QUEUED:
            self._in.send_nowait((datagram, source))


def _nothing(_: bytes) -> bool:
    return False
