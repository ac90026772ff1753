"""`status_view`: what there is, in eighty columns, and nothing made up."""

import msgspec
import pytest

from opnode.cli.status_view import (
    duration_text,
    flat,
    node_rows,
    table_lines,
    traffic_lines,
)
from opnode.daemon.figures import (
    Binding,
    Bucket,
    Budget,
    DhtFigures,
    Gateways,
    Holdings,
    Introducer,
    IntroducerDesk,
    Introductions,
    Nat,
    NodeFigures,
    Presence,
    Reachability,
    RpcFigures,
    TrafficLine,
    WebSocketFigures,
    read_figures,
)

FULL = NodeFigures(
    role="server",
    configured_role="auto",
    reachability=Reachability(is_proven=True, networks=3, failures=0),
    endpoint="203.0.113.5:4848",
    observed=("203.0.113.5:4848", "203.0.113.5:9"),
    behind_nat=True,
    joined=True,
    contacts=31,
    dht=DhtFigures(
        records=12,
        own_records=2,
        equivocations=1,
        lookups=10,
        queries=123,
        bad_records=4,
        network_size=1234.4,
        alarm="key ab12: 9 nodes where 2 are expected",
        watchers=3,
        watching=1,
    ),
    rpc=RpcFigures(
        malformed=5,
        limited=6,
        budget=Budget(
            packets_per_s=50.0,
            packets_per_s_used=1.25,
            endpoints_per_min=60.0,
            endpoints_per_min_used=7.0,
            is_short=True,
        ),
    ),
)


def line(message, side="asked", out=1, size_out=1, size_in=1):
    return TrafficLine(
        message=message,
        side=side,
        datagrams_in=1,
        bytes_in=size_in,
        datagrams_out=out,
        bytes_out=size_out,
    )


def test_every_figure_has_its_words():
    assert node_rows(FULL) == {
        "address": "203.0.113.5:4848, seen by others as 203.0.113.5:9, behind a NAT",
        "role": "server: 3 unrelated networks dialled back",
        "network": "joined, 31 contacts of about 1234 nodes",
        "alarm": "key ab12: 9 nodes where 2 are expected",
        "records": "12 held here, 2 of its own kept alive, 1 with two contents under"
        " one number",
        "watching": "3 by others here, 1 by this node",
        "lookups": "10, 12.3 questions each",
        "refused": "5 malformed datagrams, 6 requests beyond the limits, 4 bad records",
        "budget": "1.2 of 50 packets/s, 7 of 60 new addresses/min: background waits",
    }


def test_what_is_spent_on_others_is_told_with_its_limit():
    served = [
        line("INTRODUCE", "served", size_out=3000, size_in=2000),
        line("OFFER", "asked", size_out=2000, size_in=3000),
        # Of our own: asked, or offered to us.
        line("INTRODUCE", "asked", size_out=7000),
        line("OFFER", "served", size_in=9000),
    ]
    desk = IntroducerDesk(offers_passed=2, bytes_passed=5000, bytes_per_s=16_000.0)
    node = NodeFigures(
        rpc=RpcFigures(traffic=tuple(served), lent=FULL.rpc.budget),
        introductions=Introductions(registered=12, passed=2, desk=desk),
    )
    assert node_rows(node) == {
        "for others": "5.0 kB in, 5.0 kB out; 12 registered, 2 introduced "
        "(limit 16.0 kB/s)",
        "asked for them": node_rows(FULL)["budget"],
    }
    leaf = NodeFigures(rpc=RpcFigures(traffic=tuple(served[2:])))
    assert node_rows(leaf) == {}
    holder = NodeFigures(rpc=RpcFigures(traffic=(line("STORE", "served"),)))
    assert node_rows(holder) == {"for others": "1 B in, 1 B out"}


def test_the_care_for_records_is_told_where_there_was_any():
    idle = DhtFigures(records=3, own_failed=0, holdings=Holdings(given=0, put_again=0))
    assert node_rows(NodeFigures(dht=idle)) == {"records": "3 held here"}
    busy = DhtFigures(
        records=3,
        own_records=2,
        own_failed=1,
        holdings=Holdings(given=7, put_again=8),
    )
    assert node_rows(NodeFigures(dht=busy)) == {
        "records": "3 held here, 7 given to newcomers, 8 put again, 2 of its own kept "
        "alive, 1 put of them reached nobody"
    }


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("independent", "one port for all"),
        ("sequential", "another port for each peer, the next in a row"),
        ("random", "another port for each peer, at random"),
    ],
)
def test_the_nat_is_told_with_what_it_forwards_and_remembers(kind, words):
    nat = Nat(kind=kind, host="9.9.9.9")
    assert node_rows(NodeFigures(nat=nat)) == {"nat": words}
    binding = Binding(interval_s=118.0, survived_s=120.0)
    full = NodeFigures(
        nat=nat, mapped=("9.9.9.9:7",), presence=Presence(binding=binding)
    )
    assert node_rows(full)["nat"] == (
        f"{words}, forwards 9.9.9.9:7, remembers for 120 s at least"
    )


def test_no_nat_and_an_unknown_one_take_no_row():
    for kind in ("none", "unknown", "a kind of tomorrow"):
        assert node_rows(NodeFigures(nat=Nat(kind=kind))) == {}


def test_who_passes_calls_on_is_told():
    one, other = Introducer(endpoint="9.9.9.9:1"), Introducer(endpoint="8.8.8.8:2")
    assert node_rows(NodeFigures(introducers=(one, other))) == {
        "callers": "through 9.9.9.9:1, 8.8.8.8:2"
    }


