"""Our side of a meeting before there is one: what goes into an offer or an answer.

Owns the ICE session and the ways from their beginning until a meeting takes them over.
Refuses to know who is called, and how the words travel.
"""

from collections.abc import Iterable, Sequence

import trio

from opnode.core.addresses import Endpoint, IceHalf
from opnode.drivers.ice.ice import IceSession
from opnode.node.ways.direct import CLOSE_S
from opnode.node.ways.ways import Way
from opnode.protocols.introductions.messages import Rendezvous


class Opening:
    """An ICE session, the other ways, and what they have to say.

    Attributes:
        session: answers checks already.
        ways: those beside the direct one.
        ice: our half, the addresses that ways told included.
        relayed: those, mostly at TURN servers.
        rendezvous: our introducers and relays.
    """

    def __init__(
        self,
        session: IceSession,
        ways: Sequence[Way],
        introducers: Iterable[Endpoint],
    ) -> None:
        self.session = session
        self.ways = tuple(ways)
        words = [way.opening() for way in self.ways]
        added = (candidate for word in words for candidate in word.candidates)
        self.relayed = tuple(dict.fromkeys(added))
        relays = (relay for word in words for relay in word.rendezvous.relays)
        local = session.local
        self.ice = IceHalf(
            local.ufrag, local.password, (*local.candidates, *self.relayed)
        )
        self.rendezvous = Rendezvous(
            introducers=tuple(introducers), relays=tuple(relays)
        )

    async def aclose(self) -> None:
        """Let go of everything; also when cancelled."""
        # Without the shield a cancelled connect would leave its checks running.
        with trio.move_on_after(CLOSE_S, shield=True):
            await self.session.close()
            for way in self.ways:
                await way.aclose()
