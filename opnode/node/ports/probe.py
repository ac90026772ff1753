"""Which ports the NAT gives to sockets that it has never seen: a question from each.

Owns the sockets, for as long as an answer takes. Refuses to know what the ports mean.

A node that we talk to keeps the port that it has. From a fresh socket even the one node
that we know tells the next port in the row.
"""

from collections.abc import Awaitable, Callable, Sequence

import trio

from opnode.core.addresses import Endpoint, is_wildcard
from opnode.core.errors import ConfigError
from opnode.drivers.network.network import DatagramSocket
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.messages import Ping

SocketOpener = Callable[[Endpoint], Awaitable[DatagramSocket]]
"""Binds a socket at an address of this machine; port 0 for a fresh one."""


class PortProbe:
    """Asks known nodes where they see a fresh socket of ours."""

    def __init__(self, rpc: Rpc, open_socket: SocketOpener) -> None:
        self._rpc = rpc
        self._open_socket = open_socket

    async def ask(
        self, nodes: Sequence[Endpoint], wait_s: float
    ) -> list[Endpoint | None]:
        """Where each saw us, in the order of asking.

        None for a node that did not answer in time, or could not be asked.
        """
        questions: list[_Question] = []
        try:
            for node in nodes:
                sock = await self._open_socket(self._anywhere(node))
                questions.append(_Question(self._rpc, sock, node))
            # All in this very moment: the order of the ports is that of the nodes.
            for question in questions:
                question.ask()
            with trio.move_on_after(wait_s):
                async with trio.open_nursery() as nursery:
                    for question in questions:
                        nursery.start_soon(question.wait_answer)
        except ConfigError:
            # No socket left: what was not asked is not known.
            await trio.lowlevel.checkpoint()
        finally:
            for question in questions:
                question.sock.close()
        seen = [question.seen for question in questions]
        return seen + [None] * (len(nodes) - len(seen))

    def _anywhere(self, node: Endpoint) -> Endpoint:
        """A fresh port, of the IP version of the node, as the node's own socket is."""
        bound = self._rpc.local.host
        if is_wildcard(bound):
            bound = "::" if ":" in node.host else "0.0.0.0"  # noqa: S104 - as ours is
        return Endpoint(bound, 0)


class _Question:
    """One PING from a socket of its own."""

    def __init__(self, rpc: Rpc, sock: DatagramSocket, node: Endpoint) -> None:
        self.seen: Endpoint | None = None
        self.sock = sock
        self._rpc = rpc
        self._node = node
        self._datagram = rpc.unanswered(Ping(), node)

    def ask(self) -> None:
        self.sock.send(self._datagram, self._node)

    async def wait_answer(self) -> None:
        while self.seen is None:
            await self.sock.wait_readable()
            received = self.sock.receive()
            if received is not None and received.source == self._node:
                data = bytes(received.buffer[: received.segment_size])
                self.seen = self._rpc.seen_by_untrusted(data, self._datagram)
