"""`judgement`: each fact has a verdict, and each bad one says what to do."""

import pytest

from opnode.daemon.figures import (
    Bucket,
    Budget,
    DhtFigures,
    NodeFigures,
    Reachability,
    RpcFigures,
)
from opnode.daemon.judgement import (
    ENTRY_ADVICE,
    DiskFacts,
    Health,
    judge_clock,
    judge_entries,
    judge_joined,
    judge_reachable,
    judge_storage,
    judge_table,
    judge_traffic,
    judge_write,
)
from opnode.node.bootstrap import BootstrapEntry, Verdict, VerdictKind
from opnode.node.checkup import ClockFacts, WriteFacts

ENTRY = BootstrapEntry(bytes(32), "seed.example.org", 4848)
ALONE = NodeFigures(contacts=0, joined=False)
JOINED = NodeFigures(contacts=20, joined=True)


def clock(agree=0, ahead=0, behind=0, at_least_s=0):
    return ClockFacts(
        tolerance_s=120,
        agree=agree,
        ahead=ahead,
        behind=behind,
        at_least_s=at_least_s,
    )


def write(asked=8, took=8, read=8, refusals=()):
    return WriteFacts(
        asked=asked, took=took, read=read, refusals=refusals, seconds=0.25
    )


def table(contacts=20, sure=20, alarm=None, size=400.0):
    buckets = (
        Bucket(depth=1, contacts=contacts, sure=sure),
        Bucket(depth=2, contacts=0, sure=0),
    )
    dht = DhtFigures(buckets=buckets, alarm=alarm, network_size=size)
    return NodeFigures(contacts=contacts, dht=dht)


def budget(**changes):
    fields = {
        "packets_per_s": 50.0,
        "packets_per_s_used": 1.25,
        "endpoints_per_min": 60.0,
        "endpoints_per_min_used": 7.0,
    }
    return NodeFigures(rpc=RpcFigures(budget=Budget(**{**fields, **changes})))


def role(told, *, networks=0, failures=0):
    proof = Reachability(is_proven=networks > 0, networks=networks, failures=failures)
    return NodeFigures(configured_role=told, reachability=proof)


def disk(damage=None, aside=0, free=10**11):
    return DiskFacts(damage, aside, free)


def held(records=3):
    return NodeFigures(dht=DhtFigures(records=records))


