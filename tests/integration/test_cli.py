"""The command line as people use it: real processes, real sockets on loopback.

Owns: programs started with `python -m opnode`, and what they print and leave behind.
Refuses to know: what the unit tests of the parts see already.
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

LIMIT_S = 30
LEAVE_S = 1.0
LOOPBACK = ("--listen", "127.0.0.1:0")


class Program:
    """One `opnode ... --json` in the background."""

    def __init__(self, *arguments, is_json=True, stdin=subprocess.DEVNULL):
        words = [*map(str, arguments), *(["--json"] if is_json else [])]
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "opnode", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=stdin,
            text=True,
        )

    def wait_event(self, name):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError(f"ended before {name}: {self.process.stderr.read()}")

    def wait_line(self, part):
        for line in self.process.stdout:
            if part in line:
                return line
        raise AssertionError(f"ended before {part}: {self.process.stderr.read()}")

    def end(self, number=signal.SIGTERM):
        """Returns exit code, seconds it took, and standard error."""
        started_at = time.perf_counter()
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, time.perf_counter() - started_at, errors


def opnode(*arguments, typed=None):
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "opnode", *map(str, arguments)],
        input=typed,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def events_of(ended):
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture
def start():
    programs = []

    def start(*arguments, **options):
        programs.append(Program(*arguments, **options))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


@pytest.fixture
def seed(start, tmp_path):
    program = start("seed", *LOOPBACK, "--data", tmp_path / "seed")
    program.invite = program.wait_event("ready")["invite"]
    return program


@pytest.fixture
def pair(start, seed, tmp_path):
    """Two nodes that are ready: ann takes files from bob, her contact."""
    up = ("up", *LOOPBACK, "--bootstrap", seed.invite)
    inbox = ("--accept", "contacts", "--inbox", tmp_path / "inbox")
    ann = start(*up, *inbox, "--data", tmp_path / "ann")
    bob = start(*up, "--data", tmp_path / "bob")
    for program, name in ((ann, "ann"), (bob, "bob")):
        program.data = ("--data", tmp_path / name)
        program.invite = seed.invite
        program.peer_id = program.wait_event("ready")["peer_id"]
    events_of(opnode("contacts", "add", "bob", bob.peer_id, *ann.data, "--json"))
    events_of(opnode("contacts", "add", "ann", ann.peer_id, *bob.data, "--json"))
    return ann, bob


def test_two_people_find_each_other_and_talk(pair, tmp_path):
    ann, bob = pair
    (identity,) = events_of(opnode("id", *bob.data, "--json"))
    assert identity["peer_id"] == bob.peer_id
    (found,) = events_of(opnode("lookup", "ann", *bob.data, "--json"))
    assert len(found["locations"]) == 1
    connected, *trips = events_of(
        opnode("ping", ann.peer_id, "-c", "2", "-i", "0.05", *bob.data, "--json")
    )
    assert (connected["path"], len(trips)) == ("direct", 2)
    assert connected["first_byte_ms"] > 0

    said = opnode("chat", "ann", *bob.data, "--json", typed="hello\n")
    assert [e["event"] for e in events_of(said)] == ["chatting", "delivered"]
    assert ann.wait_event("chat")["text"] == "hello"

    file = tmp_path / "a.bin"
    file.write_bytes(random.Random(1).randbytes(3_000_000))
    sent = events_of(opnode("send", "ann", file, *bob.data, "--json"))[-1]
    assert (sent["event"], sent["name"]) == ("sent", "a.bin")
    assert (tmp_path / "inbox" / "a.bin").read_bytes() == file.read_bytes()
    again = events_of(opnode("send", "ann", file, *bob.data, "--json"))[-1]
    assert again["name"] == "a (1).bin"

    declined = opnode("send", "bob", file, *ann.data)
    assert declined.returncode == 1
    assert "no terminal" in declined.stderr
    (status,) = events_of(opnode("status", *ann.data, "--json"))
    assert status["connections"][0]["name"] == "bob"


def test_a_lookup_is_traced_and_a_node_examined(pair, tmp_path):
    ann, bob = pair
    *hops, traced = events_of(opnode("trace", "ann", *bob.data, "--json"))
    assert [hop["outcome"] for hop in hops] == ["answered"]
    assert (traced["records"], traced["complete"]) == (2, True)
    shown = opnode("trace", "bob", *ann.data).stdout.splitlines()
    assert shown[-1].startswith("found: 2 records at 1 node")

    examined = opnode("doctor", *bob.data, "--json")
    assert examined.returncode == 0
    begun, *checks, diagnosis = events_of(examined)
    assert begun["running"] is True
    verdicts = {check["name"]: check["verdict"] for check in checks}
    assert {"joined", "seed", "clock", "storage", "write", "traffic"} <= {
        name for name, verdict in verdicts.items() if verdict == "ok"
    }
    assert diagnosis["bad"] == 0

    trial = opnode("doctor", "--data", tmp_path / "none", "--bootstrap", bob.invite)
    assert trial.returncode == 0
    assert "examining a trial node, in memory" in trial.stdout


@pytest.fixture
def terminal():
    """Both ends of a terminal: where a person types, and what a program reads."""
    typing, reading = os.openpty()
    yield typing, reading
    os.close(typing)
    os.close(reading)


@pytest.mark.parametrize(("answer", "code"), [(b"yes\n", 0), (b"\n", 1)])
def test_the_user_is_asked_and_decides(pair, start, terminal, tmp_path, answer, code):
    ann, bob = pair
    typing, reading = terminal
    ann.end()
    up = ("up", *LOOPBACK, "--bootstrap", ann.invite, *ann.data)
    inbox = ("--accept", "ask", "--inbox", tmp_path / "inbox")
    ann = start(*up, *inbox, is_json=False, stdin=reading)
    ann.wait_line("ready")
    file = tmp_path / "a.txt"
    file.write_text("content")
    sending = start("send", "ann", file, *bob.data, is_json=False)
    ann.wait_line("offers a.txt (7 B). Take it? [y/N]")
    os.write(typing, answer)
    _, errors = sending.process.communicate(timeout=LIMIT_S)
    assert sending.process.returncode == code, errors
    assert (tmp_path / "inbox" / "a.txt").exists() is (code == 0)
    assert ("the user declined" in errors) is (code == 1)


def test_a_transfer_goes_on_after_the_receiver_was_killed(pair, seed, start, tmp_path):
    ann, bob = pair
    file = tmp_path / "large.bin"
    file.write_bytes(random.Random(1).randbytes(1 << 20) * 300)
    sending = start("send", "ann", file, *bob.data)
    sending.wait_event("progress")
    ann.process.kill()
    ann.process.communicate()
    assert not (tmp_path / "inbox" / "large.bin").exists()
    up = ("up", *LOOPBACK, "--bootstrap", seed.invite, *ann.data)
    start(*up, "--accept", "contacts", "--inbox", tmp_path / "inbox")
    sending.wait_event("sent")
    sending.process.communicate(timeout=LIMIT_S)
    assert (tmp_path / "inbox" / "large.bin").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_cleanly_within_a_second(pair, number):
    for program in pair:
        code, seconds, errors = program.end(number)
        assert (code, errors) == (0, "")
        assert seconds < LEAVE_S
        assert not (Path(program.data[1]) / "control.sock").exists()


def test_a_node_and_a_seed_keep_their_keys_over_a_restart(seed, pair, start, tmp_path):
    _, bob = pair
    bob.end()
    seed.end()
    again = start("seed", *LOOPBACK, "--data", tmp_path / "seed").wait_event("ready")
    key = seed.invite.partition("@")[0]
    assert again["invite"].partition("@")[0] == key
    up = ("up", *LOOPBACK, "--bootstrap", again["invite"], *bob.data)
    assert start(*up).wait_event("ready")["peer_id"] == bob.peer_id


def test_each_entry_gets_its_verdict_and_the_node_keeps_trying(seed, start, tmp_path):
    address = seed.invite.partition("@")[2]
    other_key = "opnode://" + "a" * 51 + "q@" + address
    unresolvable = "no-such-host.invalid:4848"
    entries = [f"--bootstrap={entry}" for entry in (other_key, unresolvable)]
    node = start("up", *LOOPBACK, *entries, "--data", tmp_path / "ann")
    verdicts = {}
    while len(verdicts) < 2:
        event = node.wait_event("bootstrap")
        verdicts[event["entry"]] = event["verdict"]
    assert verdicts[unresolvable] == "does not resolve"
    assert verdicts[other_key] == "answered with another key"
    (status,) = events_of(opnode("status", "--data", tmp_path / "ann", "--json"))
    assert status["node"]["joined"] is False


def fails_with_one_line(*arguments):
    ended = opnode(*arguments)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return ended.stderr


def test_what_stands_in_the_way_of_a_start_is_one_clear_line(seed, tmp_path):
    data = tmp_path / "seed"
    pid = seed.process.pid
    error = fails_with_one_line("seed", *LOOPBACK, "--data", data)
    assert f"in use by process {pid}" in error

    port = seed.invite.rpartition(":")[2]
    taken = ("--listen", f"127.0.0.1:{port}")
    error = fails_with_one_line("up", *taken, "--data", tmp_path / "x")
    assert port in error

    seed.end()
    (data / "node.key").chmod(0o644)
    assert "chmod 600" in fails_with_one_line("seed", *LOOPBACK, "--data", data)
    (data / "node.key").chmod(0o600)
    before = (data / "node.key").read_bytes()
    (data / "node.key").write_bytes(before[:-9])
    assert "node.key" in fails_with_one_line("seed", *LOOPBACK, "--data", data)
    assert (data / "node.key").read_bytes() == before[:-9]


def test_a_half_written_contact_cache_is_set_aside(start, tmp_path):
    data = tmp_path / "seed"
    data.mkdir()
    (data / "contacts.json").write_text('{"version":1,"conta')
    program = start("seed", *LOOPBACK, "--data", data)
    program.wait_event("ready")
    _, _, errors = program.end()
    assert errors.count("contacts.json") >= 1
    assert len(errors.splitlines()) == 1
    assert (data / "contacts.json.corrupt-1").exists()


def children_of(pid):
    """Processes are started from worker threads, so every thread is asked."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(text) for children in lists for text in children.read_text().split()]


