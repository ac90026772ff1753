"""The lab keeps its word: each NAT does what RFC 4787 calls it, and nothing remains."""

import os
import socket
import subprocess
import sys
import time

import msgspec
import pytest

from simulations.natlab import namespaces
from simulations.natlab.lab import Lab
from simulations.natlab.spec import Host, LabSpec, Link, Nat, NatType, parse_words

CONES = (NatType.FULL, NatType.ADDRESS, NatType.PORT)
SYMMETRIC = (NatType.SYMMETRIC, NatType.SEQUENTIAL)


def home(**settings):
    """Two hosts behind one NAT, and two public ones."""
    hosts = {"a": Host(behind="nat"), "b": Host(behind="nat")}
    return LabSpec(
        hosts={**hosts, "s": Host(), "t": Host()}, nats={"nat": Nat(**settings)}
    )


@pytest.mark.parametrize("kind", CONES)
def test_a_cone_maps_a_socket_to_one_port_whoever_is_sent_to(laboratory, wire, kind):
    net = wire(laboratory(home(type=kind)))
    inner, s, t = net.udp("a", 5000), net.udp("s"), net.udp("t")
    mapped = net.seen(inner, "s", s)
    assert mapped == net.seen(inner, "t", t)
    assert mapped[0] == net.lab.address("nat")
    assert mapped[1] != 5000
    assert net.seen(net.udp("b", 5000), "s", s) != mapped


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_a_symmetric_nat_maps_a_socket_to_a_port_for_each_peer(laboratory, wire, kind):
    net = wire(laboratory(home(type=kind)))
    inner, s, s2, t = net.udp("a"), net.udp("s"), net.udp("s"), net.udp("t")
    seen = [net.seen(inner, "s", s), net.seen(inner, "s", s2), net.seen(inner, "t", t)]
    assert len(set(seen)) == 3
    assert net.seen(inner, "s", s) == seen[0]


def test_a_sequential_nat_takes_the_next_port_for_each_new_mapping(laboratory, wire):
    net = wire(laboratory(home(type=NatType.SEQUENTIAL)))
    inner = net.udp("a")
    ports = [net.seen(inner, "s", net.udp("s"))[1] for _ in range(4)]
    assert [port - ports[0] for port in ports] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "same_host", "stranger"),
    [
        (NatType.FULL, True, True),
        (NatType.ADDRESS, True, False),
        (NatType.PORT, False, False),
        (NatType.SYMMETRIC, False, False),
        (NatType.SEQUENTIAL, False, False),
    ],
)
def test_the_filter_of_a_nat_lets_in_whom_its_type_says(
    laboratory, wire, kind, same_host, stranger
):
    net = wire(laboratory(home(type=kind)))
    inner, s, s2, t = net.udp("a"), net.udp("s"), net.udp("s"), net.udp("t")
    mapped = net.seen(inner, "s", s)
    s.sendto(b"answer", mapped)
    assert net.heard(inner) == net.at("s", s)
    s2.sendto(b"other port", mapped)
    assert (net.heard(inner) is not None) is same_host
    t.sendto(b"other host", mapped)
    assert (net.heard(inner) is not None) is stranger


def test_whoever_knocks_too_early_does_not_take_the_port_of_the_mapping(
    laboratory, wire
):
    net = wire(laboratory(home(type=NatType.PORT)))
    inner, s, t = net.udp("a"), net.udp("s"), net.udp("t")
    mapped = net.seen(inner, "s", s)
    t.sendto(b"early", mapped)
    assert net.seen(inner, "t", t) == mapped


def test_a_nat_that_blocks_udp_lets_tcp_out(laboratory, wire):
    lab = laboratory(home(type=NatType.BLOCKED))
    net = wire(lab)
    assert net.seen(net.udp("a"), "s", net.udp("s")) is None
    code = (
        "import socket,sys; s=socket.socket(); s.settimeout(3);"
        "sys.exit(s.connect_ex((sys.argv[1], 9)) != 111)"
    )
    command = lab.command("a", sys.executable, "-c", code, lab.address("s"))
    assert subprocess.run(command, check=False).returncode == 0  # noqa: S603 - ours


