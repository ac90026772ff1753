import dataclasses
import json
from pathlib import Path

import pytest

from opnode.cli import run as run_module
from opnode.cli.output import Output
from opnode.cli.run import SEED_LISTEN, DaemonView, RunOptions
from opnode.core.addresses import Endpoint
from opnode.core.errors import PeerUnreachable
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon.contact_watch import ContactsChanged
from opnode.daemon.daemon import Ready, RoleChanged
from opnode.daemon.services import (
    AcceptPolicy,
    ChatLine,
    FileArrived,
    FileFailed,
    FileProgress,
)
from opnode.node.bootstrap import BootstrapEntry, Verdict, VerdictKind
from opnode.node.config import Role
from opnode.node.joining import JoinReport

ANN = PeerId(bytes([1]) * 32)
ENTRY = BootstrapEntry(None, "192.0.2.1", 4848)
READY = Ready(
    endpoint="0.0.0.0:4848",
    invite="opnode://key@0.0.0.0:4848",
    node_id="ab",
    peer_id=None,
    contacts=0,
    seconds=0.5,
)


@pytest.fixture
def started(monkeypatch):
    """The options that a command would run a node with."""
    seen = []

    def note(options, **flags):
        seen.append(options)

    monkeypatch.setattr(run_module, "_run", note)
    return seen


def view(*, is_json=False, is_seed=False, listen=SEED_LISTEN):
    options = RunOptions(
        data=Path("/data"),
        listen=listen,
        bootstrap=(),
        role=Role.AUTO,
        accept=AcceptPolicy.ASK,
        inbox=Path("/inbox"),
        is_seed=is_seed,
    )
    return DaemonView(Output(is_json=is_json), options)


def test_up_takes_its_options(opnode, started, tmp_path):
    entries = ["--bootstrap", "192.0.2.1:4848", "--bootstrap", "[::1]:5"]
    opnode(
        *["up", "--data", tmp_path, "--listen", "127.0.0.1:7", *entries],
        *["--role", "leaf", "--accept", "never", "--inbox", tmp_path / "in"],
        *["--name", "Ännes Rechner", "--qlog", tmp_path / "logs"],
    )
    (options,) = started
    assert options == RunOptions(
        data=tmp_path,
        listen=Endpoint("127.0.0.1", 7),
        bootstrap=(ENTRY, BootstrapEntry(None, "::1", 5)),
        role=Role.LEAF,
        accept=AcceptPolicy.NEVER,
        inbox=tmp_path / "in",
        is_seed=False,
        name="Ännes Rechner",
        qlog=tmp_path / "logs",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x" * 33, "found 33 bytes, expected at most 32"),
        ("ä" * 17, "found 34 bytes, expected at most 32"),
        ("a\x1b[2J", r"found 'a\x1b[2J', expected printable text"),
        ("a\udcff", r"found 'a\udcff', expected printable text"),
    ],
)
def test_a_name_that_no_certificate_carries_is_wrong_use(
    opnode, started, tmp_path, name, text
):
    ended = opnode("up", "--data", tmp_path, "--name", name)
    assert ended.code == 2
    assert "'--name'" in ended.err
    assert text in ended.err
    assert started == []


def test_a_device_has_no_name_unless_it_is_given_one(opnode, started, tmp_path):
    opnode("up", "--data", tmp_path)
    opnode("up", "--data", tmp_path, "--name", "ä" * 16)
    assert [options.name for options in started] == ["", "ä" * 16]


async def test_the_name_reaches_the_node(monkeypatch, tmp_path):
    configs = []

    def note(config):
        configs.append(config)
        raise PeerUnreachable("far enough")

    monkeypatch.setattr(run_module, "open_node", note)
    named = view()
    options = dataclasses.replace(named._options, name="desk")
    with pytest.raises(PeerUnreachable):
        await run_module._run_node(options, named)
    assert configs[0].location_name == "desk"


