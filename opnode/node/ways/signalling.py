"""Signals of this node's connections: to whom they go, how often, and whose came.

Owns the repeating until the other end has heard, and the way of a signal that came to
its connection. Refuses to know what is said.

The numbered rules (S-…) are those of ``docs/protocols/introductions.md``.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    LocalProtocolError,
    NetworkError,
    OpnodeError,
    RemoteProtocolError,
)
from opnode.core.ids import short
from opnode.core.peerfile import LocationCertificate
from opnode.drivers.connections import Connection
from opnode.drivers.introductions import Introductions
from opnode.protocols.introductions.session import Established
from opnode.protocols.introductions.signals import TAG_LENGTH, Signal, SignalBox
from opnode.protocols.rpc.messages import handle_of
from opnode.protocols.rudp.path import PathState

logger = logging.getLogger(__name__)

Finder = Callable[[LocationCertificate], Awaitable[Sequence[Endpoint]]]
"""Looks up the introducers that a location has now; empty when it is not found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignallingConfig:
    """Times and limits.

    ``first_repeat_s``: longer than the round trip through an introducer mostly takes;
    a host that moved is registered again by then.
    ``longest_repeat_s``: between later copies; they double up to here.
    ``repeats``: copies of one signal, over 90 s in all: a connection is over by then.
    ``look_up_after``: copies without an answer, before the presence is looked up.
    ``max_live_paths``: paths that a copy takes besides the introducers.
    """

    first_repeat_s: float = 0.4
    longest_repeat_s: float = 8.0
    repeats: int = 14
    look_up_after: int = 2
    max_live_paths: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SignallingStatistics:
    """Counters since the start."""

    said: int
    copies: int
    heard: int
    repeated: int
    unknown: int
    lines: int


class Switchboard:
    """All lines of a node: brings each signal to the one that it is for.

    Attributes:
        find_introducers: asked when nobody that a peer named passes a signal.
    """

    def __init__(
        self, introductions: Introductions, config: SignallingConfig | None = None
    ) -> None:
        self.find_introducers: Finder = _find_nobody
        self.introductions = introductions
        self.config = config or SignallingConfig()
        self._lines: dict[bytes, SignalLine] = {}
        self._said = self._copies = self._heard = self._repeated = self._unknown = 0
        introductions.on_signal = self.receive_untrusted

    def open(self, established: Established, connection: Connection) -> "SignalLine":
        """Begin a line; it takes signals from now on, until it is closed."""
        box = SignalBox(established.keys, initiator=established.initiator)
        line = SignalLine(self, box, connection, established.rendezvous.introducers)
        line.is_proven = established.initiator
        self.reroute((), box.tags(), line)
        return line

    def reroute(
        self, before: Sequence[bytes], after: dict[bytes, int], line: "SignalLine"
    ) -> None:
        """Bring other tags to a line than before."""
        for tag in before:
            if tag not in after:
                self._lines.pop(tag, None)
        for tag in after:
            self._lines[tag] = line

    def receive_untrusted(self, sealed: bytes) -> None:
        """Take a signal from an introducer, or from whoever."""
        line = self._lines.get(sealed[:TAG_LENGTH])
        try:
            if line is None or not line.receive_untrusted(sealed):
                self._repeated += line is not None
                self._unknown += line is None
                return
        except RemoteProtocolError:
            self._unknown += 1
            return
        self._heard += 1

    def count(self, *, said: int = 0, copies: int = 0) -> None:
        """Count what a line sends."""
        self._said += said
        self._copies += copies

    def statistics(self) -> SignallingStatistics:
        """Read the counters."""
        return SignallingStatistics(
            said=self._said,
            copies=self._copies,
            heard=self._heard,
            repeated=self._repeated,
            unknown=self._unknown,
            lines=len(set(map(id, self._lines.values()))),
        )


