import trio

from opnode.testing.overlay import entry_of, open_overlay


async def test_an_overlay_has_the_seeds_that_were_asked_for(autojump_clock):
    async with open_overlay(seeds=3) as overlay:
        assert len(overlay.entries) == 3
        assert len({entry.host for entry in overlay.entries}) == 3


async def test_a_user_is_published_when_it_is_handed_out(autojump_clock):
    async with open_overlay() as overlay:
        user = await overlay.user()
        assert user.statistics().joined
        assert user.statistics().introducers


async def test_an_invite_leads_to_the_node_that_wrote_it(autojump_clock):
    async with open_overlay() as overlay:
        seed = await overlay.seed()
        entry = entry_of(seed)
        assert (entry.host, entry.port) == tuple(seed.endpoint)
        assert entry.node_public_key == seed.node_public_key


async def test_nodes_end_with_the_overlay(autojump_clock):
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_overlay() as overlay:
        await overlay.user()
    assert trio.lowlevel.current_statistics().tasks_living == before
