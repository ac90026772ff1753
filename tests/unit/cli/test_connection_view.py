"""What a person sees of a connection."""

import dataclasses

import msgspec
import pytest

from opnode.cli.connection_view import connection_rows
from opnode.daemon.plain_values import as_plain
from opnode.testing.pair import LinkConfig, Pair


def figures():
    """The figures of a connection that has carried something, with losses."""
    pair = Pair(link=LinkConfig(loss=0.05))
    channel = pair.a.connection.open_channel(pair.now)
    pair.a.connection.send(channel, bytes(300_000), pair.now)
    pair.run_for(5.0)
    return pair.a.connection.statistics()


def row(statistics, **fields):
    found = {
        "peer_id": "op1x",
        "name": "ann",
        "path": "direct",
        "endpoint": "192.0.2.7:4848",
        "transport": as_plain(statistics),
    }
    return found | fields


def test_the_figures_of_a_connection_are_told_in_few_lines():
    statistics = figures()
    shown = connection_rows(row(statistics))
    assert list(shown) == [
        "peer id",
        "path",
        "round trip",
        "sent",
        "received",
        "flow",
        "keys",
        "channels",
    ]
    assert shown["path"].startswith("direct, 192.0.2.7:4848, packets of ")
    assert f"{statistics.smoothed_rtt_s * 1e3:.2f} ms" in shown["round trip"]
    assert f"{statistics.packets_sent:,} packets" in shown["sent"]
    assert f"{statistics.packets_lost:,} lost" in shown["sent"]
    assert statistics.packets_lost > 0
    assert f"({statistics.congestion_control}: " in shown["flow"]
    assert shown["keys"] == f"epoch {statistics.key_epoch}, hybrid"
    assert shown["channels"] == "1 open"


def test_what_went_wrong_is_told_only_where_it_did():
    statistics = dataclasses.replace(figures(), forged=2, malformed=0, duplicates=3)
    received = connection_rows(row(statistics))["received"]
    assert received.endswith(", 3 twice, 2 forged")
    calm = dataclasses.replace(statistics, forged=0, duplicates=0)
    assert connection_rows(row(calm))["received"].endswith("packets")


def test_a_connection_without_path_and_round_trip_says_so():
    connection = Pair(connect=False).a.connection
    found = row(connection.statistics(), path=None, endpoint=None)
    shown = connection_rows(found)
    assert shown["path"] == "none yet"
    assert shown["round trip"] == "not measured yet"
    assert shown["keys"] == "epoch 0, not post-quantum yet"
    assert "0 lost (0 %)" in shown["sent"]


def test_figures_that_another_version_does_not_have_are_left_out():
    shown = connection_rows({"peer_id": "op1x", "path": "direct", "endpoint": "a:1"})
    assert shown["path"] == "direct, a:1"
    assert "(" not in shown["flow"]


def test_a_figure_of_another_type_is_an_error():
    with pytest.raises(msgspec.ValidationError):
        connection_rows({"transport": {"packets_sent": "many"}})


def test_what_is_passed_on_says_by_whom_and_how_much():
    carried = {
        "direct": {"sent": 1200, "received": 60},
        "relay": {"sent": 5_000_000, "received": 40_000},
    }
    found = row(figures(), path="relay", endpoint="192.0.2.1:4000", carried=carried)
    shown = connection_rows(found)
    assert shown["path"].startswith("relay, by way of 192.0.2.1:4000, packets of ")
    assert shown["carried"] == (
        "direct 1.2 kB out and 60 B in, relay 5.0 MB out and 40.0 kB in"
    )


def test_a_connection_that_was_always_direct_tells_no_kinds():
    carried = {"direct": {"sent": 1200, "received": 60}}
    assert "carried" not in connection_rows(row(figures(), carried=carried))
