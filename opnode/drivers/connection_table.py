"""The table of live connections, and the one task that runs all their timers."""

import heapq
import logging
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import trio

from opnode.core.errors import LocalProtocolError, PeerUnreachable
from opnode.core.ids import short
from opnode.core.peerfile import LocationCertificate
from opnode.drivers.connections import Connection, ConnectionsConfig
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.observer import ConnectionTrace

logger = logging.getLogger(__name__)

# Most timers have moved later when their time comes. Those of the next moment are
# looked at together: one wake-up where a thousand idle connections needed ten.
_AHEAD_S: Final = 0.005
# Whoever has nothing to do for so long may hold less memory until then.
_REST_S: Final = 1.0


class ConnectionTraces(Protocol):
    """Who begins to write down what connections do."""

    def begin(
        self, connection_id: bytes, *, is_initiator: bool, now: float
    ) -> ConnectionTrace | None:
        """Begin; None when nothing of this connection shall be written."""
        ...


class ConnectionTable:
    """Every live connection of the node, and the one task that runs their timers."""

    def __init__(
        self,
        hub: SocketHub,
        config: ConnectionsConfig | None = None,
        *,
        traces: ConnectionTraces | None = None,
    ) -> None:
        self.hub = hub
        self._traces = traces
        self.config = config or ConnectionsConfig()
        self._connections: dict[bytes, Connection] = {}
        # The ids, by the first of them, that the hub sends to each connection.
        self._routes: dict[bytes, tuple[bytes, ...]] = {}
        self._heap: list[tuple[float, int, Connection]] = []
        self._pushes = 0
        self._resume: deque[Connection] = deque()
        self._wake = trio.Event()
        self._is_visiting = False

    def open(self, rudp: RudpConnection, peer: LocationCertificate) -> Connection:
        """Enter a keyed transport into the table.

        Raises:
            PeerUnreachable: the table is full.
        """
        if len(self._connections) >= self.config.max_connections:
            limit = self.config.max_connections
            raise PeerUnreachable(f"this node holds {limit} connections, its limit")
        own_id = rudp.local_ids[0]
        if own_id in self._connections:
            raise LocalProtocolError("two connections with the same keys")
        rudp.max_segments = self.hub.max_segments
        connection = Connection(self, rudp, peer)
        if self._traces is not None:
            self._begin_trace(connection, rudp, self._traces)
        self._connections[own_id] = connection
        self._routes[own_id] = ()
        self.route(connection)
        return connection

    def _begin_trace(
        self, connection: Connection, rudp: RudpConnection, traces: ConnectionTraces
    ) -> None:
        trace = connection.trace = traces.begin(
            connection.connection_id,
            is_initiator=rudp.is_initiator,
            now=trio.current_time(),
        )
        if trace is not None:
            rudp.observe(trace)

    def route(self, connection: Connection) -> None:
        """Bring the hub's routes in line with the ids that the connection has now."""
        name, wire_ids = connection.connection_id, connection.wire_ids
        before = self._routes.get(name)
        if before is None:
            return
        for wire_id in before:
            if wire_id not in wire_ids:
                self.hub.remove_connection(wire_id)
        for wire_id in wire_ids:
            if wire_id not in before:
                self.hub.add_connection(wire_id, connection)
        self._routes[name] = wire_ids

    def connections(self) -> list[Connection]:
        """The connections that have not ended."""
        return [c for c in self._connections.values() if c.close_reason is None]

    def arm(self, connection: Connection) -> None:
        """Make sure that the timer task visits the connection in time.

        A deadline that moved later is left in the heap: the visit finds nothing to do
        and arms again, which costs less than a heap update per packet.
        """
        self._arm_at(connection, connection.next_deadline())

    def _arm_at(self, connection: Connection, deadline: float | None) -> None:
        if deadline is None:
            if connection.is_over:
                self._remove(connection)
            return
        if deadline >= connection.armed_at:
            return
        connection.armed_at = deadline
        self._push(connection)
        if self._heap[0][2] is connection and not self._is_visiting:
            self._wake.set()

    def _push(self, connection: Connection) -> None:
        self._pushes += 1
        entry = (connection.armed_at, self._pushes, connection)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 4 * len(self._connections) + 64:
            # Timers that moved earlier left their old entry behind: sweep them out.
            self._heap = [e for e in self._heap if e[0] == e[2].armed_at]
            heapq.heapify(self._heap)

    def resume(self, connection: Connection) -> None:
        """Let the reader run, then go on sending for this connection."""
        if connection not in self._resume:
            self._resume.append(connection)
            self._wake.set()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve the timers of all connections until cancelled."""
        task_status.started()
        while True:
            if not self._resume:
                deadline = self._heap[0][0] if self._heap else math.inf
                with trio.move_on_at(deadline):
                    await self._wake.wait()
            await trio.lowlevel.checkpoint()
            self._wake = trio.Event()
            # Whatever a visit arms is seen before the next sleep: no need to be woken.
            self._is_visiting = True
            self._visit(trio.current_time())
            self._is_visiting = False

    @property
    def timers(self) -> int:
        """Timer entries held, stale ones included."""
        return len(self._heap)

    def close_all(self, reason: str) -> None:
        """Say good-bye on every connection."""
        for connection in list(self._connections.values()):
            connection.close(0, reason)

    def _visit(self, now: float) -> None:
        for _ in range(len(self._resume)):
            connection = self._resume.popleft()
            self._guard(connection, connection.resume)
        if not self._heap or self._heap[0][0] > now:
            # Woken to sleep less long. To look ahead here would take every timer out
            # as soon as it is set, and wake this task for every message and answer.
            return
        for connection in self._take_due(now + _AHEAD_S):
            deadline = connection.next_deadline()
            if deadline is not None and deadline <= now:
                self._guard(connection, partial(connection.handle_deadline, now))
            else:
                if deadline is not None and deadline > now + _REST_S:
                    connection.rest()
                self._arm_at(connection, deadline)

    def _guard(self, connection: Connection, step: Callable[[], None]) -> None:
        """Run a step of one connection; a bug in it must not stop the others."""
        try:
            step()
        except Exception:
            logger.exception("connection %s dropped", short(connection.connection_id))
            connection.on_lost("an internal error")
            self._remove(connection)

    def _take_due(self, until: float) -> list[Connection]:
        due: list[Connection] = []
        while self._heap and self._heap[0][0] <= until:
            armed_at, _, connection = heapq.heappop(self._heap)
            if armed_at == connection.armed_at:
                connection.armed_at = math.inf
                due.append(connection)
        return due

    def _remove(self, connection: Connection) -> None:
        if self._connections.pop(connection.connection_id, None) is not None:
            for wire_id in self._routes.pop(connection.connection_id):
                self.hub.remove_connection(wire_id)
            if connection.trace is not None:
                connection.trace.end()
