"""One introduction that succeeded: its ICE session, its transport, and their end.

Owns the way from shared keys to a connection with a path, and that nothing of it is
left behind. Refuses to know other meetings and how the introduction came about.
"""

from collections.abc import Callable
from typing import Final

import trio

from opnode.drivers.connections import Connection, Path, PathKind
from opnode.drivers.ice import IceSession
from opnode.protocols.introductions.session import Established

CODE_NO_PATH: Final = 2

_MAX_WARM_PATHS: Final = 2
"""Other ways that are kept open: each costs two small packets a keep-alive."""

CLOSE_S: Final = 2.0
"""Seconds that closing an ICE session may take: its tasks are cancelled and awaited."""


class Meeting:
    """A keyed transport in search of its path, later the path's keeper.

    Attributes:
        connection: in the table from the start, so that the peer's first packet is
            heard even before our own checks are done.
        scope: cancel it to give the meeting up.
    """

    def __init__(
        self,
        established: Established,
        session: IceSession,
        connection: Connection,
        finish: Callable[[], None],
    ) -> None:
        """Begin; ``finish`` ends the introduction that this came from."""
        self.connection = connection
        self.scope = trio.CancelScope()
        self._established = established
        self._session = session
        self._finish = finish
        self._nominated: Path | None = None

    @property
    def remote_static(self) -> bytes:
        """The static key of the other location, 32 bytes."""
        return self._established.peer.static_public

    @property
    def offer_digest(self) -> bytes:
        """Names the introduction at both ends."""
        return self._established.offer_digest

    async def find_path(self, check_rto_s: float) -> None:
        """Check pairs until one is nominated; the first packet leaves at once.

        Raises:
            IceFailed: no pair carried a check.
        """
        started_at = trio.current_time()
        endpoint = await self._session.connect(self._established.ice, check_rto_s)
        # The check that succeeded took one round trip, or more where it was repeated.
        check_s = trio.current_time() - started_at
        self._nominated = Path(PathKind.DIRECT, endpoint)
        self.connection.set_path(self._nominated, rtt_s=check_s)
        for other in self._session.alternatives[:_MAX_WARM_PATHS]:
            self.connection.add_path(Path(PathKind.DIRECT, other))

    async def keep(self) -> None:
        """Answer consent checks until the connection ends."""

        async def watch_consent() -> None:
            await self._session.lost.wait()
            if self.connection.path != self._nominated:
                # The connection moved on: its own challenges prove that the peer is
                # where it sends, and ICE only knows where it was.
                return
            reason = "the peer no longer consents to this path"
            self.connection.close(CODE_NO_PATH, reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_consent)
            await self.connection.closed.wait()
            nursery.cancel_scope.cancel()

    def finish(self) -> None:
        """End the introduction: its location may be called again."""
        self._finish()

    async def end(self) -> None:
        """Leave nothing behind; also when cancelled."""
        self.connection.close(CODE_NO_PATH, "no path")
        self._finish()
        # Without the shield a cancelled connect would leave its checks running.
        with trio.move_on_after(CLOSE_S, shield=True):
            await self._session.close()
