"""Which path is better: rank before round trip, and doubt in what fell silent."""

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.path import Path
from opnode.protocols.rudp.path_choice import PathChoice, best_of


def path(number: int, *, rank: int = 0, rtt_s: float | None = None) -> Path:
    made = Path(
        Endpoint("192.0.2.1", number),
        rtt_s=0.1,
        min_pto_s=0.01,
        max_packet_size=1200,
    )
    made.rank = rank
    if rtt_s is not None:
        for token in (b"1", b"2", b"3", b"4"):
            made.on_challenge_sent(token, 60, 0.0, 1.0)
            made.on_response(token, rtt_s)
    return made


def test_a_lower_rank_is_preferred_at_once_however_long_it_is():
    relay, direct = path(1, rank=2, rtt_s=0.01), path(2, rtt_s=0.5)
    assert PathChoice().prefers(direct, relay, None)
    assert not PathChoice().prefers(relay, direct, None)


def test_within_a_rank_three_answers_in_a_row_have_to_be_shorter():
    slow, quick = path(1, rtt_s=0.2), path(2, rtt_s=0.05)
    choice = PathChoice()
    assert [choice.prefers(quick, slow, None) for _ in range(3)] == [
        False,
        False,
        True,
    ]
    assert not any(choice.prefers(slow, quick, None) for _ in range(9))


def test_what_data_measured_speaks_for_the_active_path():
    slow, quick = path(1, rtt_s=0.2), path(2, rtt_s=0.05)
    choice = PathChoice()
    assert not any(choice.prefers(quick, slow, 0.05) for _ in range(9))


def test_unmeasured_paths_are_not_compared():
    assert not any(
        PathChoice().prefers(path(1), path(2, rtt_s=0.1), None) for _ in range(5)
    )


def test_a_path_that_was_left_for_a_worse_one_has_to_answer_more_each_time():
    relay, direct = path(1, rank=2, rtt_s=0.01), path(2, rtt_s=0.5)
    choice = PathChoice()
    needed = []
    for _ in range(6):
        choice.moved(direct, relay)
        count = 1
        while not choice.prefers(direct, relay, None):
            count += 1
        needed.append(count)
        choice.moved(relay, direct)
    assert needed == [3, 6, 12, 24, 24, 24]


def test_a_forgotten_path_is_not_doubted():
    relay, direct = path(1, rank=2, rtt_s=0.01), path(2, rtt_s=0.5)
    choice = PathChoice()
    choice.moved(direct, relay)
    choice.forget(direct)
    assert choice.prefers(direct, relay, None)


def test_in_need_what_answered_since_comes_first_then_rank_then_length():
    dead, relay, long = path(1), path(2, rank=2), path(3)
    dead.answered_at, relay.answered_at, long.answered_at = 1.0, 5.0, 5.0
    assert best_of([dead, relay], 4.0) is relay
    assert best_of([dead, relay, long], 4.0) is long
    short = path(4, rtt_s=0.05)
    short.answered_at = 5.0
    assert best_of([long, short], 4.0) is short
    assert best_of([], 0.0) is None