def wait_ended(pid):
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(descriptor) as process:
        assert select.select([process], [], [], LIMIT_S)[0], f"{pid} still runs"


@pytest.fixture
def temporary(monkeypatch):
    """A temporary directory of its own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def test_the_demo_succeeds_and_leaves_nothing_behind(temporary):
    ended = opnode("demo", "--json")
    (result,) = events_of(ended)
    assert result["ok"] is True
    assert result["sha256_match"] is True
    assert result["path"] == "direct"
    assert result["bytes"] == 64 << 20
    assert result["bytes"] // 2 <= result["seed_killed_at_byte"] < result["bytes"]
    assert list(temporary.iterdir()) == []


def test_the_demo_tells_its_story(temporary, tmp_path):
    file = tmp_path / "small.txt"
    file.write_text("small")
    ended = opnode("demo", file)
    assert ended.returncode == 0
    for word in ("seed", "joined", "published", "lookup", "introduction", "ICE"):
        assert word in ended.stdout
    assert "same SHA-256" in ended.stdout


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_ends_the_demo_with_everything_it_started(temporary, start, signals):
    demo = start("demo", is_json=False)
    demo.wait_line("the caller joined")
    children = children_of(demo.process.pid)
    assert len(children) == 3
    for _ in range(signals - 1):
        demo.process.send_signal(signal.SIGINT)
    code, seconds, errors = demo.end(signal.SIGINT)
    assert code == 1
    assert seconds < LEAVE_S
    assert "Traceback" not in errors
    for child in children:
        wait_ended(child)
    assert list(temporary.iterdir()) == []
