"""One introduction that succeeded: its ways, its transport, and their end.

Owns how the ways to one peer run side by side, from shared keys to a connection with a
path, and that nothing of it is left behind. Refuses to know other meetings and how the
introduction came about.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from opnode.core.addresses import IceHalf
from opnode.core.errors import OpnodeError, PeerUnreachable
from opnode.core.ids import short
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connections import Connection
from opnode.node.opening import Opening
from opnode.node.ways import Way, Words
from opnode.protocols.introductions.session import Established

logger = logging.getLogger(__name__)

CODE_NO_PATH: Final = 2

_MAX_WARM_PATHS: Final = 2
"""Other ways that are kept open: each costs two small packets a keep-alive."""


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

    def __init__(self, beginnings: Beginnings, connection: Connection) -> None:
        self.connection = connection
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self._beginnings = beginnings
        self._established = beginnings.established
        self._session = beginnings.opening.session
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
        return self._session.local

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

    async def run(self) -> None:
        """Go all ways until the connection ends or none of them leads anywhere."""
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    for go in (self._go_directly, *map(self._going, self._ways)):
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

    async def _go_directly(self) -> None:
        """Check pairs until one is nominated; the first packet leaves at once.

        Raises:
            IceFailed: no pair carried a check.
        """
        started_at = trio.current_time()
        established, rto_s = self._established, self._beginnings.check_rto_s
        endpoint = await self._session.connect(established.ice, rto_s)
        # The check that succeeded took one round trip, or more where it was repeated.
        check_s = trio.current_time() - started_at
        nominated = Path(PathKind.DIRECT, endpoint)
        self.add_path(nominated, rtt_s=check_s)
        for other in self._session.alternatives[:_MAX_WARM_PATHS]:
            self.add_path(Path(PathKind.DIRECT, other))
        await self._session.lost.wait()
        if self.connection.path == nominated:
            reason = "the peer no longer consents to this path"
            self.connection.close(CODE_NO_PATH, reason)
        # Else the connection moved on: its own challenges prove that the peer is where
        # it sends, and ICE only knows where it was.

    async def _end(self) -> None:
        """Leave nothing behind; also when cancelled."""
        self.connection.close(CODE_NO_PATH, "no path")
        self.finish()
        await self._beginnings.opening.aclose()
        self._settled.set()
        self.ended.set()
