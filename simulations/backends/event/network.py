"""Requests between nodes: who answers, how long it takes, and what is lost.

Owns round trips, losses, partitions, and counts of what was sent. Refuses to know what
is asked and how long an asker waits.

    network = Network(loop, people, LogNormalRoundTrips(), generator)
    network.is_alive(node)
    network.ask(asker, asked, 2.0, answered, failed)
        # answered(asked, rtt_s) after a round trip, or
        # failed(asked, 2.0) two seconds from now
    rtt_s = network.round_trip_s(asker, asked)      # None: no answer will ever come
    network.sides[node] = 1                         # a partition; 0 for all others
"""

from typing import Final

import numpy as np

from simulations.backends.event.loop import EventLoop, Handler
from simulations.backends.event.population import Population
from simulations.model.round_trips import RoundTripLaw

_DRAWN: Final = 8192
"""Round trips drawn at once: 40 instead of 900 ns each."""


class Network:
    """Carries requests between the nodes of a population.

    Attributes:
        loop: of which its time is.
        people: whose nodes they are.
        sides: parts of the network that do not reach each other; 0 where not named.
        loss: the share of requests, or their answers, that are lost.
        asked: requests sent so far.
    """

    def __init__(
        self,
        loop: EventLoop,
        people: Population,
        law: RoundTripLaw,
        generator: np.random.Generator,
    ) -> None:
        self.loop = loop
        self.people = people
        self.sides: dict[int, int] = {}
        self.loss = 0.0
        self.asked = 0
        self._law = law
        self._generator = generator
        self._drawn: list[float] = []

    def is_alive(self, node: int) -> bool:
        """Whether a node is there now."""
        return self.people.is_alive(node, self.loop.now)

    def reaches(self, one: int, other: int) -> bool:
        """Whether no partition is between two nodes."""
        sides = self.sides
        return not sides or sides.get(one, 0) == sides.get(other, 0)

    def draw_s(self) -> float:
        """One round trip of the law, in seconds."""
        if not self._drawn:
            self._drawn = self._law.draw(self._generator, _DRAWN).tolist()
        return self._drawn.pop()

    def round_trip_s(self, asker: int, asked: int) -> float | None:
        """Send a request: seconds until its answer is here; None if none ever is.

        Whoever leaves while the request is on its way does not answer.
        """
        self.asked += 1
        rtt_s = self.draw_s()
        arrives_at = self.loop.now + rtt_s / 2
        if not self.people.is_alive(asked, arrives_at):
            return None
        if self.sides and not self.reaches(asker, asked):
            return None
        if self.loss and self._generator.random() < self.loss:
            return None
        return rtt_s

    def ask(
        self,
        asker: int,
        asked: int,
        patience_s: float,
        answered: Handler,
        failed: Handler,
    ) -> None:
        """Send a request, and have one of two called: it answered, or time is up.

        Args:
            asker: who asks; a node.
            asked: whom.
            patience_s: an answer that takes longer comes too late.
            answered: called with ``asked`` and the seconds that it took.
            failed: called with ``asked`` and ``patience_s``.
        """
        took_s = self.round_trip_s(asker, asked)
        if took_s is None or took_s > patience_s:
            self.loop.call_in(patience_s, failed, asked, patience_s)
        else:
            self.loop.call_in(took_s, answered, asked, took_s)
