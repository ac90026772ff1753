"""A network that passes no UDP, until it is told to: a firewall of an office.

Owns whether datagrams pass, in both directions. Refuses to delay or lose single ones.
"""

from opnode.drivers.network.network import Buffer, DatagramSocket, Network
from opnode.testing.filtered_network import FilteredNetwork, FilteredSocket


class BlockedNetwork(FilteredNetwork):
    """A `Network` whose sockets send and receive nothing while it is blocked.

    Attributes:
        is_blocked: may be changed at any time.
        swallowed: datagrams that did not pass, runs counted as one.
    """

    def __init__(self, inner: Network) -> None:
        super().__init__(inner, self._blocked)
        self.is_blocked = True
        self.swallowed = 0

    def _blocked(self, socket: DatagramSocket) -> FilteredSocket:
        return FilteredSocket(socket, outgoing=self._pass, incoming=self._pass)

    def _pass(self, data: Buffer, _segment_size: int) -> Buffer | None:
        if self.is_blocked:
            self.swallowed += 1
            return None
        return data
