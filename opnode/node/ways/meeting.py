"""One introduction that succeeded: its ways, its transport, and their end.

Owns how the ways to one peer run side by side, from shared keys to a connection with a
path, and that nothing of it is left behind. Refuses to know other meetings and how the
introduction came about.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from opnode.core.addresses import Candidate, Endpoint, IceHalf
from opnode.core.errors import OpnodeError, PeerUnreachable
from opnode.core.ids import short
from opnode.drivers.connection_paths import Path
from opnode.drivers.connections import Connection
from opnode.drivers.ice.ice import IceSession
from opnode.node.ways.direct import (
    CODE_NO_PATH,
    Attempt,
    Cause,
    DirectLinks,
    DirectWay,
)
from opnode.node.ways.opening import Opening
from opnode.node.ways.signalling import Switchboard
from opnode.node.ways.ways import Way, Words
from opnode.protocols.introductions.messages import (
    MAX_CANDIDATES,
    MAX_RELAYS,
    Rendezvous,
)
from opnode.protocols.introductions.session import Established
from opnode.protocols.introductions.signals import Signal

logger = logging.getLogger(__name__)

PROOF_CHECKS: Final = 3
"""So many repetitions of a check without a path, and the callee is told that we are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginnings:
    """What an introduction leaves to its meeting.

    ``opening``: what we said.
    ``check_rto_s``: first repetition of an ICE check, in seconds.
    ``finish``: ends the introduction, so that its location may be called again.
    """

    established: Established
    opening: Opening
    check_rto_s: float
    finish: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetingLinks:
    """What all meetings of a node share.

    ``new_session``: begins an ICE session in the role of the caller or not, for a peer
    whose hosts are known.
    ``own_introducers``: where we are registered now.
    ``note``: keeps the outcome of rounds of checks, for people.
    ``on_silent``: told when a path fell silent.
    """

    switchboard: Switchboard
    new_session: Callable[[bool, Sequence[str]], Awaitable[IceSession]]
    own_introducers: Callable[[], tuple[Endpoint, ...]]
    note: Callable[[Callable[[], Attempt]], None]
    on_silent: Callable[[], None]