def test_a_seed_listens_on_the_port_of_its_invite_and_has_a_directory_of_its_own(
    opnode, started, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    opnode("seed")
    (options,) = started
    assert options.listen.port == 4848
    assert options.role is Role.SERVER
    assert options.data == tmp_path / "opnode-seed"


def seeds(path, *entries):
    path.write_text(json.dumps({"version": 1, "network": "main", "seeds": entries}))


def test_seeds_come_from_the_data_directory_then_from_here(
    opnode, started, tmp_path, monkeypatch
):
    here, data = tmp_path / "here", tmp_path / "data"
    here.mkdir()
    data.mkdir()
    monkeypatch.chdir(here)
    opnode("up", "--data", data)
    seeds(here / "bootstrap_seeds.json", "192.0.2.1:4848")
    opnode("up", "--data", data)
    seeds(data / "bootstrap_seeds.json", "192.0.2.2:4848")
    opnode("up", "--data", data)
    seeds(tmp_path / "named.json", "192.0.2.3:4848")
    opnode("up", "--data", data, "--seeds", tmp_path / "named.json")
    hosts = [[entry.host for entry in options.bootstrap] for options in started]
    assert hosts == [[], ["192.0.2.1"], ["192.0.2.2"], ["192.0.2.3"]]


def test_wrong_json_in_the_seeds_file_is_one_clear_line(opnode, started, tmp_path):
    (tmp_path / "bootstrap_seeds.json").write_text('{"version": 1')
    ended = opnode("up", "--data", tmp_path)
    assert ended.code == 1
    assert "bootstrap_seeds.json" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert started == []


def test_an_inbox_that_no_file_could_go_into_is_told_at_the_start(
    opnode, started, tmp_path
):
    (tmp_path / "file").touch()
    inbox = tmp_path / "file" / "inbox"
    ended = opnode("up", "--data", tmp_path, "--inbox", inbox)
    assert ended.code == 1
    assert ended.err.startswith(f"opnode: inbox: found {inbox}")
    assert len(ended.err.splitlines()) == 1
    assert started == []
    new = tmp_path / "new" / "inbox"
    assert opnode("up", "--data", tmp_path, "--inbox", new).code == 0
    assert not new.parent.exists()
    never = opnode("up", "--data", tmp_path, "--inbox", inbox, "--accept", "never")
    assert never.code == 0


@pytest.mark.parametrize(
    ("report", "verdict", "text"),
    [
        (
            JoinReport(Verdict(ENTRY, VerdictKind.NO_ANSWER), 0),
            "no answer",
            "192.0.2.1:4848: no answer",
        ),
        (
            JoinReport(Verdict(ENTRY, VerdictKind.ANSWERED), 3),
            "joined",
            "192.0.2.1:4848: joined with 3 contacts",
        ),
        (
            JoinReport(Verdict(ENTRY, VerdictKind.WRONG_KEY, detail="found x"), 0),
            "answered with another key",
            "192.0.2.1:4848: answered with another key (found x)",
        ),
    ],
)
def test_every_entry_has_its_verdict(capsys, report, verdict, text):
    view().show(report)
    assert capsys.readouterr().out == f"{text}\n"
    view(is_json=True).show(report)
    assert json.loads(capsys.readouterr().out)["verdict"] == verdict


def test_a_seed_prints_its_invite_and_how_to_complete_it(capsys):
    view(is_seed=True).show(READY)
    out = capsys.readouterr().out
    assert READY.invite in out
    assert "write that one instead" in out
    assert out.endswith("ready\n")
    view(is_seed=True, listen=Endpoint("192.0.2.1", 1)).show(READY)
    assert "in place" not in capsys.readouterr().out
    view(is_json=True).show(READY)
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["invite"]) == ("ready", READY.invite)


def test_the_invite_of_a_leaf_is_null_for_programs(capsys):
    leaf = dataclasses.replace(READY, peer_id="op1x", invite=None)
    view(is_json=True).show(leaf)
    assert json.loads(capsys.readouterr().out)["invite"] is None


def test_a_change_of_role_is_shown_with_the_invite(capsys):
    view().show(RoleChanged(Role.SERVER, "opnode://key@192.0.2.1:4848"))
    view().show(RoleChanged(Role.LEAF, None))
    out = capsys.readouterr().out
    assert "role: server" in out
    assert "opnode://key@192.0.2.1:4848" in out
    assert "role: leaf" in out
    view(is_json=True).show(RoleChanged(Role.LEAF, None))
    event = json.loads(capsys.readouterr().out)
    assert event == {"event": "role", "role": "leaf", "invite": None}


def test_a_node_without_entries_says_how_to_name_one(capsys):
    view().started(ANN, "0.0.0.0:5", 0)
    out = capsys.readouterr().out
    assert format_peer_id(ANN) in out
    assert "the invite of a seed, or of a node that runs with --role server" in out
    assert "with: opnode seed" in out


def test_what_peers_do_is_shown(capsys, tmp_path):
    shown = view()
    for done in range(0, 101, 5):
        shown.show(FileProgress(peer_id=ANN, name="a", done=done, size=100))
    arrived = FileArrived(
        peer_id=ANN, petname="ann", path=tmp_path / "a", size=100, sha256=b"\x01"
    )
    shown.show(arrived)
    shown.show(FileFailed(peer_id=ANN, petname=None, reason="stalled"))
    shown.show(ChatLine(peer_id=ANN, petname="ann", text="hello [b]"))
    out = capsys.readouterr().out
    assert out.count("receiving a") == 4
    assert "(100 B) from ann" in out
    assert "stalled" in out
    assert "ann says: hello [b]" in out


def test_programs_see_what_peers_do(capsys, tmp_path):
    shown = view(is_json=True)
    shown.show(FileProgress(peer_id=ANN, name="a", done=50, size=100))
    shown.show(FileProgress(peer_id=ANN, name="a", done=50, size=100))
    arrived = FileArrived(
        peer_id=ANN, petname="ann", path=tmp_path / "a", size=100, sha256=b"\x01"
    )
    shown.show(arrived)
    shown.show(FileFailed(peer_id=ANN, petname=None, reason="stalled"))
    shown.show(ChatLine(peer_id=ANN, petname=None, text="hello"))
    shown.started(ANN, "e", 1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == [
        "file progress",
        "file arrived",
        "file failed",
        "chat",
        "started",
    ]
    assert all(line["peer_id"] == format_peer_id(ANN) for line in lines)


def test_being_alone_and_its_end_are_told(capsys):
    view().show(ContactsChanged(0))
    view().show(ContactsChanged(1))
    view().leaving()
    assert capsys.readouterr().out == (
        "the last contact is gone: this node tries to join again\n"
        "in touch with others: 1 contact\n"
        "saying good-bye to the network\n"
    )
    programs = view(is_json=True)
    programs.show(ContactsChanged(2))
    programs.leaving()
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"event": "contacts", "contacts": 2},
        {"event": "leaving"},
    ]