@pytest.mark.parametrize("hairpin", [True, False])
def test_hosts_behind_one_nat_reach_each_others_mapping_if_it_hairpins(
    laboratory, wire, hairpin
):
    net = wire(laboratory(home(type=NatType.PORT, hairpin=hairpin)))
    a, b, s = net.udp("a"), net.udp("b"), net.udp("s")
    outer_a, outer_b = net.seen(a, "s", s), net.seen(b, "s", s)
    b.sendto(b"hello", outer_a)
    # RFC 4787 REQ-9 a: with the outer address as its source.
    assert net.heard(a) == (outer_b if hairpin else None)


def test_guests_of_one_network_do_not_hear_each_other(laboratory, wire):
    net = wire(laboratory(home(isolated=True, hairpin=True)))
    a, b, s = net.udp("a"), net.udp("b"), net.udp("s")
    assert net.seen(b, "a", a) is None
    outer_a, outer_b = net.seen(a, "s", s), net.seen(b, "s", s)
    b.sendto(b"hello", outer_a)
    assert net.heard(a) == outer_b


def test_a_mapping_ends_when_it_was_idle_for_its_time(laboratory, wire):
    net = wire(laboratory(home(type=NatType.FULL, binding_s=2)))
    inner, s = net.udp("a"), net.udp("s")
    mapped = net.seen(inner, "s", s)
    s.sendto(b"soon", mapped)
    assert net.heard(inner) is not None
    # The kernel looks at its timers once a second.
    assert [net.heard(inner) for _ in range(15)] == [None] * 15
    s.sendto(b"late", mapped)
    assert net.heard(inner) is None


def test_a_full_table_refuses_further_mappings_and_keeps_those_it_has(laboratory, wire):
    net = wire(laboratory(home(table_size=4)))
    inner = net.udp("a")
    servers = [net.udp("s") for _ in range(6)]
    reached = [net.seen(inner, "s", one) is not None for one in servers]
    assert reached == [True] * 4 + [False] * 2
    assert net.seen(inner, "s", servers[0]) is not None


def test_a_nat_behind_a_nat_translates_twice(laboratory, wire):
    net = wire(laboratory("a=port/sym", "s=open"))
    assert net.seen(net.udp("a"), "s", net.udp("s"))[0] == net.lab.address("anat1")


def test_packets_take_what_both_ends_of_their_way_add(laboratory, wire):
    slow = Host(link=Link(delay_ms=20))
    net = wire(laboratory(LabSpec(hosts={"a": slow, "b": slow})))
    a, b = net.udp("a"), net.udp("b")
    net.seen(a, "b", b)  # finds out the neighbours
    started_at = time.perf_counter()
    net.seen(a, "b", b)
    assert 0.04 <= time.perf_counter() - started_at < 0.2
    net.lab.set_delays({("a", "b"): 1})
    took_s = []
    for _ in range(5):
        started_at = time.perf_counter()
        net.seen(a, "b", b)
        took_s.append(time.perf_counter() - started_at)
    assert min(took_s) < 0.04


def test_a_share_of_the_packets_is_lost(laboratory, wire):
    net = wire(laboratory(LabSpec(hosts={"a": Host(link=Link(loss=0.5)), "b": Host()})))
    a, b = net.udp("a"), net.udp("b")
    for _ in range(400):
        a.sendto(b"x", net.at("b", b))
    (flow,) = net.lab.flows()
    assert 100 < flow.packets < 300


def test_a_line_carries_no_more_than_its_rate(laboratory, wire):
    slow = Host(link=Link(rate="8mbit"))
    net = wire(laboratory(LabSpec(hosts={"a": slow, "b": Host()})))
    a, b = net.udp("a"), net.udp("b")
    started_at = time.perf_counter()
    for _ in range(1000):
        a.sendto(bytes(1000), net.at("b", b))
    # A megabyte takes a second, of which the queues hold a part.
    assert time.perf_counter() - started_at > 0.5


def test_a_firewall_for_ipv6_lets_in_only_what_was_asked_for(laboratory, wire):
    spec = LabSpec(
        hosts={"a": Host(behind="nat"), "s": Host(v6=True)}, nats={"nat": Nat(v6=True)}
    )
    net = wire(laboratory(spec))
    a, s = (net.udp(host, family=socket.AF_INET6) for host in ("a", "s"))
    assert net.seen(s, "a", a) is None
    assert net.seen(a, "s", s) == net.at("a", a)
    assert net.seen(s, "a", a) == net.at("s", s)


