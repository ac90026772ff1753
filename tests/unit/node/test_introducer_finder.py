from opnode.node.introducer_finder import IntroducerFinder
from opnode.testing.overlay import open_overlay


async def test_the_introducers_of_a_location_are_those_that_it_publishes(
    autojump_clock,
):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        view = await alice.lookup(bob.peer_id)
        certificate = view.presences[0].certificate
        finder = IntroducerFinder(alice.lookup, None)
        expected = tuple(e.endpoint for e in bob.statistics().introducers)
        assert await finder.find(certificate) == expected != ()
        assert finder.own() == ()
        assert bob.connector.own_introducers() == expected


async def test_another_location_of_the_same_identity_is_not_meant(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        carol = await overlay.user()
        other = (await alice.lookup(carol.peer_id)).presences[0].certificate

        async def lookup(_):
            return await alice.lookup(bob.peer_id)

        assert await IntroducerFinder(lookup, None).find(other) == ()
