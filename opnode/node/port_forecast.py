"""Where a sequential NAT will show us to the next peer: a few questions just before.

Owns whom to ask and how often. Refuses to know the arithmetic and what peers are told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact
from opnode.drivers.rpc.exchange import Waiter
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.nat.mapping import Mapping, MappingKind
from opnode.protocols.nat.prediction import next_ports
from opnode.protocols.rpc.messages import Ping


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastConfig:
    """How much a forecast may cost.

    Attributes:
        predicted: ports that are told; each may be taken by something else meanwhile.
        probes: nodes that are asked: the row's end and its step, and one may be gone.
        fresh_s: whoever answered within it still has its old port.
        wait_s: an answer that takes longer is not worth waiting for.
        again_s: calls within it share the probes, and count on from what they found.
    """

    predicted: int = 5
    probes: int = 3
    fresh_s: float = 60.0
    wait_s: float = 0.4
    again_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastStatistics:
    """What it has cost so far: ``made`` forecasts with ``probes`` in all."""

    made: int
    probes: int


class PortForecast:
    """Foretells our own address, behind this kind of NAT only."""

    def __init__(
        self,
        rpc: Rpc,
        contacts: Callable[[], Sequence[Contact]],
        nat: Callable[[], Mapping],
        config: ForecastConfig | None = None,
    ) -> None:
        """``nat`` tells what is known of the NAT at this moment."""
        self._rpc = rpc
        self._contacts = contacts
        self._nat = nat
        self._config = config or ForecastConfig()
        self._again_at = -1.0
        self._made = self._probes = 0

    async def foresee(self) -> tuple[Endpoint, ...]:
        """Where the next address that we talk to will see us, the likeliest first.

        Nothing, at once and free, unless the NAT gives out its ports in a row.
        """
        nat = self._nat()
        if nat.kind is not MappingKind.SEQUENTIAL or nat.host is None:
            await trio.lowlevel.checkpoint()
            return ()
        seen = await self._probe(nat.host)
        count = self._config.predicted
        self._made += 1
        ports = next_ports(nat.port, nat.step, seen, count)
        return tuple(Endpoint(nat.host, port) for port in ports)

    def statistics(self) -> ForecastStatistics:
        """Read the counters."""
        return ForecastStatistics(made=self._made, probes=self._probes)

    async def _probe(self, host: str) -> list[int | None]:
        """The ports that a few fresh addresses see, in the order of asking."""
        now = trio.current_time()
        fresh = self._fresh(now) if now >= self._again_at else []
        self._again_at = now + self._config.again_s
        # One after the other in this very moment: the order of the ports is ours.
        waiters = [Waiter() for _ in fresh]
        exchanges = [
            self._rpc.start(endpoint, Ping(), waiter)
            for endpoint, waiter in zip(fresh, waiters, strict=True)
        ]
        self._probes += len(fresh)
        with trio.move_on_after(self._config.wait_s):
            for waiter in waiters:
                await waiter.done.wait()
        await trio.lowlevel.checkpoint()
        for exchange in exchanges:
            self._rpc.cancel(exchange)
        answers = [waiter.answer for waiter in waiters]
        return [
            answer.observed.port if answer and answer.observed.host == host else None
            for answer in answers
        ]

    def _fresh(self, now: float) -> list[Endpoint]:
        """Nodes that we have not talked to for long: each takes a new port."""
        heard = [
            (self._rpc.last_heard(contact.endpoint), contact.endpoint)
            for contact in self._contacts()
            if ":" not in contact.endpoint.host
        ]
        old_s = now - self._config.fresh_s
        fresh = [(at or 0.0, one) for at, one in heard if at is None or at < old_s]
        return [one for _, one in sorted(fresh)[: self._config.probes]]
