"""Lookups that a server runs for leaves which keep few NAT mappings.

Owns the ration of them, that many who ask for one key cost one lookup, and how much of
an answer fits. Refuses to know how lookups work. The asker verifies what it is told.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from opnode.core.addresses import site_of
from opnode.core.errors import NetworkError, RefusalCode
from opnode.core.ids import Contact
from opnode.core.records import SignedRecord
from opnode.drivers.dht.config import DelegationConfig
from opnode.drivers.rpc.exchange import IncomingRequest
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.limits import Buckets
from opnode.protocols.rpc.messages import (
    MAX_CONTACTS,
    MAX_RECORDS,
    Delegate,
    FailureCode,
    Found,
    Refuse,
    Reply,
    pack_contact,
)

# What an encoded list, record and contact cost besides their bytes, at most.
_LIST_OVERHEAD: Final = 8
_RECORD_OVERHEAD: Final = 3
_CONTACT_OVERHEAD: Final = 2

Outcome = tuple[Sequence[SignedRecord], Sequence[Contact]]
"""What a lookup brought: records, and the closest nodes, nearest first."""

RunLookup = Callable[[bytes, bool], Awaitable[Outcome]]
"""Runs a lookup of a key, for records or for the closest nodes only."""

_Job = tuple[bytes, bool]


class DelegationService:
    """The serving half of delegated lookups.

    Attributes:
        lookups: how many were run for others.
    """

    def __init__(
        self, rpc: Rpc, run_lookup: RunLookup, config: DelegationConfig
    ) -> None:
        """Serve DELEGATE on ``rpc``."""
        self.lookups = 0
        self._rpc = rpc
        self._run_lookup = run_lookup
        self._config = config
        self._hosts: Buckets[bytes] = Buckets(config.burst_s, config.tracked)
        self._total: Buckets[None] = Buckets(config.burst_s, 1)
        # Who waits for the outcome of each lookup under way.
        self._running: dict[_Job, list[IncomingRequest]] = {}
        self._nursery: trio.Nursery | None = None
        rpc.serve(Delegate, self._serve_delegate)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Host the lookups until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def _serve_delegate(self, request: IncomingRequest) -> Reply | None:
        body = request.body
        assert isinstance(body, Delegate)
        if self._rpc.leaf:
            raise Refuse(FailureCode.NOT_SERVED, "a leaf looks up for nobody")
        if not request.verified:
            # We send to others on its word, so its word must be its own.
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        job = (body.key, body.for_records)
        waiting = self._running.get(job)
        self._ration(request, waiting)
        if waiting is not None:
            waiting.append(request)
            return None
        assert self._nursery is not None
        self._running[job] = [request]
        self._nursery.start_soon(self._work, job)
        return None

    def _ration(
        self, request: IncomingRequest, waiting: list[IncomingRequest] | None
    ) -> None:
        """Refuse what is too much; who joins a lookup under way costs nobody else."""
        config = self._config
        now = trio.current_time()
        host = site_of(request.host)
        if not self._hosts.take(host, 1.0 / config.asks_per_s, now):
            raise Refuse(RefusalCode.BUSY, "too many lookups for this address")
        if waiting is not None:
            if len(waiting) >= config.max_waiting:
                raise Refuse(RefusalCode.BUSY, "too many wait for this key")
            return
        is_full = len(self._running) >= config.max_running or self._nursery is None
        if not self._rpc.has_room_for_another():
            raise Refuse(RefusalCode.BUSY, "no room for more lookups of others")
        if is_full or not self._total.take(None, 1.0 / config.total_per_s, now):
            raise Refuse(RefusalCode.BUSY, "too many lookups for others")

    async def _work(self, job: _Job) -> None:
        """Run one lookup and tell everybody who asked for it."""
        key, for_records = job
        self.lookups += 1
        outcome: Outcome | None = None
        with trio.move_on_after(self._config.answer_s):
            try:
                outcome = await self._run_lookup(key, for_records)
            except NetworkError:
                # Nobody was there to ask: told like any other failure below.
                outcome = None
        for request in self._running.pop(job):
            if outcome is None:
                self._rpc.refuse(request, RefusalCode.BUSY, "the lookup took too long")
            else:
                self._rpc.reply(request, _found(outcome, request))


def _found(outcome: Outcome, request: IncomingRequest) -> Found:
    """As much of the outcome as fits into the reply; records first."""
    records, contacts = outcome
    room = request.room - 2 * _LIST_OVERHEAD
    wires: list[bytes] = []
    for record in records[:MAX_RECORDS]:
        room -= len(record.wire) + _RECORD_OVERHEAD
        if room < 0:
            room += len(record.wire) + _RECORD_OVERHEAD
            break
        wires.append(record.wire)
    packed: list[bytes] = []
    for contact in contacts[:MAX_CONTACTS]:
        data = pack_contact(contact)
        room -= len(data) + _CONTACT_OVERHEAD
        if room < 0:
            break
        packed.append(data)
    return Found(tuple(wires), tuple(packed))
