"""Watching records of others: subscriptions at their holders, kept while they last.

Owns which holders are asked, the renewals, and what of their notices is believed: every
record is verified here. Refuses to know what records mean and how lookups work.
"""

import contextlib
import random
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Self

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    LocalProtocolError,
    NetworkError,
    RecordError,
    RefusalCode,
    RequestTimeout,
)
from opnode.core.ids import Contact, short
from opnode.core.peerfile import verify_record_untrusted
from opnode.core.records import (
    RecordKind,
    SignedRecord,
    check_supersedes,
    parse_record_untrusted,
    slot_of,
)
from opnode.drivers.background import open_background
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.config import WatchesConfig
from opnode.drivers.dht.lookups import Lookups
from opnode.drivers.rpc.exchange import Answer, IncomingRequest
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.messages import (
    Changed,
    FailureCode,
    Noted,
    Refuse,
    Reply,
    Watch,
    Watching,
)

FindNodes = Callable[[bytes], Awaitable[list[Contact]]]


class Watched:
    """The records under one key as they change: an async iterator.

    What is held when the watch begins comes first, then each newer record of a slot,
    once. Of a slot that changed twice before it was read, the newest comes.
    """

    def __init__(
        self, key: bytes, wall_clock: WallClock, config: WatchesConfig
    ) -> None:
        self.key = key
        self.holders: dict[Endpoint, Contact] = {}
        self.bad_records = 0
        # Whether a notice was not looked at: what it told is to be read.
        self.has_missed = False
        self._wall_clock = wall_clock
        self._config = config
        self._newest: dict[tuple[int, bytes], SignedRecord] = {}
        self._unread: OrderedDict[tuple[int, bytes], SignedRecord] = OrderedDict()
        self._credits: dict[Endpoint, tuple[float, float]] = {}
        self._news = trio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SignedRecord:
        """The next record that is newer than what was told of its slot."""
        await trio.lowlevel.checkpoint()
        while not self._unread:
            self._news = trio.Event()
            await self._news.wait()
        return self._unread.popitem(last=False)[1]

    def take(self, record: SignedRecord) -> None:
        """Tell of a verified record if it is newer than what was told before."""
        slot = slot_of(record)
        held = self._newest.get(slot)
        if held is None and not self._has_room(record.kind):
            return
        if held is not None:
            if held.wire == record.wire:
                return
            try:
                check_supersedes(record, held)
            except RecordError:
                return
        self._newest[slot] = self._unread[slot] = record
        self._news.set()

    def take_untrusted(self, wires: Iterable[bytes]) -> None:
        """Verify what a holder sent, and tell what is new of it."""
        for wire in wires:
            try:
                record = self._verify_untrusted(wire)
            except RecordError:
                self.bad_records += 1
                continue
            if record is not None:
                self.take(record)

    def may_notify(self, holder: Endpoint, now: float) -> bool:
        """Whether another notice of this holder is worth our time."""
        config = self._config
        credit, at = self._credits.get(holder, (config.notices_burst, now))
        credit = min(credit + (now - at) * config.notices_per_s, config.notices_burst)
        is_fine = credit >= 1
        self.has_missed = self.has_missed or not is_fine
        self._credits[holder] = (credit - is_fine, now)
        return is_fine

    def forget(self, holder: Endpoint) -> None:
        """A holder is not ours any more."""
        self.holders.pop(holder, None)
        self._credits.pop(holder, None)

    def _verify_untrusted(self, wire: bytes) -> SignedRecord | None:
        """The verified record, or None for one of another key or not newer."""
        claimed = parse_record_untrusted(wire).claimed
        held = self._newest.get(slot_of(claimed))
        # Most copies come from the second to the fourth holder: no signature is
        # checked for them.
        is_known = held is not None and (held.wire == wire or claimed.seq < held.seq)
        if claimed.key != self.key or is_known:
            return None
        return verify_record_untrusted(wire, self._wall_clock())

    def _has_room(self, kind: RecordKind) -> bool:
        """Whether one more slot of this kind is followed.

        Each kind has its own, as in a bag: anybody can make claims under any key, and
        they must not keep a new device of a peer from being noticed.
        """
        if self._count(kind) >= self._config.max_slots:
            now = self._wall_clock()
            live = {s: r for s, r in self._newest.items() if r.expires_at > now}
            self._newest = live
        return self._count(kind) < self._config.max_slots

    def _count(self, kind: RecordKind) -> int:
        return sum(held.kind is kind for held in self._newest.values())


