import json
import os
import signal
import threading

import pytest
import trio

from opnode.cli.talk import connected_text
from opnode.core.errors import PeerUnreachable
from opnode.daemon import control_messages as messages

CONNECTED = messages.Connected(
    peer_id="op1x",
    path="direct",
    endpoint="192.0.2.1:5",
    reused=False,
    lookup_ms=1.0,
    introduce_ms=2.0,
    ice_ms=3.0,
    first_byte_ms=7.0,
)


def test_id_shows_the_peer_id_first(opnode, node, tmp_path):
    node.answers[messages.Id] = [
        messages.Identity(peer_id="op1x", node_id="ab", endpoint="e", invite="i")
    ]
    assert opnode("id", "--data", tmp_path).out.startswith("op1x\n")
    ended = opnode("id", "--data", tmp_path, "--json")
    assert json.loads(ended.out)["peer_id"] == "op1x"
    assert ended.code == 0


def test_id_of_a_leaf_says_that_nobody_joins_through_it(opnode, node, tmp_path):
    node.answers[messages.Id] = [
        messages.Identity(peer_id="op1x", node_id="ab", endpoint="e", invite=None)
    ]
    out = opnode("id", "--data", tmp_path).out
    assert "a leaf: others do not reach this node" in out
    assert "invite" not in out
    ended = opnode("id", "--data", tmp_path, "--json")
    assert json.loads(ended.out)["invite"] is None


def status_report(node, **changes):
    fields = {
        "version": "1",
        "peer_id": None,
        "uptime_s": 3725.0,
        "connections": [],
        "node": node,
        "services": {"channels": 9},
    }
    return messages.StatusReport(**{**fields, **changes})


def test_status_shows_role_table_records_and_traffic(opnode, node, tmp_path):
    figures = {
        "role": "server",
        "contacts": 3,
        "joined": True,
        "dht": {
            "records": 7,
            "buckets": [{"depth": 0, "contacts": 3, "sure": 3, "prefix": 0}],
        },
        "rpc": {
            "traffic": [
                {
                    "message": "FIND_NODE",
                    "side": "asked",
                    "datagrams_in": 1,
                    "bytes_in": 70,
                    "datagrams_out": 2,
                    "bytes_out": 3000,
                }
            ]
        },
    }
    connections = [{"name": "ann", "path": "direct"}]
    node.answers[messages.Status] = [status_report(figures, connections=connections)]
    ended = opnode("status", "--data", tmp_path)
    lines = ended.out.splitlines()
    assert lines[0] == "opnode 1, up 1 h 2 min"
    assert " you      nobody: a seed" in lines
    assert " network  joined, 3 contacts" in lines
    assert " records  7 held here" in lines
    assert "   0 bits ###.................    3" in lines
    assert any(line.startswith(" FIND_NODE asked") for line in lines)
    assert "connection to ann" in lines
    assert (ended.code, ended.err) == (0, "")


def test_status_all_shows_every_counter(opnode, node, tmp_path):
    figures = {"contacts": 3, "traffic": {"bytes_out": 77}, "observed": []}
    node.answers[messages.Status] = [status_report(figures)]
    out = opnode("status", "--all", "--data", tmp_path).out
    for text in ("contacts", "traffic bytes out", "77", "channels", "none"):
        assert text in out
    ended = opnode("status", "--data", tmp_path, "--json")
    assert json.loads(ended.out)["node"]["traffic"]["bytes_out"] == 77


def test_status_of_a_node_whose_figures_are_not_ours_shows_them_all(
    opnode, node, tmp_path
):
    node.answers[messages.Status] = [status_report({"dht": {"buckets": "dozens"}})]
    out = opnode("status", "--data", tmp_path).out
    assert "dht buckets" in out
    assert "dozens" in out


def test_status_of_a_node_with_other_figures_shows_them_as_they_are(
    opnode, node, tmp_path
):
    node.answers[messages.Status] = [
        messages.StatusReport(
            version="9",
            peer_id=None,
            uptime_s=5.0,
            connections=[{"name": "ann", "transport": {"packets_sent": "dozens"}}],
            node={},
            services={},
        )
    ]
    assert "dozens" in opnode("status", "--data", tmp_path).out


def test_lookup_shows_devices_and_their_introducers(opnode, node, tmp_path):
    found = messages.PeerFound(
        peer_id="op1x",
        name="ann",
        lookup_ms=1.25,
        created_at=1,
        expires_at=2,
        locations=[
            messages.LocationFound(name="", introducers=["h:1"], certified_until=3)
        ],
    )
    node.answers[messages.Lookup] = [found]
    out = opnode("lookup", "ann", "--data", tmp_path).out
    assert "ann: found in 1.2 ms" in out
    assert "a device without a name, introduced by h:1" in out
    node.answers[messages.Lookup] = [
        messages.PeerFound(
            peer_id="op1x",
            name=None,
            lookup_ms=1.0,
            created_at=None,
            expires_at=None,
            locations=[],
        )
    ]
    assert "no device is online" in opnode("lookup", "ann", "--data", tmp_path).out


