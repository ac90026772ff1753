"""What a holder does for watchers: it takes WATCH and sends CHANGED.

Owns the timer of the notices and what their answers mean. Refuses to know how fast they
may go, which is the desk's.
"""

import math

import trio

from opnode.core.errors import NetworkError, RefusalCode, RequestRefused, RequestTimeout
from opnode.core.records import SignedRecord, slot_of
from opnode.drivers.rpc.exchange import Answer, IncomingRequest
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.messages import (
    Changed,
    FailureCode,
    Refuse,
    Reply,
    Watch,
    Watching,
)
from opnode.protocols.watching import (
    Notice,
    WatchConfig,
    WatchDesk,
    WatchRefused,
    WatchStatistics,
)


class WatchService:
    """The serving half of watching."""

    def __init__(self, rpc: Rpc, config: WatchConfig | None = None) -> None:
        """Serve WATCH on ``rpc``; whoever holds records calls ``changed``."""
        self._rpc = rpc
        self._desk = WatchDesk(config)
        self._timer: trio.CancelScope | None = None
        rpc.serve(Watch, self._serve_watch)

    def changed(self, record: SignedRecord) -> None:
        """A newer record is held than before: tell its watchers."""
        self._desk.changed(record.key, slot_of(record), record.wire)
        self._rearm()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Send notices at their pace until cancelled."""
        task_status.started()
        while True:
            due_at = self._desk.next_deadline()
            with trio.CancelScope() as self._timer:
                self._timer.deadline = math.inf if due_at is None else due_at
                await trio.sleep_forever()
            for notice in self._desk.notices(trio.current_time()):
                self._send(notice)

    def statistics(self) -> WatchStatistics:
        """Read the counters."""
        return self._desk.statistics()

    def settle(self, notice: Notice, error: NetworkError | None) -> None:
        """A notice is over."""
        if isinstance(error, RequestRefused) and error.code == FailureCode.NOT_SERVED:
            # Heard, and not wanted any more. Any other refusal is of this notice only.
            self._desk.ended(notice)
        else:
            self._desk.settled(notice, is_heard=error is None)
        self._rearm()

    def _send(self, notice: Notice) -> None:
        listener = _Told(self, notice)
        try:
            self._rpc.start(notice.endpoint, Changed(notice.wire), listener)
        except RequestTimeout as error:
            # Too many requests of ours are under way.
            self.settle(notice, error)

    def _rearm(self) -> None:
        due_at = self._desk.next_deadline()
        if self._timer is not None and due_at is not None:
            self._timer.deadline = min(self._timer.deadline, due_at)

    def _serve_watch(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Watch)
        if self._rpc.leaf:
            raise Refuse(FailureCode.NOT_SERVED, "a leaf holds no records")
        if not request.verified:
            # Notices go to this address, so it must be the asker's.
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        now = trio.current_time()
        try:
            granted_s = self._desk.watch(body.key, request.source, body.lifetime_s, now)
        except WatchRefused as refusal:
            raise Refuse(RefusalCode.BUSY, str(refusal)) from None
        self._rearm()
        return Watching(int(granted_s))


class _Told:
    """The listener of one notice."""

    __slots__ = ("notice", "service")

    def __init__(self, service: WatchService, notice: Notice) -> None:
        self.service = service
        self.notice = notice

    def answered(self, answer: Answer) -> None:
        del answer
        self.service.settle(self.notice, None)

    def slow(self) -> None:
        """The notice is sent once more by itself."""

    def failed(self, error: NetworkError) -> None:
        self.service.settle(self.notice, error)