class SignalLine:
    """What the two ends of one connection say beside its packets.

    Attributes:
        on_signal: called with each signal that is news; may `say` something itself.
        words: makes what we have to say, with or without the wish for an answer.
        introducers: through whom the other end is reached.
        is_proven: whether the other end has shown that it has the keys. Until then
            nothing is sent: an offer may be a replay, and name whom it likes (S-5).
    """

    def __init__(
        self,
        switchboard: Switchboard,
        box: SignalBox,
        connection: Connection,
        introducers: Sequence[Endpoint],
    ) -> None:
        self.on_signal: Callable[[Signal], None] | None = None
        self.words: Callable[[bool], Signal] | None = None
        self.introducers = tuple(introducers)
        self.is_proven = False
        self._switchboard = switchboard
        self._box = box
        self._connection = connection
        self._handle = handle_of(connection.certificate.location_public)
        self._tags = tuple(box.tags())
        self._sealed = b""
        self._sent_at = -math.inf
        self._is_asked = False
        self._is_repeating = False
        self._news = trio.Event()
        self._under_way: set[tuple[Endpoint | None, bytes]] = set()
        self._nursery: trio.Nursery | None = None

    def say(self) -> None:
        """Tell the other end until it has heard; newer words replace older ones."""
        self._post(wants_answer=True)

    def receive_untrusted(self, sealed: bytes) -> bool:
        """Take a signal; False for a copy.

        Raises:
            RemoteProtocolError: it is not from the other end.
        """
        signal = self._box.open_untrusted(sealed)
        if signal is None:
            self._answer_copy()
            return False
        self._is_asked = signal.wants_answer
        self.is_proven = True
        before, self._tags = self._tags, tuple(tags := self._box.tags())
        self._switchboard.reroute(before, tags, self)
        if signal.rendezvous.introducers:
            self.introducers = signal.rendezvous.introducers
        said = self._sealed
        if self.on_signal is not None:
            self.on_signal(signal)
        if signal.wants_answer and self._sealed == said:
            self._post(wants_answer=not self._box.is_heard and self._is_repeating)
        if self._box.is_heard:
            self._is_repeating = False
        return True

    async def run(self) -> None:
        """Repeat what is said until it was heard; until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                await self._news.wait()
                self._news = trio.Event()
                self._send_copies()
                await self._repeat(nursery)

    def close(self) -> None:
        """Take no more signals."""
        self._switchboard.reroute(self._tags, {}, self)
        self._nursery = None

    def _answer_copy(self) -> None:
        """Our reply may be lost; but each signal comes by several ways at once."""
        pause_s = self._switchboard.config.first_repeat_s / 2
        if self._is_asked and trio.current_time() >= self._sent_at + pause_s:
            self._send_copies()

    def _post(self, *, wants_answer: bool) -> None:
        if self.words is None:
            return
        try:
            self._sealed = self._box.seal(self.words(wants_answer))
        except LocalProtocolError as error:
            # The other end hears nothing for long: the copies of the last one go on.
            logger.debug("no signal to %s: %s", self._peer, error)
            return
        self._is_repeating = wants_answer
        self._switchboard.count(said=1)
        self._news.set()

    async def _repeat(self, nursery: trio.Nursery) -> None:
        config = self._switchboard.config
        wait_s = config.first_repeat_s
        for copies in range(config.repeats):
            with trio.move_on_after(wait_s):
                await self._news.wait()
                return
            if not self._is_repeating:
                return
            if copies == config.look_up_after:
                nursery.start_soon(self._look_up)
            self._send_copies()
            wait_s = min(2 * wait_s, config.longest_repeat_s)

    def _send_copies(self) -> None:
        """One copy to each introducer and on each live path that has none under way."""
        nursery, sealed = self._nursery, self._sealed
        self.is_proven = self.is_proven or self._connection.confirmed.is_set()
        if nursery is None or not sealed or not self.is_proven:
            return
        self._sent_at = trio.current_time()
        introductions = self._switchboard.introductions
        wanted: list[Endpoint | None] = list(self._live_paths())
        if introductions.is_registered_here(self._handle):
            wanted.append(None)
        wanted += [to for to in self.introducers if introductions.may_be_asked(to)]
        for to in dict.fromkeys(wanted):
            if (to, sealed) not in self._under_way:
                self._under_way.add((to, sealed))
                self._switchboard.count(copies=1)
                nursery.start_soon(self._send, to, sealed)

    async def _send(self, to: Endpoint | None, sealed: bytes) -> None:
        introductions = self._switchboard.introductions
        if to is None:
            way = partial(introductions.signal_registered, self._handle, sealed)
        else:
            way = partial(
                introductions.signal,
                to,
                self._handle,
                sealed,
                is_hearsay=to in self.introducers,
            )
        try:
            await way()
        except NetworkError as failure:
            logger.debug("a signal to %s by %s: %s", self._peer, to, failure)
        finally:
            self._under_way.discard((to, sealed))

    def _live_paths(self) -> list[Endpoint]:
        limit = self._switchboard.config.max_live_paths
        paths = self._connection.paths()
        validated = [p.endpoint for p in paths if p.state is PathState.VALIDATED]
        return validated[:limit]

    async def _look_up(self) -> None:
        try:
            found = await self._switchboard.find_introducers(
                self._connection.certificate
            )
        except OpnodeError as failure:
            logger.debug("%s is not found: %s", self._peer, failure)
            return
        if found and self._is_repeating:
            self.introducers = tuple(found)
            self._send_copies()

    @property
    def _peer(self) -> str:
        return short(self._connection.peer_id)


async def _find_nobody(_: LocationCertificate) -> Sequence[Endpoint]:
    await trio.lowlevel.checkpoint()
    return ()