JUDGED = [
    (judge_joined(JOINED), Health.OK, "20 contacts"),
    (judge_joined(ALONE), Health.BAD, "knows no other node"),
    (judge_joined(NodeFigures()), Health.BAD, "knows no other node"),
    (judge_joined(NodeFigures(contacts=0, joined=True)), Health.WARN, "first node"),
    (judge_reachable(NodeFigures()), Health.UNKNOWN, "nobody dialled back yet"),
    (judge_reachable(role("auto")), Health.UNKNOWN, "nobody dialled back yet"),
    (judge_reachable(role("auto", failures=2)), Health.WARN, "in 2 rounds"),
    (judge_reachable(role("auto", networks=3)), Health.OK, "3 unrelated networks"),
    (judge_reachable(role("leaf")), Health.OK, "not needed by a leaf"),
    (
        judge_reachable(
            NodeFigures(configured_role="server", observed=("h:1",), behind_nat=True)
        ),
        Health.UNKNOWN,
        "told so, without a proof; others see it at h:1, behind a NAT",
    ),
    (judge_clock(clock()), Health.UNKNOWN, "not known"),
    (judge_clock(clock(agree=5)), Health.OK, "within 2 minutes of 5 of 5 nodes"),
    (judge_clock(clock(agree=4, ahead=1)), Health.OK, "4 of 5"),
    (judge_clock(clock(agree=1, ahead=1, behind=1)), Health.WARN, "1 of 3"),
    (
        judge_clock(clock(agree=1, ahead=4, at_least_s=3600)),
        Health.BAD,
        "at least 1 hour slow, by 4 of 5 nodes",
    ),
    (
        judge_clock(clock(behind=1, at_least_s=172_800)),
        Health.BAD,
        "at least 2 days fast, by 1 of 1 node",
    ),
    (judge_table(NodeFigures()), Health.UNKNOWN, "not known"),
    (
        judge_table(table()),
        Health.OK,
        "20 contacts of about 400 nodes, 20 sure, 1 of 2 buckets",
    ),
    (judge_table(table(sure=9)), Health.WARN, "9 sure"),
    (judge_table(table(alarm="key ab: 9 nodes")), Health.WARN, "key ab: 9 nodes"),
    (judge_table(table(contacts=2, sure=2)), Health.WARN, "2 contacts"),
    (judge_table(table(contacts=2, sure=2, size=2.0)), Health.OK, "of about 2 nodes"),
    (judge_table(table(contacts=0, sure=0)), Health.BAD, "0 contacts"),
    (judge_table(NodeFigures(contacts=0, joined=True)), Health.WARN, "0 contacts"),
    (judge_storage(None, held()), Health.OK, "3 records, in memory alone"),
    (judge_storage(disk(), held(1)), Health.OK, "1 record; 100.0 GB"),
    (judge_storage(disk(), held(None)), Health.OK, "an unknown number"),
    (judge_storage(disk(free=None), held()), Health.OK, "holds 3 records"),
    (judge_storage(disk(damage="page 7"), held()), Health.BAD, "damaged: page 7"),
    (judge_storage(disk(free=10**6), held()), Health.BAD, "0.0 GB"),
    (judge_storage(disk(free=10**8), held()), Health.WARN, "0.1 GB"),
    (judge_storage(disk(aside=2), held()), Health.WARN, "2 damaged files set aside"),
    (judge_write(write(asked=0, took=0, read=0)), Health.UNKNOWN, "not tried"),
    (judge_write(write()), Health.OK, "8 of 8 nodes took a test record, 8 gave"),
    (judge_write(write(read=3)), Health.WARN, "3 gave it back"),
    (judge_write(write(read=0)), Health.BAD, "0 gave it back"),
    (
        judge_write(write(took=0, read=0, refusals=(("store full", 8),))),
        Health.BAD,
        "0 of 8 nodes took a test record: 8 said store full",
    ),
    (judge_traffic(NodeFigures()), Health.UNKNOWN, "not measured"),
    (judge_traffic(budget()), Health.OK, "1.2 of 50 packets a second, 7 of 60 new"),
    (judge_traffic(budget(is_short=True)), Health.OK, "background work waits"),
    (judge_traffic(budget(is_spent=True)), Health.WARN, "7 of 60"),
]


@pytest.mark.parametrize(("finding", "health", "words"), JUDGED)
def test_a_fact_has_its_verdict(finding, health, words):
    assert finding.health is health
    assert words in finding.text


@pytest.mark.parametrize(("finding", "health", "words"), JUDGED)
def test_what_is_not_well_says_what_to_do_and_what_is_well_does_not(
    finding, health, words
):
    assert bool(finding.advice) is (health in (Health.WARN, Health.BAD))


def test_each_way_in_which_an_entry_fails_has_its_own_advice():
    kinds = set(VerdictKind) - {VerdictKind.ANSWERED}
    assert set(ENTRY_ADVICE) == kinds
    assert len(set(ENTRY_ADVICE.values())) == len(kinds)
    for kind in kinds:
        (finding,) = judge_entries([Verdict(ENTRY, kind)], ALONE)
        assert finding.health is Health.BAD
        assert f"seed.example.org:4848: {kind.value}" in finding.text


def test_an_entry_that_fails_is_no_emergency_for_a_node_that_is_in():
    silent = Verdict(ENTRY, VerdictKind.NO_ANSWER)
    (finding,) = judge_entries([silent], JOINED)
    assert finding.health is Health.WARN
    good = Verdict(ENTRY, VerdictKind.ANSWERED)
    first, second = judge_entries([silent, good], ALONE)
    assert (first.health, second.health) == (Health.WARN, Health.OK)
    assert second.text.endswith("proved its key")


def test_a_wrong_key_is_bad_even_for_a_node_that_is_in():
    (finding,) = judge_entries([Verdict(ENTRY, VerdictKind.WRONG_KEY)], JOINED)
    assert finding.health is Health.BAD


def test_an_entry_without_a_key_proves_nothing():
    entry = BootstrapEntry(None, "192.0.2.1", 1)
    (finding,) = judge_entries([Verdict(entry, VerdictKind.ANSWERED)], JOINED)
    assert "pins no key" in finding.text


def test_a_node_without_entries_is_well_only_if_it_knows_somebody():
    assert judge_entries([], ALONE)[0].health is Health.BAD
    assert judge_entries([], JOINED)[0].health is Health.OK
