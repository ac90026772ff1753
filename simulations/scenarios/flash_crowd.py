"""What does it cost the holders of one identity when everybody asks for it at once?

A crowd of leaves, as users are, asks within seconds for the same peer file, a minute
later once more: if anybody kept a copy on the way, the second time would be cheaper.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Final

import msgspec
import trio

from opnode.drivers.dht.config import DhtConfig, FinishingConfig
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from simulations.backends.real import DhtScenario
from simulations.reads import (
    Judged,
    Publication,
    Reads,
    draft,
    publish,
    read_first,
    read_once,
    summary,
)
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_THROUGH: Final = 3
"""Nodes that a member of the crowd knows of when it comes."""
_PAUSE_S: Final = 60.0
"""Between two waves: what was read in the background is over."""
_TAIL_S: Final = 20.0
"""After the last one asked: as long as a lookup may take."""
_SUCCESS: Final = 0.999


class Wave(msgspec.Struct, frozen=True, kw_only=True):
    """One rush, of which ``Reads`` says what it brought.

    Attributes:
        requests: that all nodes answered.
        requests_per_read: of them, for each read.
        busiest_per_s: requests in the busiest second of the busiest node.
        busiest_share: what that node answered of all.
        holders_share: what the holders answered of all.
    """

    reads: Reads
    requests: int
    requests_per_read: float
    busiest_per_s: int
    busiest_share: float
    holders_share: float


class FlashCrowdFigures(Figures, frozen=True, kw_only=True):
    """What a lonely read costs, and each wave.

    Attributes:
        holders: nodes that hold the record before the first wave, and after the last.
    """

    holders_before: int
    holders_after: int
    lonely_s_median: float
    waves: tuple[Wave, ...]


class FlashCrowdScenario(DhtScenario[FlashCrowdFigures], frozen=True, kw_only=True):
    """Shipped nodes read the rest of the region in the background, unless hasty."""

    name: ClassVar[str] = "flash-crowd"
    question: ClassVar[str] = (
        "What does it cost the holders of one identity when everybody asks for it?"
    )
    expected: ClassVar[str] = (
        "All are answered, as fast as one alone. Each holder has a question of each"
        " asker, so its load is the crowd over the time that it takes."
    )
    maintained: ClassVar[bool] = True

    nodes: Annotated[int, parameter("Servers", low=2, high=20_000)] = 100
    crowd: Annotated[int, parameter("Leaves that ask", low=1, high=100_000)] = 200
    within_s: Annotated[
        float,
        parameter(
            "They all ask within", unit="s", low=0.001, high=3600, drawn="uniform"
        ),
    ] = 5.0
    waves: Annotated[int, parameter("How often they all ask", low=1, high=100)] = 2
    hasty: Annotated[bool, parameter("The crowd stops at the first answer")] = False

    async def measure(
        self,
        network: DhtNetwork,
        run: Run,
    ) -> FlashCrowdFigures:
        """Gather the crowd, publish, let it ask."""
        servers = list(network.nodes)
        crowd = await self._gather(network, servers)
        star = draft(network, "star")
        await publish(network, servers, [star])
        before = _holders(network, servers, star)
        lonely = summary(
            [
                await read_once(asker, star, read_first)
                for asker in network.rng.sample(crowd, min(20, len(crowd)))
            ]
        )
        waves = []
        for number in range(self.waves):
            run.progress(number, self.waves, "waves")
            await trio.sleep(_PAUSE_S)
            waves.append(await self._rush(network, servers, crowd, star))
        return FlashCrowdFigures(
            met=all(wave.reads.success >= _SUCCESS for wave in waves),
            holders_before=len(before),
            holders_after=len(_holders(network, servers, star)),
            lonely_s_median=lonely.s_median,
            waves=tuple(waves),
        )

    async def _gather(
        self, network: DhtNetwork, servers: Sequence[DhtNode]
    ) -> list[DhtNode]:
        """Let leaves join."""
        config = DhtConfig()
        if self.hasty:
            config = replace(config, finishing=FinishingConfig(waiting=0))
        crowd = []
        for _ in range(self.crowd):
            member = await network.add(leaf=True, dht_config=config)
            known = network.rng.sample(servers, min(_THROUGH, len(servers)))
            await member.dht.join([server.hub.local for server in known])
            crowd.append(member)
        return crowd

    async def _rush(
        self,
        network: DhtNetwork,
        servers: Sequence[DhtNode],
        crowd: Sequence[DhtNode],
        star: Publication,
    ) -> Wave:
        """Let everybody ask once, and count who answers."""
        came: list[Judged] = []
        holders = _holders(network, servers, star)
        load = _Load(servers)

        async def ask(asker: DhtNode, after_s: float) -> None:
            await trio.sleep(after_s)
            came.append(await read_once(asker, star, read_first))

        async with trio.open_nursery() as watching:
            watching.start_soon(load.watch)
            async with trio.open_nursery() as asking:
                for asker in crowd:
                    after_s = network.rng.uniform(0, self.within_s)
                    asking.start_soon(ask, asker, after_s)
            await trio.sleep(_TAIL_S)
            watching.cancel_scope.cancel()
        total = sum(load.served().values())
        busiest = max(load.served().values())
        by_holders = sum(load.served()[node] for node in holders)
        return Wave(
            reads=summary(came),
            requests=total,
            requests_per_read=total / len(crowd),
            busiest_per_s=load.most_in_a_second,
            busiest_share=busiest / max(1, total),
            holders_share=by_holders / max(1, total),
        )


class _Load:
    """How many requests each node answers, second by second."""

    def __init__(self, nodes: Sequence[DhtNode]) -> None:
        self.most_in_a_second = 0
        self._before = {node: node.rpc.statistics().served for node in nodes}

    async def watch(self) -> None:
        """Look every second, until cancelled."""
        last = dict(self._before)
        while True:
            await trio.sleep(1.0)
            for node, served in last.items():
                last[node] = node.rpc.statistics().served
                rate = last[node] - served
                self.most_in_a_second = max(self.most_in_a_second, rate)

    def served(self) -> dict[DhtNode, int]:
        """What each answered since the beginning."""
        return {
            node: node.rpc.statistics().served - before
            for node, before in self._before.items()
        }


def _holders(
    network: DhtNetwork, servers: Sequence[DhtNode], star: Publication
) -> list[DhtNode]:
    now = network.wall_clock()
    return [node for node in servers if node.store.records(star.key, now)]
