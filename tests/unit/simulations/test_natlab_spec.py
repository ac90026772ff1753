import ipaddress

import pytest

from opnode.core.addresses import is_public, network_of
from opnode.core.errors import ConfigError
from simulations.natlab.plan import make_plan
from simulations.natlab.spec import (
    Host,
    LabSpec,
    Link,
    Nat,
    NatType,
    parse_toml,
    parse_words,
)


def test_words_name_a_host_and_the_nats_in_front_of_it():
    spec = parse_words(["s=open", "a=port/sym"])
    assert spec == LabSpec(
        hosts={"s": Host(), "a": Host(behind="anat")},
        nats={
            "anat1": Nat(type=NatType.SYMMETRIC),
            "anat": Nat(type=NatType.PORT, behind="anat1"),
        },
    )
    assert spec.outermost("a") == "anat1"
    assert spec.depth("a") == 2


def test_toml_says_the_same_as_the_types():
    text = """
        [hosts.a]
        behind = "home"
        junk = 20
        [nats.home]
        type = "full"
        hairpin = true
        binding_s = 30
        table_size = 64
        link = { delay_ms = 15, loss = 0.01, rate = "20mbit" }
    """
    link = Link(delay_ms=15, loss=0.01, rate="20mbit")
    home = Nat(type=NatType.FULL, hairpin=True, binding_s=30, table_size=64, link=link)
    assert parse_toml(text) == LabSpec(
        hosts={"a": Host(behind="home", junk=20)}, nats={"home": home}
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a"], "HOST=TYPE"),
        (["a=cone"], "open, full, addr"),
        (["net=open"], "a-z"),
        (["A=open"], "a-z"),
        (["averyverylongname=open"], "a-z"),
    ],
)
def test_a_word_that_is_none_is_told_with_what_was_expected(words, says):
    with pytest.raises(ConfigError, match=says):
        parse_words(words)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hosts = 5", "Expected `object`"),
        ('[hosts.a]\nbehind = "b"', "a NAT"),
        ('[hosts.a]\n[nats.n]\nbehind = "n"', "a circle"),
        ('[hosts.a]\n[nats.n]\nbehind = "m"\n[nats.m]\nbehind = "n"', "a circle"),
        ("[hosts.a]\n[nats.a]", "not both"),
        ("[hosts.a]\nspeed = 3", "speed"),
        ("[hosts.a]\nlink = { loss = 2 }", "<= 1"),
        ('[hosts.a]\nlink = { rate = "fast" }', "regex"),
        ("[hosts", "hosts.NAME"),
        ('[hosts.a]\n[nats.n]\n[nats.m]\nbehind = "n"\nv6 = true', "public segment"),
    ],
)
def test_a_file_that_describes_no_lab_is_told_where(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_toml(text)


def test_more_stations_than_a_lab_may_have_are_refused():
    with pytest.raises(ConfigError, match="121 stations"):
        LabSpec(hosts={f"h{n}": Host() for n in range(121)}).check()


def test_public_addresses_are_public_and_of_unrelated_networks():
    hosts = {f"h{n}": Host(v6=True) for n in range(100)}
    plan = make_plan(LabSpec(hosts=hosts))
    found = [a for line in plan.lines.values() for a in line.public_addresses]
    assert len(found) == 200
    assert all(map(is_public, found))
    assert len({network_of(address) for address in found}) == 200


def test_every_network_has_addresses_of_its_own_unless_told():
    spec = parse_words(["a=port/port", "b=port", "c=port"])
    plan = make_plan(spec)
    assert len(set(plan.lans.values())) == 4
    shared = ipaddress.IPv4Network("100.64.0.0/10")
    assert [lan.subnet_of(shared) for lan in plan.lans.values()].count(True) == 1
    assert ipaddress.IPv4Address(plan.lines["anat"].address) in plan.lans["anat1"]


def test_a_network_that_is_none_is_told():
    with pytest.raises(ConfigError, match=r"n\.lan"):
        make_plan(LabSpec(hosts={}, nats={"n": Nat(lan="home")}))
