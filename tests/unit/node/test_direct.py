import pytest
import trio

from tests.unit.node.moves import Flow, two_behind

BOXES = ["full", "addr", "port"]
WHO = ["alice", "bob", "both"]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("who", WHO)
async def test_a_flow_goes_on_within_three_seconds_of_a_move(
    autojump_clock, nursery, box, who
):
    async with two_behind(box, box) as (overlay, alice, bob):
        mine = await alice.connect(bob.peer_id)
        theirs = await bob.accept_connection()
        flow = Flow(mine, theirs)
        nursery.start_soon(flow.send)
        nursery.start_soon(flow.receive)
        await trio.sleep(5)
        moved_at = trio.current_time()
        for node, name in ((alice, "alice"), (bob, "bob")):
            if who in (name, "both"):
                overlay.host_of(node).move_to(overlay.nat(box))
        await trio.sleep(15)
        assert mine.close_reason is None
        assert flow.gap_s(moved_at) <= 3.0
        assert flow.sent.startswith(flow.received)
        assert len(flow.received) > 4 * 15 / 0.02 * 0.8
        nursery.cancel_scope.cancel()
