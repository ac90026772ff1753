"""Finding out whether strangers reach our port, by asking to be dialled.

Owns the periodic rounds over RPC. What they prove is decided in
``opnode.protocols.reachability``. Refuses to know what a node does with its role.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RequestTimeout
from opnode.core.ids import Contact
from opnode.drivers.rpc.exchange import IncomingRequest, Indifferent
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.reachability import (
    Reachability,
    ReachabilityConfig,
    ReachabilityStatistics,
    Standing,
)
from opnode.protocols.rpc.messages import (
    DialBack,
    Dialled,
    FailureCode,
    Noted,
    Refuse,
    Reply,
)

NONCE_LENGTH: Final = 16
STRANGER_S: Final = 600.0
"""A NAT that lets somebody in because we talked to it forgets within this time: twice
the five minutes that RFC 4787 §4.3 recommends."""


class ReachabilityCheck:
    """Proves our port again and again.

    Attributes:
        on_change: called with whether strangers reach us, when that changes.
        tried: set when the first round is over.
    """

    def __init__(
        self,
        rpc: Rpc,
        contacts: Callable[[], Sequence[Contact]],
        rng: random.Random,
        config: ReachabilityConfig | None = None,
    ) -> None:
        """Serve DIALLED on ``rpc``; ``contacts`` names the servers that we know."""
        self.on_change: Callable[[bool], None] | None = None
        self.tried = trio.Event()
        self._rpc = rpc
        self._contacts = contacts
        self._rng = rng
        self._config = config
        self._machine: Reachability | None = None
        self._address: Endpoint | None = None
        self._timer: trio.CancelScope | None = None
        rpc.serve(Dialled, self._serve_dialled)

    @property
    def is_proven(self) -> bool:
        """Whether strangers reach us, as far as was proven."""
        machine = self._machine
        return machine is not None and machine.standing is Standing.PROVEN

    def statistics(self) -> ReachabilityStatistics | None:
        """The evidence; None for a node that does not look for any."""
        return None if self._machine is None else self._machine.statistics()

    def moved(self, address: Endpoint) -> None:
        """Others see us at this address now. Called with every answer: cheap."""
        if address == self._address:
            return
        self._address = address
        if self._machine is not None:
            self._machine.moved(address, trio.current_time())
            self._wake()

    def retry(self) -> None:
        """A router forwards our port now: it may be reachable although it was not."""
        if self._machine is not None:
            self._machine.retry(trio.current_time())
            self._wake()

    async def run(self) -> None:
        """Ask to be dialled whenever that is due, until cancelled."""
        now = trio.current_time()
        machine = Reachability(self._draw_nonce, now, self._config)
        self._machine = machine
        if self._address is not None:
            machine.moved(self._address, now)
        while True:
            with trio.CancelScope(deadline=machine.next_deadline()) as self._timer:
                await trio.sleep_forever()
            now = trio.current_time()
            was_proven = self.is_proven
            machine.handle_deadline(now)
            evidence = machine.statistics()
            if evidence.is_proven or evidence.failures:
                self.tried.set()
            if self.is_proven is not was_proven:
                self._report()
            if not machine.is_asking and now >= machine.next_deadline():
                self._ask(machine, now)

    def _ask(self, machine: Reachability, now: float) -> None:
        contacts = [contact.endpoint for contact in self._contacts()]
        self._rng.shuffle(contacts)
        for helper, nonce in machine.begin(contacts, now):
            try:
                self._rpc.start(helper, DialBack(nonce), Indifferent())
            except RequestTimeout:
                # Too many requests under way: this round has one helper less.
                continue

    def _serve_dialled(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Dialled)
        machine, now = self._machine, trio.current_time()
        was_proven = self.is_proven
        heard_at = self._rpc.last_heard(request.source)
        is_stranger = heard_at is None or now - heard_at > STRANGER_S
        if machine is None or not machine.dialled_untrusted(
            body.nonce, request.source, now, is_stranger=is_stranger
        ):
            raise Refuse(FailureCode.NOT_SERVED, "did not ask to be dialled")
        if self.is_proven is not was_proven:
            self._report()
        self._wake()
        return Noted()

    def _report(self) -> None:
        if self.on_change is not None:
            self.on_change(self.is_proven)

    def _wake(self) -> None:
        """Have ``run`` look at the clock again."""
        if self._timer is not None:
            self._timer.deadline = -math.inf

    def _draw_nonce(self) -> bytes:
        return self._rpc.draw_secret()[:NONCE_LENGTH]
