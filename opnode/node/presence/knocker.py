"""Knocking at our own door: does an introducer still get through to us?

Owns the socket that knocks and what its outcome says. Refuses to know how long nothing
was sent before: that is the question whose answer this is.
"""

import enum
import logging
import random
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    ConfigError,
    NetworkError,
    RefusalCode,
    RequestRefused,
    RequestTimeout,
)
from opnode.core.ids import NODE_ID_SIZE, Contact, NodeId
from opnode.drivers.background import open_background
from opnode.drivers.introductions import Introductions
from opnode.drivers.network.network import Network
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.messages import Introduce, Ping

logger = logging.getLogger(__name__)

HEARD_S: Final = 2.5
"""Within this the knock is heard or lost: an introducer sends an offer four times in
it, and once it is over we write to the introducer, which would open the door."""

WORD_LENGTH: Final = 16
"""What is passed on: nobody else can guess it."""


class Knock(enum.Enum):
    """What became of it.

    HEARD: the introducer got through. LOST: it tried and did not. FORGOTTEN: it does
    not know us any more. UNKNOWN: it did not try, or could not be asked.
    """

    HEARD = enum.auto()
    LOST = enum.auto()
    FORGOTTEN = enum.auto()
    UNKNOWN = enum.auto()


class Knocker:
    """Asks an introducer, as a stranger would, to pass us a word of ours.

    From a socket of its own: what the node's socket sends would open the door that is
    to be tried. It takes one more mapping of a NAT, for a moment.
    """

    def __init__(
        self,
        network: Network,
        rpc: Rpc,
        introductions: Introductions,
        rng: random.Random,
    ) -> None:
        self._network = network
        self._rpc = rpc
        self._introductions = introductions
        self._rng = rng

    async def knock(self, introducer: Contact, handle: bytes) -> Knock:
        """See whether this introducer, with which we registered, gets through."""
        try:
            host = self._rpc.local.host
            hub = SocketHub(await self._network.bind(Endpoint(host, 0)))
        except (ConfigError, OSError) as error:
            logger.debug("no socket to knock with: %s", error)
            return Knock.UNKNOWN
        stranger = Rpc(
            hub,
            # Nobody keeps a leaf, so nobody cares which.
            node_id=NodeId(bytes(NODE_ID_SIZE)),
            leaf=True,
            signing_key=None,
            rng=self._rng,
            config=RpcConfig(network=self._rpc.network_id),
        )
        try:
            async with open_background() as nursery:
                await nursery.start(hub.run)
                await nursery.start(stranger.run)
                return await self._knock_as(stranger, introducer, handle)
        finally:
            hub.close()

    async def _knock_as(
        self, stranger: Rpc, introducer: Contact, handle: bytes
    ) -> Knock:
        try:
            # Brings the token, and tells that the introducer lives.
            await stranger.request(introducer.endpoint, Ping())
        except NetworkError:
            return Knock.UNKNOWN
        word = self._rpc.draw_secret()[:WORD_LENGTH]
        refusals: list[Knock] = []
        heard = self._introductions.expect_word(word)

        async def ask() -> None:
            try:
                body = Introduce(handle, int(HEARD_S), word)
                await stranger.request(introducer.endpoint, body)
            except RequestRefused as refusal:
                refusals.append(_meaning(refusal))
                heard.set()
            except RequestTimeout:
                return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with trio.move_on_after(HEARD_S) as patience:
                await heard.wait()
            nursery.cancel_scope.cancel()
        if patience.cancelled_caught:
            return Knock.LOST
        return refusals[0] if refusals else Knock.HEARD


def _meaning(refusal: RequestRefused) -> Knock:
    # That the target does not answer is told later than we wait.
    is_forgotten = refusal.code == RefusalCode.UNKNOWN_TARGET
    return Knock.FORGOTTEN if is_forgotten else Knock.UNKNOWN
