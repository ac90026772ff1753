"""Asking the neighbours on our links, and answering them.

Owns when a question is repeated and how long its answer is waited for, and that the
sockets follow the interfaces. Refuses to know what is in the datagrams, and what is
done with those who are found.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import PeerId
from opnode.drivers.clock import WallClock
from opnode.drivers.lan.sockets import LanSocket
from opnode.protocols.lan import LanDesk, LanStatistics, NodeHere, PeerHere, Reply

logger = logging.getLogger(__name__)

REPEAT_S: Final = (0.0, 0.1, 0.25)
"""When a question is sent: multicast on Wi-Fi is not repeated by the radio and gets
lost more often than anything else."""

ANSWER_S: Final = 0.75
"""After this nobody is here: a link's round trip is milliseconds, and a phone's radio
wakes up for multicast every 0.3 s at worst."""

PAUSE_S: Final = 5.0
"""Before sockets that failed are opened again."""


@dataclass(slots=True, eq=False)
class _Question:
    answered: trio.Event
    found: PeerHere | NodeHere | None = None


class Lan:
    """Our part in what goes on at our links."""

    def __init__(
        self,
        desk: LanDesk,
        open_sockets: Callable[[], Sequence[LanSocket]],
        own_endpoints: Callable[[str], Sequence[Endpoint]],
        wall_clock: WallClock,
    ) -> None:
        """Nothing is opened yet.

        Args:
            desk: knows the datagrams.
            open_sockets: at the interfaces of now.
            own_endpoints: where a neighbour at that address reaches us, best first.
            wall_clock: for certificates.
        """
        self.desk = desk
        self._open_sockets = open_sockets
        self._own_endpoints = own_endpoints
        self._wall_clock = wall_clock
        self._sockets: Sequence[LanSocket] = ()
        self._questions: dict[bytes, _Question] = {}
        self._stale = trio.Event()

    def interfaces_changed(self) -> None:
        """Open the sockets anew: we are at other links."""
        self._stale.set()

    def statistics(self) -> LanStatistics:
        """Read the counters."""
        return self.desk.statistics()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer neighbours until cancelled."""
        is_started = False
        while True:
            self._stale = trio.Event()
            self._sockets = self._open_sockets()
            if not is_started:
                is_started = True
                task_status.started()
            try:
                async with trio.open_nursery() as nursery:
                    for each in self._sockets:
                        nursery.start_soon(self._listen, each)
                    await self._stale.wait()
                    nursery.cancel_scope.cancel()
            finally:
                for each in self._sockets:
                    each.close()
                self._sockets = ()

    async def seek(self, peer_id: PeerId) -> PeerHere | None:
        """A location of this identity that is on one of our links; soon None."""
        nonce, datagram = self.desk.seek(peer_id)
        found = await self._ask(nonce, datagram)
        return found if isinstance(found, PeerHere) else None

    async def greet(self) -> NodeHere | None:
        """A server of our network on one of our links; soon None."""
        nonce, datagram = self.desk.hello()
        found = await self._ask(nonce, datagram)
        return found if isinstance(found, NodeHere) else None

    async def _ask(self, nonce: bytes, datagram: bytes) -> PeerHere | NodeHere | None:
        question = self._questions[nonce] = _Question(trio.Event())
        began_at = trio.current_time()
        try:
            for at_s in REPEAT_S:
                with trio.move_on_at(began_at + at_s):
                    await question.answered.wait()
                if question.found is not None or not self._sockets:
                    break
                for each in self._sockets:
                    await each.ask(datagram)
            if self._sockets:
                with trio.move_on_at(began_at + ANSWER_S):
                    await question.answered.wait()
        finally:
            del self._questions[nonce]
            self.desk.forget(nonce)
        return question.found

    async def _listen(self, at: LanSocket) -> None:
        while True:
            try:
                data, source, address = await at.receive()
            except OSError as error:
                # The interface may be gone; its end is told to us some other way.
                logger.debug("a link failed: %s", error)
                await trio.sleep(PAUSE_S)
                continue
            outcome = self.desk.receive_untrusted(
                data,
                source,
                self._own_endpoints(source.host),
                now=trio.current_time(),
                wall_now=self._wall_clock(),
            )
            if isinstance(outcome, Reply):
                await at.reply(outcome.datagram, address)
            elif outcome is not None and outcome.nonce in self._questions:
                question = self._questions[outcome.nonce]
                question.found = outcome
                question.answered.set()
