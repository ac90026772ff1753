import pytest
import trio

from opnode.node.config import Role
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


@pytest.mark.parametrize("kind", ["open", "full", "port", "sym"])
async def test_a_user_behind_a_box_is_found_and_called(autojump_clock, nursery, kind):
    async with open_overlay(3, public=True) as overlay:
        anna, ben = await overlay.user(behind=kind), await overlay.user(behind="full")
        nursery.start_soon(anna.accept_connection)
        with trio.fail_after(10):
            connection = await ben.connect(anna.peer_id)
        assert connection.peer_id == anna.peer_id
        assert overlay.nat_of(anna).statistics().let_in > 0


async def test_a_user_behind_a_box_does_not_become_a_server(autojump_clock):
    async with open_overlay(4, public=True) as overlay:
        user = await overlay.user(behind="port")
        await trio.sleep(600)
        assert user.statistics().role is Role.LEAF
        assert user.statistics().behind_nat


async def test_users_may_share_a_box(autojump_clock):
    async with open_overlay(public=True) as overlay:
        home = overlay.nat("full")
        users = [await overlay.user(behind=home) for _ in range(2)]
        addresses = [overlay.host_of(user).address for user in users]
        assert addresses == ["192.168.1.2", "192.168.1.3"]


async def test_a_killed_user_sends_nothing_more_and_may_start_again(autojump_clock):
    async with open_overlay(public=True) as overlay:
        user = await overlay.user(behind="port")
        nat, host = overlay.nat_of(user), overlay.host_of(user)
        before = nat.statistics().sent
        await overlay.kill(user)
        assert nat.statistics().sent == before
        host.move_to(nat)
        again = await overlay.user(behind=host)
        assert again.peer_id != user.peer_id
        assert overlay.host_of(again) is host


async def test_a_stopped_user_withdraws_its_presence(autojump_clock):
    async with open_overlay(2) as overlay:
        user = await overlay.user()
        other = await overlay.user()
        peer_id = user.peer_id
        assert (await other.lookup(peer_id)).presences
        await overlay.stop(user)
        assert not (await other.lookup(peer_id)).presences


async def test_a_killed_seed_answers_nobody(autojump_clock):
    async with open_overlay(1) as overlay:
        seed = await overlay.seed()
        await overlay.kill(seed)
        overlay.entries.pop(0)
        user = await overlay.start_user()
        with trio.move_on_after(60):
            await user.wait_joined()
        assert not user.statistics().joined


async def test_a_user_that_moved_has_other_addresses_inside_and_outside(autojump_clock):
    async with open_overlay(3, public=True) as overlay:
        user = await overlay.user(behind="port")
        before = overlay.nat_of(user)
        overlay.move(user)
        after = overlay.nat_of(user)
        assert after.behaviour == before.behaviour
        assert after.address != before.address
        assert overlay.host_of(user).address == "10.144.7.2"
