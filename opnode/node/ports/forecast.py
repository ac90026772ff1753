"""Where a sequential NAT will show us to the next peer: a few questions just before.

Owns whom to ask and how often. Refuses to know the arithmetic and what peers are told.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact
from opnode.drivers.rpc.rpc import Rpc
from opnode.node.ports.probe import PortProbe
from opnode.protocols.nat.mapping import Mapping, MappingKind
from opnode.protocols.nat.port_row import PortRow
from opnode.protocols.nat.prediction import next_ports, usual_step


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastConfig:
    """How much a forecast may cost.

    Attributes:
        predicted: ports that are told; each may be taken by something else meanwhile.
        probes: nodes that are asked, each from a fresh socket: one may be gone.
        wait_s: an answer that takes longer is not worth waiting for.
        trust_s: from a port that was told within it we count on: who else is behind the
            NAT takes few meanwhile. Asking first makes a call later by a round trip.
        again_s: calls that are made at once share what was asked.
        settle_s: after a call it is asked anew so much later, once its checks, whose
            ports were foretold, have theirs: the next call, or try, counts from there.
    """

    predicted: int = 5
    probes: int = 2
    wait_s: float = 0.4
    trust_s: float = 60.0
    again_s: float = 0.2
    settle_s: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastStatistics:
    """What it has cost so far: ``made`` forecasts with ``probes`` in all."""

    made: int
    probes: int


class PortForecast:
    """Foretells our own address, behind this kind of NAT only.

    Attributes:
        is_inside: whether an address is on this side of the NAT.
    """

    def __init__(
        self,
        rpc: Rpc,
        contacts: Callable[[], Sequence[Contact]],
        nat: Callable[[], Mapping],
        probe: PortProbe,
        config: ForecastConfig | None = None,
    ) -> None:
        """``nat`` tells what is known of the NAT at this moment."""
        self.is_inside: Callable[[str], bool] = _nobody
        self._row = PortRow()
        self._step: int | None = None
        self._rpc = rpc
        self._contacts = contacts
        self._nat = nat
        self._probe_ports = probe
        self._config = config or ForecastConfig()
        self._called_at = -math.inf
        self._due_at = math.inf
        self._timer: trio.CancelScope | None = None
        self._probing: trio.Event | None = None
        self._made = self._probes = 0

    def sent(self, destination: Endpoint) -> None:
        """Something leaves by the node's socket. Told only behind such a NAT."""
        now = trio.current_time()
        # As nearly always: each burst of a connection passes here (below 2 µs).
        if not self._row.goes_on(destination, now) and not self.is_inside(
            destination.host
        ):
            self._row.sent(destination, now)

    def seen(self, reporter: Endpoint, observed: Endpoint) -> None:
        """A node tells at which port it sees us."""
        self._row.seen(reporter, observed.port, trio.current_time())

    def forget(self) -> None:
        """There is another NAT in front of us."""
        self._row = PortRow()
        self._step = None

    @property
    def is_needed(self) -> bool:
        """Whether our NAT gives a port to each address that we talk to, in a row."""
        return self._nat().kind is MappingKind.SEQUENTIAL

    async def foresee(self) -> tuple[Endpoint, ...]:
        """Where the next address that we talk to will see us, the likeliest first.

        Nothing, at once and free, unless the NAT gives out its ports in a row.
        """
        nat = self._nat()
        if nat.kind is not MappingKind.SEQUENTIAL or nat.host is None:
            await trio.lowlevel.checkpoint()
            return ()
        if self._probing is not None:
            with trio.move_on_after(self._config.wait_s):
                await self._probing.wait()
        elif self._is_doubtful():
            await self._probe(nat)
        await trio.lowlevel.checkpoint()
        self._made += 1
        self._called_at = trio.current_time()
        # What was due after an earlier call would take the ports that are foretold now.
        self._due_at = math.inf
        self._look_at(self._called_at + self._config.settle_s)
        step = self._step or nat.step
        end = self._row.end(nat.port, step)
        ports = next_ports(end, step, (), self._config.predicted)
        return tuple(Endpoint(nat.host, port) for port in ports)

    def prepare(self) -> None:
        """A call will be made: ask already while the peer is being looked up."""
        is_row = self._nat().kind is MappingKind.SEQUENTIAL
        if is_row and self._probing is None and self._is_doubtful():
            # From now on, as the call may be made before the question has left.
            self._probing = trio.Event()
            self._look_at(trio.current_time())

    def _is_doubtful(self) -> bool:
        """Whether the row's end has to be asked for.

        Also while the checks of another call may still take their ports: whether those
        to private addresses do is a matter of the router.
        """
        now, told_at, config = trio.current_time(), self._row.told_at, self._config
        is_used = told_at <= self._called_at < now - config.again_s
        return is_used or now > told_at + config.trust_s or not self._row.is_sure

    async def run(self) -> None:
        """Look at the row before and after calls that count on it, until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._due_at) as self._timer:
                await trio.sleep_forever()
            if trio.current_time() < self._due_at:
                continue
            self._due_at = math.inf
            nat = self._nat()
            if nat.kind is MappingKind.SEQUENTIAL:
                await self._probe(nat)
            else:
                self._end_probe()

    def _look_at(self, at: float) -> None:
        """Have ``run`` ask then, or earlier if that was due already."""
        self._due_at = min(self._due_at, at)
        if self._timer is not None:
            self._timer.deadline = self._due_at

    def statistics(self) -> ForecastStatistics:
        """Read the counters."""
        return ForecastStatistics(made=self._made, probes=self._probes)

    async def _probe(self, nat: Mapping) -> None:
        """Have the row begin anew where a few nodes see fresh sockets of ours."""
        nodes = self._lively()
        self._probes += len(nodes)
        if self._probing is None:
            self._probing = trio.Event()
        try:
            seen = await self._probe_ports.ask(nodes, self._config.wait_s)
        finally:
            self._end_probe()
        told = [one.port if one and one.host == nat.host else None for one in seen]
        if any(told):
            end = self._row.end(nat.port, nat.step)
            self._step = usual_step(told, self._step or nat.step)
            (following,) = next_ports(end, self._step, told, 1)
            self._row.restart(following - self._step, trio.current_time())

    def _end_probe(self) -> None:
        """Let go whoever waits for an answer, as soon as this task pauses."""
        if self._probing is not None:
            self._probing.set()
            self._probing = None

    def _lively(self) -> list[Endpoint]:
        """The nodes that answered last: they do it again, and soon."""
        heard = [
            (self._rpc.last_heard(contact.endpoint) or 0.0, contact.endpoint)
            for contact in self._contacts()
            if ":" not in contact.endpoint.host
        ]
        return [one for _, one in sorted(heard, reverse=True)[: self._config.probes]]


def _nobody(_: str) -> bool:
    return False
