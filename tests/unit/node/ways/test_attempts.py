from opnode.core.addresses import Candidate, Endpoint
from opnode.drivers.connections import Path, PathKind
from opnode.drivers.ice.connection import CheckOutcome, CheckView
from opnode.node.ways.attempts import AttemptLog
from opnode.node.ways.direct import Attempt, Cause
from opnode.testing.overlay import open_overlay

THERE = Endpoint("9.9.9.9", 4000)


def attempt(began_s, nominated=None):
    return Attempt(
        began_s=began_s,
        cause=Cause.INTRODUCTION,
        generation=0,
        local=(Candidate(kind="host", endpoint=THERE, priority=1, foundation="h"),),
        checks=(CheckView(THERE, "srflx", CheckOutcome.FAILED),),
        nominated=nominated,
        is_over=True,
    )


def test_an_attempt_is_told_as_it_stands_when_somebody_asks():
    log, stands = AttemptLog(), [attempt(3.0)]
    log.note(bytes(32), lambda: stands[-1])
    (before,) = log.statistics(10.0)
    assert (before.age_s, before.nominated) == (7.0, None)
    stands.append(attempt(3.0, Path(PathKind.DIRECT, THERE)))
    (after,) = log.statistics(11.0)
    assert after.nominated == THERE
    assert after.checks == stands[-1].checks
    assert log.attempts() == (stands[-1],)


def test_only_the_newest_are_kept():
    log = AttemptLog(limit=2)
    for began_s in (1.0, 2.0, 3.0):
        log.note(bytes(32), lambda began_s=began_s: attempt(began_s))
    assert [one.began_s for one in log.attempts()] == [2.0, 3.0]


async def test_both_ends_of_a_connect_have_a_record_of_it(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        await alice.connect(bob.peer_id)
        for node, other in ((alice, bob), (bob, alice)):
            (made,) = node.statistics().attempts
            assert made.peer_id == other.peer_id
            assert made.nominated == other.endpoint
            assert made.is_over
            assert CheckOutcome.ANSWERED in [check.outcome for check in made.checks]
