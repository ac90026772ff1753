"""Limits that only grow, and windows that fit their reader."""

import pytest

from opnode.protocols.rudp.credit import Credit

RTT_S = 0.1


def test_credit_is_low_once_half_a_window_was_consumed():
    credit = Credit(initial=100, maximum=100)
    assert not credit.consume(49, 0.0)
    assert credit.consume(1, 0.0)
    assert credit.is_low
    assert not credit.consume(1, 0.0)
    assert credit.raise_limit() == 151
    assert not credit.is_low
    assert credit.consume(51, 0.0)


def test_credit_never_falls():
    credit = Credit(initial=100, maximum=10)
    assert credit.raise_limit() == 100


def test_the_window_of_a_fast_reader_doubles_up_to_its_maximum():
    credit = Credit(initial=100, maximum=500)
    windows = []
    for turn in range(4):
        assert credit.consume(credit.window // 2, turn * RTT_S)
        credit.tune(turn * RTT_S, RTT_S, 1 << 20)
        credit.raise_limit()
        windows.append(credit.window)
    assert windows == [200, 400, 500, 500]


@pytest.mark.parametrize(("spare", "window"), [(30, 130), (0, 100), (-5, 100)])
def test_a_window_takes_no_more_than_there_is_to_spare(spare, window):
    credit = Credit(initial=100, maximum=500)
    credit.consume(50, 0.0)
    assert credit.tune(0.0, RTT_S, spare) == window - 100
    assert credit.window == window


def test_a_window_is_left_alone_that_was_read_in_a_few_round_trips():
    credit = Credit(initial=100, maximum=500)
    credit.consume(50, 0.0)
    credit.tune(0.0, RTT_S, 1000)
    credit.raise_limit()
    credit.consume(100, 5 * RTT_S)
    assert credit.tune(5 * RTT_S, RTT_S, 1000) == 0


def test_the_window_of_a_slow_reader_shrinks_to_what_it_was_at_first():
    credit = Credit(initial=100, maximum=500)
    credit.consume(50, 0.0)
    assert credit.tune(0.0, RTT_S, 1000) == 100
    assert credit.tune(100.0, RTT_S, 1000) == -100
    assert credit.tune(200.0, RTT_S, 1000) == 0
    assert credit.window == 100


def test_pauses_of_a_busy_process_count_as_a_round_trip():
    credit = Credit(initial=100, maximum=500)
    credit.consume(50, 0.0)
    credit.raise_limit()
    credit.consume(50, 0.03)
    assert credit.tune(0.03, 0.0001, 1000) == 100