class Watches:
    """What this node watches at other nodes.

    Attributes:
        is_behind_nat: asked before each renewal.
        binding_lifetime_s: how long a NAT is known to bear silence.
        find_nodes: finds the nodes nearest to a key, nearest first.
    """

    def __init__(
        self,
        rpc: Rpc,
        lookups: Lookups,
        wall_clock: WallClock,
        rng: random.Random,
        config: WatchesConfig | None = None,
    ) -> None:
        """Serve CHANGED on ``rpc``."""
        self.is_behind_nat: Callable[[], bool] = _open
        self.binding_lifetime_s: Callable[[], float] = self._least_lifetime_s
        self.find_nodes: FindNodes = lookups.closest_nodes
        self._rpc = rpc
        self._lookups = lookups
        self._wall_clock = wall_clock
        self._rng = rng
        self._config = config or WatchesConfig()
        self._watched: dict[bytes, list[Watched]] = {}
        self._counts: Counter[str] = Counter()
        rpc.serve(Changed, self._serve_changed)

    def __len__(self) -> int:
        return sum(len(watched) for watched in self._watched.values())

    @contextlib.asynccontextmanager
    async def open(
        self, key: bytes, held: Iterable[SignedRecord] = ()
    ) -> AsyncIterator[Watched]:
        """Watch a key for the length of the ``async with`` block.

        Args:
            key: the storage key.
            held: verified records of it that are at hand.

        Raises:
            LocalProtocolError: ``max_watches`` are open.
        """
        if len(self) >= self._config.max_watches:
            raise LocalProtocolError(f"{len(self)} watches are open, that is the limit")
        watched = Watched(key, self._wall_clock, self._config)
        for record in held:
            watched.take(record)
        self._watched.setdefault(key, []).append(watched)
        try:
            async with open_background() as nursery:
                nursery.start_soon(self._keep, watched)
                yield watched
        finally:
            self._leave(watched)

    def accepted(self, record: SignedRecord) -> None:
        """Our own store took a record: nobody else would tell us."""
        for watched in self._watched.get(record.key, ()):
            watched.take(record)

    def bad_records(self) -> int:
        """Records that did not verify."""
        return self._counts["bad_records"] + sum(
            watched.bad_records for group in self._watched.values() for watched in group
        )

    async def _keep(self, watched: Watched) -> None:
        """Find holders, renew, and find others for those that are gone."""
        config = self._config
        look_at = retry_s = 0.0
        while True:
            lost = await self._renew(watched)
            if watched.has_missed:
                # Others may have sent so many in a holder's name that its own was lost.
                watched.has_missed = False
                await self._catch_up(watched, list(watched.holders.values()))
            now = trio.current_time()
            wanted = self._wanted()
            if lost or now >= look_at:
                await self._look(watched, wanted)
                now = trio.current_time()
                if len(watched.holders) >= wanted:
                    retry_s, look_at = 0.0, now + config.look_every_s
                else:
                    retry_s = min(max(2 * retry_s, config.retry_s), config.retry_cap_s)
                    look_at = now + retry_s
            pause_s = self._renewal_s() if watched.holders else look_at - now
            await trio.sleep(min(pause_s, max(0.0, look_at - now)))

    def _wanted(self) -> int:
        config = self._config
        return config.holders_behind_nat if self.is_behind_nat() else config.holders

    def _renewal_s(self) -> float:
        config = self._config
        base_s = config.renew_s
        if self.is_behind_nat():
            base_s = min(base_s, self.binding_lifetime_s())
        # Never later: a mapping that is gone is gone.
        return base_s * self._rng.uniform(0.85, 1.0)

    def _least_lifetime_s(self) -> float:
        return self._config.nat_renew_s

    async def _renew(self, watched: Watched) -> bool:
        """Renew everywhere; whether a holder was lost."""
        before = set(watched.holders)
        await self._ask(watched, list(watched.holders.values()))
        return not before <= set(watched.holders)

    async def _look(self, watched: Watched, wanted: int) -> None:
        """Watch at the nearest nodes that take it, and at no others."""
        kept: list[Endpoint] = []
        nearest = await self.find_nodes(watched.key)
        while nearest and len(kept) < wanted:
            missing = wanted - len(kept)
            batch, nearest = nearest[:missing], nearest[missing:]
            fresh = [c for c in batch if c.endpoint not in watched.holders]
            taken = await self._ask(watched, fresh)
            await self._catch_up(watched, taken)
            kept += [c.endpoint for c in batch if c.endpoint in watched.holders]
        for endpoint in list(watched.holders):
            if endpoint not in kept and len(kept) >= wanted:
                self._end(watched, endpoint)

    async def _ask(self, watched: Watched, contacts: list[Contact]) -> list[Contact]:
        """Send WATCH to each; those that refuse or are silent are no holders."""
        if not contacts:
            await trio.lowlevel.checkpoint()
            return []
        # Entered before they answer: a notice may overtake the answer.
        watched.holders.update({c.endpoint: c for c in contacts})
        body = Watch(watched.key, self._config.lifetime_s)
        batch = await self._lookups.ask_all((contact, body) for contact in contacts)
        taken = [c for c, _, reply in batch.answers if isinstance(reply, Watching)]
        for contact in contacts:
            if contact not in taken:
                watched.forget(contact.endpoint)
        return taken

    async def _catch_up(self, watched: Watched, contacts: list[Contact]) -> None:
        """Read what new holders hold: they tell of later changes only."""
        take = watched.take_untrusted
        await self._lookups.read_bags(watched.key, contacts, take)

    def _serve_changed(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Changed)
        try:
            key = parse_record_untrusted(body.record).claimed.key
        except RecordError as error:
            self._counts["bad_records"] += 1
            raise Refuse(FailureCode.MALFORMED_RECORD, str(error)) from None
        group = self._watched.get(key, ())
        watching = [w for w in group if request.source in w.holders]
        if not watching:
            # The holder takes us off its list. Nobody else had a reason to send this.
            raise Refuse(FailureCode.NOT_SERVED, f"{short(key)} is not watched there")
        now = trio.current_time()
        for watched in watching:
            if not watched.may_notify(request.source, now):
                raise Refuse(RefusalCode.BUSY, "too many notices")
            watched.take_untrusted((body.record,))
        return Noted()

    def _leave(self, watched: Watched) -> None:
        group = self._watched[watched.key]
        group.remove(watched)
        self._counts["bad_records"] += watched.bad_records
        if not group:
            del self._watched[watched.key]
        for endpoint in list(watched.holders):
            self._end(watched, endpoint)

    def _end(self, watched: Watched, endpoint: Endpoint) -> None:
        """Tell a holder that we left, unless another watch of ours stays there."""
        watched.forget(endpoint)
        group = self._watched.get(watched.key, ())
        if not any(endpoint in other.holders for other in group):
            with contextlib.suppress(RequestTimeout):
                self._rpc.start(endpoint, Watch(watched.key, 0), _Nobody())


class _Nobody:
    """The listener of a good-bye."""

    __slots__ = ()

    def answered(self, answer: Answer) -> None:
        """Nobody waits."""

    def slow(self) -> None:
        """Nobody waits."""

    def failed(self, error: NetworkError) -> None:
        """The holder forgets us by itself."""


def _open() -> bool:
    return False
