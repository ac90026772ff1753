"""The node's role in the DHT: what it was told, or what others proved.

Owns the role in force and what a change of it starts. Refuses to know how a port is
proven.
"""

import logging
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.dht.dht import Dht
from opnode.drivers.dht.reachability import ReachabilityCheck
from opnode.drivers.rpc.rpc import Rpc
from opnode.node.config import Role
from opnode.protocols.reachability import ReachabilityStatistics

logger = logging.getLogger(__name__)

MAX_CHANGES: Final = 16
"""Changes that nobody reads are dropped: the role in force is in ``statistics``."""


class RoleKeeper:
    """Keeps the Rpc's leaf flag true.

    An explicit role is in force for good. ``AUTO`` starts as a leaf, is a server while
    strangers are proven to reach it, and a leaf again when they no longer do.

    Attributes:
        changes: each new role in force.
    """

    def __init__(
        self, configured: Role, rpc: Rpc, dht: Dht, check: ReachabilityCheck
    ) -> None:
        self._configured = configured
        self._rpc = rpc
        self._dht = dht
        self._check = check
        self._changed = trio.Event()
        self._changes_in, self.changes = trio.open_memory_channel[Role](MAX_CHANGES)
        if configured is not Role.AUTO:
            rpc.leaf = configured is Role.LEAF
            return
        rpc.leaf = True
        check.on_change = self._on_proven

    @property
    def in_force(self) -> Role:
        """``SERVER`` or ``LEAF``."""
        return Role.LEAF if self._rpc.leaf else Role.SERVER

    @property
    def configured(self) -> Role:
        """What the node was told."""
        return self._configured

    def evidence(self) -> ReachabilityStatistics | None:
        """What is known of our port; None where the role does not depend on it."""
        return self._check.statistics()

    async def wait_evidence(self) -> None:
        """Wait until it was tried once whether strangers reach us; told ones do not."""
        if self._configured is Role.AUTO:
            await self._check.tried.wait()
        else:
            await trio.lowlevel.checkpoint()

    def moved(self, address: Endpoint) -> None:
        """Others see us at this address now."""
        self._check.moved(address)

    def retry(self) -> None:
        """Strangers may reach us now although they did not before."""
        self._check.retry()

    async def run(self) -> None:
        """Prove our port if the role depends on it, until cancelled."""
        if self._configured is not Role.AUTO:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check.run)
            while True:
                await self._changed.wait()
                self._changed = trio.Event()
                if self.in_force is Role.SERVER:
                    # Who is asked by a node without the leaf flag may keep it.
                    await self._dht.announce()

    def _on_proven(self, is_proven: bool) -> None:
        self._rpc.leaf = not is_proven
        logger.info("the role is now: %s", self.in_force.value)
        self._changed.set()
        try:
            self._changes_in.send_nowait(self.in_force)
        except trio.WouldBlock:
            logger.debug("nobody reads the changes of role")
