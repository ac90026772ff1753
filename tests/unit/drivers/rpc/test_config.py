"""`config`: every counter has its place in the statistics."""

import dataclasses

from opnode.drivers.rpc.config import COUNTERS, RpcStatistics


def test_every_counter_is_a_field_of_the_statistics():
    fields = {field.name for field in dataclasses.fields(RpcStatistics)}
    assert set(COUNTERS) <= fields
    assert fields - set(COUNTERS) == {
        "pending",
        "deferred",
        "traffic",
        "budget",
        "lent",
    }
