"""`reach_judgement`: each fact has a verdict, and each bad one says what to do."""

import pytest

from opnode.daemon.figures import (
    Attempt,
    AttemptCandidate,
    AttemptCheck,
    Binding,
    Introducer,
    Ipv6,
    Nat,
    NodeFigures,
    PortMapping,
    Presence,
    Reachability,
)
from opnode.daemon.judgement import Health
from opnode.daemon.reach_judgement import (
    judge_attempts,
    judge_binding,
    judge_introducers,
    judge_ipv6,
    judge_mapping,
    judge_nat,
    judge_odds,
)

PROVEN = Reachability(is_proven=True, networks=3, failures=0)


def behind(kind, *, proof=None, reporters=5, **others):
    nat = Nat(kind=kind, host="9.9.9.9", port=61_000, step=1, reporters=reporters)
    return NodeFigures(nat=nat, reachability=proof, behind_nat=True, **others)


def person(**fields):
    return NodeFigures(peer_id="ann", contacts=20, **fields)


@pytest.mark.parametrize(
    ("figures", "health", "words"),
    [
        (NodeFigures(), Health.UNKNOWN, "0 networks told"),
        (behind("unknown", reporters=2), Health.UNKNOWN, "2 networks told"),
        (behind("a kind of tomorrow"), Health.UNKNOWN, "not known"),
        (behind("none", proof=PROVEN), Health.OK, "this machine's own address"),
        (
            NodeFigures(nat=Nat(kind="unknown"), reachability=PROVEN, behind_nat=False),
            Health.OK,
            "this machine's own address",
        ),
        (behind("none"), Health.OK, "a firewall"),
        (behind("independent"), Health.OK, "one port for all"),
        (behind("independent", proof=PROVEN), Health.OK, "everybody gets in"),
        (behind("sequential"), Health.OK, "in steps of 1"),
        (behind("random"), Health.WARN, "drawn at random"),
    ],
)
def test_the_nat_is_told_in_plain_words(figures, health, words):
    finding = judge_nat(figures)
    assert finding.health is health
    assert words in finding.text
    assert bool(finding.advice) == (health is Health.WARN)


@pytest.mark.parametrize(
    ("figures", "health", "words"),
    [
        (NodeFigures(), Health.OK, "not needed"),
        (person(), Health.UNKNOWN, "not measured"),
        (
            person(presence=Presence(binding=Binding(interval_s=25.0))),
            Health.UNKNOWN,
            "every 25 s",
        ),
        (
            person(presence=Presence(binding=Binding(interval_s=118, survived_s=120))),
            Health.OK,
            "120 s of silence",
        ),
        (
            person(
                presence=Presence(
                    binding=Binding(interval_s=13, survived_s=15, lost_s=20)
                )
            ),
            Health.WARN,
            "less than 20 s",
        ),
    ],
)
def test_the_lifetime_of_a_binding_is_what_was_measured(figures, health, words):
    finding = judge_binding(figures)
    assert finding.health is health
    assert words in finding.text


def asked(state):
    return PortMapping(
        state=state,
        method="PCP",
        router="192.168.1.1",
        external="10.0.0.2:4848",
        lifetime_s=600.0,
        reason="no router answers",
    )


@pytest.mark.parametrize(
    ("figures", "health", "words"),
    [
        (NodeFigures(behind_nat=False), Health.OK, "not needed"),
        (behind("independent"), Health.OK, "no router"),
        (behind("random"), Health.WARN, "no router"),
        (behind("random", mapped=("9.9.9.9:4848",)), Health.OK, "9.9.9.9:4848"),
        (
            behind("random", mapped=("9.9.9.9:4848",), mapping=asked("mapped")),
            Health.OK,
            "asked at 192.168.1.1 by PCP for 600 s at a time",
        ),
        (behind("independent", mapping=asked("off")), Health.OK, "none was asked"),
        (behind("random", mapping=asked("asking")), Health.WARN, "being asked"),
        (
            behind("random", mapping=asked("behind another NAT")),
            Health.WARN,
            "192.168.1.1 does, behind another NAT (10.0.0.2:4848)",
        ),
        (behind("random", mapping=asked("none")), Health.WARN, "no router answers"),
    ],
)
def test_a_mapping_matters_where_nothing_else_helps(figures, health, words):
    finding = judge_mapping(figures)
    assert finding.health is health
    assert words in finding.text


