"""`figures`: read where they are there, and not made up where they are not."""

import json

import msgspec
import pytest

from opnode.daemon.figures import NodeFigures, read_figures
from opnode.daemon.plain_values import plain_fields
from opnode.testing.overlay import open_overlay


def test_figures_that_are_missing_stay_unknown():
    assert read_figures({}) == NodeFigures()
    figures = read_figures({"contacts": 3, "dht": {"alarm": None}, "news": [1]})
    assert figures.contacts == 3
    assert figures.dht.network_size is None
    assert figures.dht.buckets == ()
    assert figures.rpc.budget is None


def test_a_figure_of_another_type_is_refused_by_its_name():
    with pytest.raises(msgspec.ValidationError, match=r"dht\.buckets"):
        read_figures({"dht": {"buckets": "many"}})


async def test_every_figure_is_one_that_a_node_has(autojump_clock):
    async with open_overlay(seeds=3) as overlay:
        node = await overlay.user()
        plain = json.loads(msgspec.json.encode(plain_fields(node.statistics())))
        figures = read_figures(plain)
        for part, values in (
            (figures, plain),
            (figures.dht, plain["dht"]),
            (figures.dht.buckets[0], plain["dht"]["buckets"][0]),
            (figures.rpc, plain["rpc"]),
            (figures.rpc.traffic[0], plain["rpc"]["traffic"][0]),
            (figures.rpc.budget, plain["rpc"]["budget"]),
        ):
            assert set(part.__struct_fields__) <= set(values)
        assert figures.contacts == 3
        assert figures.dht.network_size is not None
        assert figures.rpc.traffic
