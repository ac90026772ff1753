"""What a node does about relays: serving as one if told to, knowing and using others.

Owns the parts of it and their life. Refuses to know how each of them works.
"""

import functools
import random

import trio

from opnode.drivers.relay.path import RelayPaths
from opnode.drivers.relay.service import RelayService
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.services import Services
from opnode.drivers.socket_hub import SocketHub
from opnode.node.ways.relay import RelayUse, RelayWays
from opnode.protocols.relay import RelayConfig, RelayStatistics
from opnode.protocols.rpc.messages import MAX_ALTERNATES


class Relaying:
    """The relay parts of one node.

    Attributes:
        services: who offers what.
        ways: makes ways by relays for meetings; None for a node that talks to nobody.
    """

    def __init__(
        self,
        hub: SocketHub,
        rpc: Rpc,
        services: Services,
        rng: random.Random,
        *,
        has_identity: bool,
        config: RelayConfig | None,
    ) -> None:
        """Begin; with ``config`` None nothing is passed on for others."""
        self.services = services
        self._service: RelayService | None = None
        if config is not None:
            self._service = RelayService(rpc, hub, config)
            self._service.alternates = functools.partial(
                services.alternates, count=MAX_ALTERNATES
            )
        self._paths: RelayPaths | None = None
        self.ways: RelayWays | None = None
        if has_identity:
            self._paths = RelayPaths(rpc, hub, self._service)
            self.ways = RelayWays(self._paths, services, rpc, rng)
            # Whom strangers reach needs no relay; the other end may.
            services.is_wanted = lambda: rpc.leaf

    async def run(
        self,
        joined: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve, and stay in the sessions of others, until cancelled.

        Others are told and asked about relays once we ``joined``.
        """
        async with trio.open_nursery() as nursery:
            if self._service is not None:
                await nursery.start(self._service.run)
            if self._paths is not None:
                await nursery.start(self._paths.run)
            task_status.started()
            await joined.wait()
            await self.services.run()

    def stop(self) -> None:
        """Leave all sessions and end those of others, telling everybody."""
        if self._paths is not None:
            self._paths.leave_all()
        if self._service is not None:
            self._service.stop()

    def use(self) -> RelayUse | None:
        """What others pass on for us; None for a node that talks to nobody."""
        return None if self.ways is None else self.ways.statistics()

    def statistics(self) -> RelayStatistics | None:
        """What was passed on for others; None for a node that does not."""
        return None if self._service is None else self._service.statistics()