@pytest.mark.parametrize(
    ("ipv6", "health", "words"),
    [
        (None, Health.UNKNOWN, "not known"),
        (Ipv6(is_carried=False), Health.OK, "IPv4 alone"),
        (Ipv6(is_carried=True), Health.OK, "no public address"),
        (
            Ipv6(is_carried=True, addresses=("2600::5",), is_seen=True),
            Health.OK,
            "2600::5; others see it",
        ),
        (Ipv6(is_carried=False, addresses=("2600::5",)), Health.WARN, "IPv4 alone"),
    ],
)
def test_ipv6_that_is_there_and_not_used_is_worth_a_word(ipv6, health, words):
    finding = judge_ipv6(NodeFigures(ipv6=ipv6))
    assert finding.health is health
    assert words in finding.text


@pytest.mark.parametrize(
    ("figures", "health"),
    [
        (NodeFigures(), Health.OK),
        (person(), Health.BAD),
        (person(introducers=(Introducer(endpoint="9.9.9.9:1"),)), Health.WARN),
        (
            person(introducers=(Introducer(endpoint="9.9.9.9:1"),), role="server"),
            Health.OK,
        ),
        (person(introducers=(Introducer(endpoint="9.9.9.9:1"),) * 3), Health.OK),
    ],
)
def test_a_person_needs_introducers(figures, health):
    assert judge_introducers(figures).health is health


def attempt(nominated=None, *, is_over=True, age_s=5.0):
    return Attempt(
        age_s=age_s,
        cause="introduction",
        local=(AttemptCandidate(kind="host", endpoint="192.168.1.5:4000"),),
        checks=(
            AttemptCheck(remote="9.9.9.9:4000", kind="srflx", outcome="no answer"),
            AttemptCheck(remote="10.0.0.1:4000", kind="host", outcome="not tried"),
        ),
        nominated=nominated,
        is_over=is_over,
    )


@pytest.mark.parametrize(
    ("made", "health", "words"),
    [
        (attempt("9.9.9.9:4000"), Health.OK, "direct to 9.9.9.9:4000"),
        (attempt(is_over=False), Health.UNKNOWN, "under way"),
        (attempt(), Health.WARN, "no direct path"),
    ],
)
def test_an_attempt_names_its_addresses_and_which_check_died(made, health, words):
    (finding,) = judge_attempts(person(attempts=(made,)))
    assert finding.health is health
    assert words in finding.text
    assert "told it host 192.168.1.5:4000" in finding.text
    assert "srflx 9.9.9.9:4000 no answer" in finding.text
    assert finding.facts["srflx 9.9.9.9:4000"] == "no answer"


def test_the_last_attempts_are_told_newest_first():
    assert judge_attempts(NodeFigures()) == ()
    (none,) = judge_attempts(person())
    assert none.health is Health.OK
    made = tuple(attempt(age_s=float(age)) for age in (9, 3, 7, 1, 5))
    told = [finding.text[:3] for finding in judge_attempts(person(attempts=made))]
    assert told == ["1 s", "3 s", "5 s", "7 s"]


def test_the_odds_are_told_by_the_nat_of_the_peer():
    assert judge_odds(NodeFigures()).health is Health.UNKNOWN
    finding = judge_odds(behind("sequential"))
    assert finding.facts["port-restricted"] == "direct by prediction"
    assert finding.facts["open"] == "direct"
    assert finding.facts["symmetric, random ports"] == "relay"
    assert finding.facts["UDP blocked"] == "relay"
    assert "direct: open; full cone; address-restricted" in finding.text
    open_to_all = judge_odds(behind("independent", proof=PROVEN))
    assert set(open_to_all.facts.values()) == {"direct", "relay"}
