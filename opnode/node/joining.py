"""Joining: through whom the node gets in, and that it keeps trying until it is in.

Owns the order of sources and the retries. Never reports "joined" without a contact.
Refuses to know what is done with the overlay once it is there.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from opnode.drivers.dht.contacts import KnownContact
from opnode.drivers.dht.dht import Dht
from opnode.drivers.network.network import Network
from opnode.drivers.rpc.rpc import Rpc
from opnode.node.bootstrap import (
    BootstrapEntry,
    Verdict,
    VerdictKind,
    backoff_s,
    probe,
)

if TYPE_CHECKING:
    from opnode.core.addresses import Endpoint

logger = logging.getLogger(__name__)

MAX_REPORTS: Final = 256
"""Reports nobody reads are dropped: the newest state is in ``statistics``."""

LONELY_CHECK_S: Final = 15.0
"""How soon a node that lost every contact notices and joins again."""

COME_BACK_S: Final = 5.0
"""For so long a caller waits for a node that fell out: a few requests that have to be
repeated take it."""


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What became of one entry: its verdict, and the contacts known after it."""

    verdict: Verdict
    contacts: int

    @property
    def joined(self) -> bool:
        """Whether the entry brought us in."""
        return self.verdict.kind is VerdictKind.ANSWERED and self.contacts > 0

    def __str__(self) -> str:
        entry = self.verdict.entry
        if self.joined:
            plural = "" if self.contacts == 1 else "s"
            known = f"{self.contacts} contact{plural}"
            return f"{entry.host}:{entry.port}: joined with {known}"
        return str(self.verdict)


class Joiner:
    """Gets the node into the overlay and brings it back when it falls out."""

    def __init__(  # noqa: PLR0913 - collaborators, all different types
        self,
        *,
        dht: Dht,
        rpc: Rpc,
        network: Network,
        entries: Sequence[BootstrapEntry],
        remembered: Sequence[KnownContact],
        rng: random.Random,
        is_server: bool,
    ) -> None:
        self.joined = trio.Event()
        self._is_called = trio.Event()
        self._is_back = trio.Event()
        self.neighbours: Callable[[], Awaitable[Sequence[BootstrapEntry]]] = _nobody
        self._is_first_seed = is_server and not entries and not remembered
        self._dht = dht
        self._rpc = rpc
        self._network = network
        self._entries = tuple(entries)
        self._remembered = tuple(remembered)
        self._rng = rng
        self._proven: set[Endpoint] = set()
        self._reports_in, self.reports = trio.open_memory_channel[JoinReport](
            MAX_REPORTS
        )

    @property
    def is_joined(self) -> bool:
        """Whether the node is in right now; a first seed always is."""
        return self._is_first_seed or bool(self._dht.contacts())

    async def run(self) -> None:
        """Join, then watch for loneliness, until cancelled."""
        if self._is_first_seed:
            # Others come to it.
            self.joined.set()
        attempt = 0
        while True:
            if self._dht.contacts():
                attempt = 0
                self._note_joined()
                self._is_called = trio.Event()
                with trio.move_on_after(LONELY_CHECK_S):
                    await self._is_called.wait()
                continue
            await self._try_all()
            if not self._dht.contacts():
                await trio.sleep(backoff_s(attempt, self._rng))
                attempt += 1

    async def come_back(self) -> None:
        """Wait until a node that fell out is in again, if that does not take long.

        Where many datagrams are lost every contact may fall silent for a moment, which
        is no reason to refuse what is asked of us then.
        """
        await trio.lowlevel.checkpoint()
        if self.is_joined or not self.joined.is_set():
            return
        if self._is_back.is_set():
            self._is_back = trio.Event()
        self._is_called.set()
        with trio.move_on_after(COME_BACK_S):
            await self._is_back.wait()

    def _note_joined(self) -> None:
        self.joined.set()
        self._is_back.set()

    async def _try_all(self) -> None:
        """Ask every source at once; the first that answers brings the node in."""
        async with trio.open_nursery() as nursery:
            lost = self._dht.lost_contacts()
            if self._remembered or lost:
                nursery.start_soon(self._try_remembered, [*lost, *self._remembered])
            for entry in self._entries:
                nursery.start_soon(self._try_entry, entry)
            nursery.start_soon(self._try_neighbours)

    async def _try_remembered(self, known: Sequence[KnownContact]) -> None:
        async with trio.open_nursery() as nursery:
            # The first that prove themselves bring us in; the rest takes its time.
            await nursery.start(self._dht.restore, known)
            contacts = len(self._dht.contacts())
            if contacts:
                logger.info("joined through remembered contacts: %d known", contacts)
                self._note_joined()

    async def _try_neighbours(self) -> None:
        """Join through who is on our own link: no Internet is needed for that."""
        for entry in await self.neighbours():
            await self._try_entry(entry)

    async def _try_entry(self, entry: BootstrapEntry) -> None:
        verdict = await probe(entry, rpc=self._rpc, network=self._network)
        contacts = 0
        endpoint = verdict.endpoint
        if verdict.kind is VerdictKind.WRONG_KEY and endpoint is not None:
            # It may ask us later, as any node does; it must not get in that way.
            if endpoint not in self._proven:
                self._dht.shun(endpoint)
        elif endpoint is not None:
            if entry.node_public_key is not None:
                self._proven.add(endpoint)
            self._dht.welcome(endpoint)
            contacts = await self._dht.join([endpoint])
            if not contacts:
                verdict = Verdict(
                    entry, VerdictKind.NO_ANSWER, detail="it answered, then fell silent"
                )
        report = JoinReport(verdict, contacts)
        logger.info("%s", report)
        try:
            self._reports_in.send_nowait(report)
        except trio.WouldBlock:
            logger.debug("nobody reads the join reports")
        if contacts:
            self._note_joined()


async def _nobody() -> Sequence[BootstrapEntry]:
    await trio.lowlevel.checkpoint()
    return ()