def test_ping_shows_the_path_and_each_round_trip(opnode, node, tmp_path):
    node.answers[messages.Ping] = [
        CONNECTED,
        messages.RoundTrip(number=1, ms=0.5),
        messages.RoundTrip(number=2, ms=None),
    ]
    ended = opnode("ping", "ann", "-c", "2", "-i", "0.5", "--data", tmp_path)
    assert "path direct, 192.0.2.1:5 (lookup 1.0 ms" in ended.out
    assert "1: 0.50 ms\n2: no answer\n" in ended.out
    assert node.requests == [messages.Ping(peer="ann", count=2, interval_s=0.5)]


@pytest.mark.parametrize(
    ("connections", "told"), [(1, "hung up\n"), (0, "there was no connection\n")]
)
def test_hangup_tells_whether_there_was_a_connection(
    opnode, node, tmp_path, connections, told
):
    node.answers[messages.HangUp] = [messages.HungUp(connections=connections)]
    assert opnode("hangup", "ann", "--data", tmp_path).out == told
    assert node.requests == [messages.HangUp(peer="ann")]


def test_a_connection_in_use_already_shows_no_old_timings():
    reused = messages.Connected(
        peer_id="op1x",
        path="direct",
        endpoint="e",
        reused=True,
        lookup_ms=None,
        introduce_ms=None,
        ice_ms=None,
    )
    assert connected_text(reused) == "connected already: path direct, e"


def test_a_failure_is_one_line_on_standard_error(opnode, node, tmp_path):
    node.answers[messages.Ping] = [PeerUnreachable("no location answered")]
    ended = opnode("ping", "ann", "--data", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "opnode: no location answered\n"


def test_a_failure_is_one_line_of_json_for_programs(opnode, node, tmp_path):
    node.answers[messages.Ping] = [PeerUnreachable("no location answered")]
    ended = opnode("ping", "ann", "--data", tmp_path, "--json")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out == (
        '{"event":"error","code":"peer_unreachable","message":"no location answered"}\n'
    )


def test_send_asks_for_the_absolute_path(opnode, node, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("content")
    monkeypatch.chdir(tmp_path)
    node.answers[messages.Send] = [
        CONNECTED,
        messages.TransferProgress(done=3, size=7),
        messages.Sent(name="a.txt", size=7, resumed_at=0, seconds=1.0, sha256="00"),
    ]
    ended = opnode("send", "ann", "a.txt", "--data", tmp_path)
    assert "sent a.txt: 7 B" in ended.out
    assert node.requests[0].path == str(tmp_path / "a.txt")
    ended = opnode("send", "ann", "a.txt", "--data", tmp_path, "--json")
    events = [json.loads(line)["event"] for line in ended.out.splitlines()]
    assert events == ["connected", "progress", "sent"]


def test_without_a_node_every_command_says_where_it_looked(opnode, tmp_path):
    (tmp_path / "f").touch()
    for arguments in (
        ["id"],
        ["status"],
        ["lookup", "ann"],
        ["ping", "ann"],
        ["send", "ann", tmp_path / "f"],
        ["chat", "ann"],
        ["contacts", "list"],
    ):
        ended = opnode(*arguments, "--data", tmp_path)
        assert (ended.code, ended.out) == (1, "")
        assert f"no node runs on {tmp_path}" in ended.err
        assert len(ended.err.splitlines()) == 1


def test_ctrl_c_ends_a_command(opnode, node, tmp_path, restored_signals):
    async def interrupt(client):
        os.kill(os.getpid(), signal.SIGINT)
        await trio.sleep_forever()

    node.answers[messages.Ping] = interrupt
    timer = threading.Timer(10, os._exit, (1,))
    timer.start()
    ended = opnode("ping", "ann", "--data", tmp_path)
    timer.cancel()
    assert (ended.code, ended.err.strip()) == (1, "opnode: interrupted")


def test_a_file_whose_name_is_no_text_is_one_clear_line(opnode, node, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"a\xff\x1b[2J")  # noqa: PTH118 - bytes
    with open(path, "wb"):  # noqa: PTH123 - as above
        pass
    ended = opnode("send", "ann", os.fsdecode(path), "--data", tmp_path)
    assert ended.code == 1
    assert "a name in UTF-8" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert node.requests == []


def test_an_invite_can_be_copied_as_one_word(opnode, node, tmp_path):
    invite = f"opnode://{'k' * 52}@a-long-name.of.a.host.example.org:4848"
    identity = messages.Identity(
        peer_id=None, node_id="ab", endpoint="192.0.2.1:4848", invite=invite
    )
    node.answers[messages.Id] = [identity]
    ended = opnode("id", "--data", tmp_path)
    assert invite in ended.out.split()