def test_a_host_moves_to_another_network_and_has_another_address(laboratory, wire):
    net = wire(laboratory("a=port", "b=full", "s=open"))
    net.lab.move("a", "bnat")
    moved = net.seen(net.udp("a"), "s", net.udp("s"))
    assert moved[0] == net.lab.address("bnat")


def test_flows_tell_what_crossed_the_public_segment_and_nothing_else(laboratory, wire):
    net = wire(laboratory(home()))
    a, b, s = net.udp("a"), net.udp("b"), net.udp("s")
    assert net.seen(a, "b", b) == net.at("a", a)
    assert net.lab.flows() == []
    net.seen(a, "s", s)
    (flow,) = net.lab.flows()
    assert flow[:4] == (net.lab.address("nat"), net.lab.address("s"), "udp", 1)
    net.lab.clear_flows()
    assert net.lab.flows() == []


def test_what_two_hosts_had_with_each_other_can_be_forgotten(laboratory, wire):
    net = wire(laboratory("a=port", "s=open", "t=open"))
    inner, s, t = net.udp("a"), net.udp("s"), net.udp("t")
    mapped = net.seen(inner, "s", s)
    net.seen(inner, "t", t)
    net.lab.forget("a", "s")
    s.sendto(b"forgotten", mapped)
    assert net.heard(inner) is None
    t.sendto(b"kept", mapped)
    assert net.heard(inner) == net.at("t", t)


def test_a_change_of_type_holds_at_once(laboratory, wire):
    net = wire(laboratory(home()))
    inner, s = net.udp("a"), net.udp("s")
    assert net.seen(inner, "s", s) is not None
    net.lab.change_nat("nat", Nat(type=NatType.BLOCKED))
    assert net.seen(inner, "s", s) is None


def test_two_hosts_behind_nats_are_up_within_a_second():
    lab = Lab(parse_words(["a=port", "b=sym", "s=open"]))
    times = []
    for _ in range(3):
        started_at = time.perf_counter()
        with lab:
            times.append(time.perf_counter() - started_at)
    assert min(times) < 1


def test_nothing_remains_of_a_lab_and_its_processes():
    with Lab(parse_words(["a=port", "s=open"])) as lab:
        command = lab.command("a", "sleep", "60")
        process = subprocess.Popen(command)  # noqa: S603 - ours
        prefix = f"{namespaces.PREFIX}{lab.name}-"
        assert len(namespaces.existing(prefix)) == 4
    assert process.wait(30) != 0
    assert namespaces.existing(prefix) == []


def test_what_a_crashed_process_left_behind_goes_with_the_next_lab(laboratory):
    code = (
        "import os\n"
        "from simulations.natlab.lab import Lab\n"
        "from simulations.natlab.spec import parse_words\n"
        "lab = Lab(parse_words(['a=port']))\n"
        "lab.up()\n"
        "print(lab.name, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    crashed = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    prefix = f"{namespaces.PREFIX}{crashed.stdout.strip()}-"
    assert len(namespaces.existing(prefix)) == 3, crashed.stderr
    laboratory("a=open")
    assert namespaces.existing(prefix) == []


def test_a_user_without_rights_is_told_so_in_one_line(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert namespaces.obstacle() == "no NAT lab: network namespaces need root"


def test_a_lab_that_cannot_be_built_leaves_nothing(monkeypatch):
    bad = msgspec.structs.replace(parse_words(["a=port"]), nats={"anat": Nat()})
    lab = Lab(bad)
    lab.plan.lines["a"] = nonsense(lab.plan.lines["a"])
    with pytest.raises(namespaces.LabFailed, match="ip -batch"):
        lab.up()
    assert namespaces.existing(f"{namespaces.PREFIX}{lab.name}-") == []


def nonsense(line):
    """The same line with an address that is none."""
    values = {name: getattr(line, name) for name in type(line).__slots__}
    return type(line)(**{**values, "v4": "nonsense"})
