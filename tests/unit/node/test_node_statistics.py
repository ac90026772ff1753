"""The figures of a node: all of them can be shown as plain values."""

import dataclasses

import msgspec

from opnode.node.node_statistics import NodeStatistics
from opnode.testing.overlay import open_overlay


async def test_a_seed_has_every_figure_and_a_user_more(autojump_clock):
    async with open_overlay(1) as overlay:
        user = await overlay.user()
        for node in (overlay.seeds[0], user):
            figures = node.statistics()
            names = {field.name for field in dataclasses.fields(NodeStatistics)}
            shown = msgspec.to_builtins(figures.traffic)
            assert shown["relayed"] == 0
            assert names == {name for name in names if hasattr(figures, name)}
        assert overlay.seeds[0].statistics().peer_id is None
        assert user.statistics().presence is not None