def test_what_a_node_does_not_tell_is_left_out():
    assert node_rows(NodeFigures()) == {}
    assert table_lines(()) == []
    assert traffic_lines(()) == []
    quiet = read_figures({"contacts": 1, "joined": False, "dht": {"watchers": 0}})
    assert node_rows(quiet) == {"network": "not joined, 1 contact"}


@pytest.mark.parametrize(
    ("told", "role", "failures", "text"),
    [
        ("auto", "leaf", 0, "leaf until others have proven that they can reach it"),
        ("auto", "leaf", 1, "leaf: nobody got through in 1 round"),
        ("leaf", "leaf", 0, "leaf, as it was told"),
        ("server", "server", 5, "server, as it was told"),
    ],
)
def test_a_role_has_its_reason(told, role, failures, text):
    proof = Reachability(is_proven=False, networks=0, failures=failures)
    node = NodeFigures(role=role, configured_role=told, reachability=proof)
    assert node_rows(node) == {"role": text}


def test_a_role_of_another_version_is_shown_as_it_is():
    assert node_rows(NodeFigures(role="relay")) == {"role": "relay"}


def test_a_spent_budget_says_so():
    budget = msgspec.structs.replace(FULL.rpc.budget, is_spent=True)
    rows = node_rows(NodeFigures(rpc=RpcFigures(budget=budget)))
    assert rows["budget"].endswith(": spent")


def test_each_depth_of_the_table_has_a_bar():
    buckets = [
        Bucket(depth=2, contacts=0, sure=0),
        Bucket(depth=1, contacts=20, sure=18, replacements=7),
        Bucket(depth=2, contacts=9, sure=9),
    ]
    assert table_lines(buckets) == [
        f"  1 bits {'#' * 20}   20, 2 unsure, 7 waiting",
        f"  2 bits {'#' * 4}{'.' * 16}    9 in 2 buckets",
    ]


def test_the_dearest_cause_comes_first_and_columns_fit_eighty():
    traffic = [
        line("PING"),
        line("REGISTER", "served", out=123_456_789, size_out=10**14),
        line("FIND_VALUE", size_in=5000),
    ]
    title, *lines = traffic_lines(traffic)
    assert [text.split()[0] for text in lines] == ["REGISTER", "FIND_VALUE", "PING"]
    assert {len(text) for text in lines} == {len(title)}
    assert len(title) < 80


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0 s"),
        (61.0, "1 min 1 s"),
        (3599.9, "59 min 59 s"),
        (3725.0, "1 h 2 min"),
        (90_000.0, "1 d 1 h"),
    ],
)
def test_a_time_has_its_two_largest_units(seconds, text):
    assert duration_text(seconds) == text


def test_nested_values_stand_side_by_side():
    values = {"a": {"b_c": 1}, "d": [{"e": 1.5}, "f"], "g": [], "h": None}
    assert flat(values) == {"a b c": "1", "d": "1.5, f", "g": "none", "h": "None"}


def test_a_relay_tells_what_it_gives_away():
    relay = {"sessions": 1, "complete": 1, "bytes_relayed": 2_000_000}
    shown = node_rows(read_figures({"relay": relay}))
    assert shown == {"relaying": "1 session, 2.0 MB passed on"}
    busy = read_figures({"relay": relay | {"sessions": 3, "bytes_dropped": 1500}})
    assert node_rows(busy)["relaying"] == (
        "3 sessions, 2.0 MB passed on, 1.5 kB above the limits"
    )


def test_each_turn_server_is_told_with_what_it_lends_or_why_it_does_not():
    servers = [
        {"url": "turn:a.example:3478?transport=udp", "reason": "no answer"},
        {"url": "turn:b.example:3478?transport=udp", "is_in_use": True},
        {"url": "turn:c.example:3478?transport=tcp"},
    ]
    turn = {"servers": servers, "allocation": {"relayed": "192.0.2.5:49152"}}
    assert node_rows(read_figures({"turn": turn})) == {
        "turn": "turn:a.example:3478?transport=udp: no answer, "
        "turn:b.example:3478?transport=udp lends 192.0.2.5:49152, "
        "turn:c.example:3478?transport=tcp is spare"
    }
    assert node_rows(read_figures({"turn": {}})) == {}


def test_whose_relays_are_used_and_what_went_wrong_with_them_is_told():
    use = {
        "sessions": [{"relay": "192.0.2.1:4000", "state": "open"}],
        "failures": [["RelayLimitReached", 2]],
        "last_failure": "relay 192.0.2.9:4000: the time of the session is over",
    }
    shown = node_rows(read_figures({"relay_use": use}))
    assert shown == {
        "relays used": "1 session by 192.0.2.1:4000, 2 RelayLimitReached, last: relay "
        "192.0.2.9:4000: the time of the session is over"
    }
    assert node_rows(read_figures({"relay_use": {}})) == {}


@pytest.mark.parametrize(
    ("gateways", "rows"),
    [
        (Gateways(state="open", known=2), {}),
        (
            Gateways(state="around", held=("wss://a.example", "ws://9.9.9.9")),
            {"udp": "blocked, going by WebSocket: wss://a.example, ws://9.9.9.9"},
        ),
        (
            Gateways(state="blocked", last_failure="refused"),
            {"udp": "blocked, and no gateway lets us in: refused"},
        ),
    ],
)
def test_it_is_told_how_datagrams_leave_where_no_udp_gets_through(gateways, rows):
    assert node_rows(NodeFigures(gateways=gateways)) == rows


def test_a_gateway_tells_what_it_carries():
    carried = WebSocketFigures(clients=2, bytes=3_000_000)
    assert node_rows(NodeFigures(websocket=carried)) == {
        "gateway for": "2 clients by WebSocket, 3.0 MB carried"
    }
