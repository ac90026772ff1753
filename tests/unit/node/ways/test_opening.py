import trio

from opnode.core.addresses import Endpoint
from opnode.node.ways.opening import Opening
from opnode.node.ways.ways import Words
from opnode.protocols.introductions.messages import RelayPoint, Rendezvous
from opnode.testing.overlay import open_overlay


class Way:
    def __init__(self, number):
        self.relay = RelayPoint(Endpoint("203.0.113.1", number), bytes([number]) * 8)
        self.is_closed = False

    def opening(self):
        return Words(rendezvous=Rendezvous(relays=(self.relay,)))

    async def aclose(self):
        await trio.lowlevel.checkpoint()
        self.is_closed = True


async def test_an_opening_says_what_its_session_and_all_ways_say(autojump_clock):
    async with open_overlay() as overlay:
        alice = await overlay.user()
        session = alice.connector.ice.new_session(controlling=True)
        ways, here = [Way(1), Way(2)], Endpoint("203.0.113.5", 7)
        opening = Opening(session, ways, [here])
        assert opening.ice == session.local
        assert opening.rendezvous.introducers == (here,)
        assert opening.rendezvous.relays == tuple(way.relay for way in ways)
        with trio.CancelScope() as scope:
            scope.cancel()
            await opening.aclose()
        assert all(way.is_closed for way in ways)
        assert alice.connector.ice.statistics().sessions == 0