class Meeting:
    """A keyed transport in search of its path, later the path's keeper.

    All ways are gone at once: the first that leads to the peer carries data, better
    ones take over. That one fails ends nothing while another works.

    Attributes:
        connection: in the table from the start, so that the peer's first packet is
            heard even before our own checks are done.
        scope: cancel it to give the meeting up.
        ended: set when nothing is left of it.
    """

    def __init__(
        self, beginnings: Beginnings, connection: Connection, links: MeetingLinks
    ) -> None:
        self.connection = connection
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self._beginnings = beginnings
        self._established = beginnings.established
        self._links = links
        opening = beginnings.opening
        self._told = Words(candidates=opening.relayed, rendezvous=opening.rendezvous)
        self._line = links.switchboard.open(self._established, connection)
        self._line.on_signal = self._on_signal
        self._line.words = self._signal
        self._direct = DirectWay(
            opening.session,
            self._established.ice,
            beginnings.check_rto_s,
            DirectLinks(
                connection=connection,
                new_session=partial(links.new_session, self._established.initiator),
                add_path=self._add_direct,
                tell=self._say,
                note=links.note,
            ),
        )
        self._ways = beginnings.opening.ways
        self._settled = trio.Event()
        self._failures: list[PeerUnreachable] = []
        self._under_way = 0
        self._heard = Words(
            candidates=self._established.ice.candidates,
            rendezvous=self._established.rendezvous,
        )
        self._news = trio.Event()

    @property
    def _peer(self) -> str:
        return short(self._established.peer.peer_id)

    @property
    def remote_static(self) -> bytes:
        """The static key of the other location, 32 bytes."""
        return self._established.peer.static_public

    @property
    def offer_digest(self) -> bytes:
        """Names the introduction at both ends."""
        return self._established.offer_digest

    @property
    def own_ice(self) -> IceHalf:
        """What we said for ICE."""
        return self._beginnings.opening.session.local

    @property
    def peer_ice(self) -> IceHalf:
        """What the other end said for ICE."""
        return self._established.ice

    @property
    def is_initiator(self) -> bool:
        """Whether we made the offer."""
        return self._established.initiator

    @property
    def heard(self) -> Words:
        """The newest words of the other end."""
        return self._heard

    async def wait_heard(self) -> Words:
        """Wait for newer words of the other end."""
        await self._news.wait()
        return self._heard

    async def wait_path(self) -> None:
        """Wait until the connection has a path.

        Raises:
            PeerUnreachable: no way led anywhere; IceFailed if checks were why.
        """
        await self._settled.wait()
        if self.connection.path is None:
            raise self._failure()

    async def wait_confirmed(self) -> None:
        """Wait until there is a path and the peer has shown that it has the keys.

        Raises:
            PeerUnreachable: the meeting ended before.
        """

        async def stop_at_end() -> None:
            await self.ended.wait()
            nursery.cancel_scope.cancel()

        await self.wait_path()
        confirmed = self.connection.confirmed
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_at_end)
            await confirmed.wait()
            nursery.cancel_scope.cancel()
        if not confirmed.is_set():
            raise self._failure()

    def add_path(self, path: Path, *, rtt_s: float | None = None) -> bool:
        """Let packets take a path that is known to lead to the other end."""
        connection = self.connection
        if connection.close_reason is not None:
            return False
        if connection.path is None:
            connection.set_path(path, rtt_s=rtt_s)
            self._settled.set()
            return True
        return connection.add_path(path, rtt_s=rtt_s)

    def tell(self, words: Words) -> None:
        """Tell the other end what became known only now."""
        told = self._told
        # The newest first: only so many travel.
        candidates = (*words.candidates, *told.candidates)[:MAX_CANDIDATES]
        relays = (*words.rendezvous.relays, *told.rendezvous.relays)[:MAX_RELAYS]
        self._told = Words(candidates=candidates, rendezvous=Rendezvous(relays=relays))
        self._say()

    def candidates_changed(self, candidates: Sequence[Candidate]) -> None:
        """We are seen, or forwarded to us, at other addresses than before."""
        self._direct.add_local(candidates)

    def network_changed(self, cause: Cause) -> None:
        """Our addresses, or our NAT's, are others: nothing that was proven holds."""
        self._direct.begin(cause)

    async def run(self) -> None:
        """Go all ways until the connection ends or none of them leads anywhere."""
        self.connection.on_silent = self._on_silent
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._line.run)
                    nursery.start_soon(self._prove_ourselves)
                    for go in (self._direct.run, *map(self._going, self._ways)):
                        self._under_way += 1
                        nursery.start_soon(self._go, go)
                    await self.connection.closed.wait()
                    nursery.cancel_scope.cancel()
        finally:
            await self._end()

    def finish(self) -> None:
        """End the introduction: its location may be called again."""
        self._beginnings.finish()

    def _failure(self) -> PeerUnreachable:
        given_up = PeerUnreachable("the meeting was given up")
        return next(iter(self._failures), given_up)

    def _going(self, way: Way) -> Callable[[], Awaitable[None]]:
        return partial(way.run, self)

    async def _go(self, go: Callable[[], Awaitable[None]]) -> None:
        """Go one way to its end, which is nothing to the others."""
        try:
            await go()
        except PeerUnreachable as failure:
            self._failures.append(failure)
        except OpnodeError as failure:
            logger.info("a way to %s ended: %s", self._peer, failure)
        except Exception:
            logger.exception("a way to %s failed", self._peer)
        self._under_way -= 1
        if not self._under_way and self.connection.path is None:
            self.scope.cancel()

    async def _prove_ourselves(self) -> None:
        """Tell the callee that our offer was no replay, where it takes long to hear.

        Until then it hardly checks our addresses: anybody may have named them.
        """
        if self.is_initiator:
            await trio.sleep(PROOF_CHECKS * self._beginnings.check_rto_s)
            if self.connection.path is None:
                self._say()

    def _on_silent(self) -> None:
        self._direct.begin(Cause.SILENCE)
        self._links.on_silent()

    def _say(self) -> None:
        self._line.say()

    def _signal(self, wants_answer: bool) -> Signal:
        half = self._direct.half
        told = self._told
        return Signal(
            generation=self._direct.generation,
            ice=IceHalf(
                half.ufrag, half.password, (*half.candidates, *told.candidates)
            ),
            rendezvous=Rendezvous(
                introducers=self._links.own_introducers(),
                relays=told.rendezvous.relays,
            ),
            wants_answer=wants_answer,
        )

    def _on_signal(self, signal: Signal) -> None:
        self._heard = Words(
            candidates=signal.ice.candidates, rendezvous=signal.rendezvous
        )
        news, self._news = self._news, trio.Event()
        news.set()
        self._direct.trust()
        self._direct.learn(signal.generation, signal.ice)

    def _add_direct(self, path: Path, rtt_s: float | None, is_wanted: bool) -> None:
        """Take a path that checks found; a wanted one as soon as it answers (R-32)."""
        connection = self.connection
        if is_wanted and connection.path is not None:
            if connection.close_reason is None:
                connection.set_path(path, rtt_s=rtt_s)
        else:
            self.add_path(path, rtt_s=rtt_s)

    async def _end(self) -> None:
        """Leave nothing behind; also when cancelled."""
        self.connection.close(CODE_NO_PATH, "no path")
        self.finish()
        self._line.close()
        await self._beginnings.opening.aclose()
        self._settled.set()
        self.ended.set()
