"""`opnode trace`: what people see of a lookup."""

import json

import pytest

from opnode.cli.trace import verdict
from opnode.core.errors import ConfigError
from opnode.daemon import control_messages as messages

KEY = "5a0cba4df06eb3f46b41432eb3f21e9d59b7bf2c"


def hop(number, named_by=None, **changes):
    fields = {
        "number": number,
        "named_by": named_by,
        "node_id": f"{number:040x}"[::-1],
        "endpoint": f"192.0.2.1:{4000 + number}",
        "path": 0,
        "shared_bits": 7,
        "in_region": False,
        "outcome": "answered",
        "asked_at_ms": 1.0,
        "rtt_ms": 12.34,
        "new": 0,
        "records": 0,
    }
    return messages.Hop(**{**fields, **changes})


def end(**changes):
    fields = {
        "target": KEY,
        "nodes": False,
        "took_ms": 93.4,
        "complete": True,
        "records": 2,
        "holders": 3,
        "asked": 5,
        "answered": 4,
        "paths": 2,
        "first_record_ms": 41.0,
    }
    return messages.Traced(**{**fields, **changes})


def test_hops_hang_below_those_that_named_them(opnode, node, tmp_path):
    node.answers[messages.Trace] = [
        hop(0, new=4),
        hop(1, 0, in_region=True, records=2, path=1),
        hop(2, 0, outcome="failed", rtt_ms=None),
        hop(3, 1, outcome="late", rtt_ms=900.0),
        end(),
    ]
    ended = opnode("trace", "ann", "--data", tmp_path)
    assert ended.code == 0
    first, titles, *lines, last = ended.out.splitlines()
    assert first == f"looking for {KEY}"
    assert titles.startswith("our own contacts ")
    assert lines[0].startswith("└── 00000000 192.0.2.1:4000")
    assert "12.3 ms +4" in lines[0]
    assert lines[1].startswith("    ├── 10000000 192.0.2.1:4001")
    assert "*  2 " in lines[1]
    assert lines[1].endswith("2 records")
    assert lines[2].startswith("    │   └── 30000000")
    assert lines[2].endswith("900.0 ms late")
    assert lines[3].startswith("    └── 20000000")
    assert "failed" in lines[3]
    assert last.startswith("found: 2 records at 3 nodes, first after 41 ms; 4 of 5")
    assert max(map(len, [*lines, last])) <= 80
    assert node.requests == [messages.Trace(target="ann", nodes=False)]


def test_columns_stand_below_each_other_at_every_depth(opnode, node, tmp_path):
    hops = [hop(0), *(hop(n, n - 1) for n in range(1, 4))]
    node.answers[messages.Trace] = [*hops, end()]
    out = opnode("trace", KEY, "--nodes", "--data", tmp_path).out
    _, titles, *lines, _ = out.splitlines()
    assert {line.index(" ms") + 3 for line in lines} == {len(titles)}
    assert node.requests == [messages.Trace(target=KEY, nodes=True)]


def test_every_hop_is_a_line_of_json_for_programs(opnode, node, tmp_path):
    node.answers[messages.Trace] = [hop(0), end()]
    lines = opnode("trace", "ann", "--json", "--data", tmp_path).out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["hop", "traced"]
    assert events[0]["rtt_ms"] == 12.34


def test_a_hop_that_names_itself_or_a_later_one_is_drawn_once(opnode, node, tmp_path):
    node.answers[messages.Trace] = [hop(0, 0), hop(1, 2), hop(2, 1), end()]
    out = opnode("trace", "ann", "--data", tmp_path).out
    assert [out.count(f"192.0.2.1:400{n}") for n in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "words", "is_good"),
    [
        ({"asked": 0}, "nobody to ask", False),
        (
            {"records": 0, "holders": 0},
            "not found: 4 of 5 asked answered, 93 ms",
            False,
        ),
        ({"records": 0, "holders": 1}, "nothing that verifies, from 1 node", False),
        ({"holders": 0, "first_record_ms": None}, "held here alone", True),
        ({"complete": False}, "ended at a limit", True),
        ({"nodes": True, "records": 0}, "done: 4 of 5 asked answered", True),
        ({"nodes": True, "answered": 0}, "done: 0 of 5", False),
        ({"records": 1, "holders": 1}, "found: 1 record at 1 node, first", True),
    ],
)
def test_the_verdict_says_what_came_of_it(changes, words, is_good):
    text, found_good = verdict(end(**changes))
    assert words in text
    assert found_good is is_good


def test_a_mistyped_peer_id_is_wrong_use(opnode, tmp_path):
    ended = opnode("trace", "op1abc", "--data", tmp_path)
    assert ended.code == 2
    assert "expected the length" in ended.err


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_a_key_that_no_node_would_read_is_wrong_use(opnode, tmp_path, key):
    ended = opnode("trace", key, "--data", tmp_path)
    assert ended.code == 2
    assert "expected 1 to 256" in ended.err


def test_a_key_that_the_node_refuses_is_one_line(opnode, node, tmp_path):
    node.answers[messages.Trace] = [ConfigError("key", "'bob'", "a peer id")]
    ended = opnode("trace", "bob", "--data", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("\n") == 1
    assert "bob" in ended.err


def test_without_a_node_it_says_how_to_start_one(opnode, tmp_path):
    ended = opnode("trace", "ann", "--data", tmp_path)
    assert ended.code == 1
    assert "start one with: opnode up" in ended.err
