"""When slow start ends (RFC 9406)."""

from opnode.protocols.rudp.congestion.hystart import HyStart, SlowStartPhase


class Rounds:
    """Feeds round trips, sixteen a round."""

    def __init__(self) -> None:
        self.hystart = HyStart()
        self.number = 0

    def feed(self, *rtts_s: float | None) -> SlowStartPhase:
        for rtt_s in rtts_s:
            for place in range(16):
                self.number += 1
                self.hystart.on_ack(
                    rtt_s,
                    largest_acked=self.number,
                    next_number=self.number + 16 - place,
                )
        return self.hystart.phase


def test_a_constant_round_trip_keeps_slow_start_going():
    assert Rounds().feed(*[0.05] * 20) is SlowStartPhase.FAST


def test_an_eighth_more_makes_growth_four_times_slower():
    rounds = Rounds()
    assert rounds.feed(0.05, 0.05) is SlowStartPhase.FAST
    assert rounds.hystart.growth(4000) == 4000
    assert rounds.feed(0.057) is SlowStartPhase.CONSERVATIVE
    assert rounds.hystart.growth(4000) == 1000


def test_growth_of_less_than_four_milliseconds_is_noise():
    assert Rounds().feed(0.001, 0.001, 0.0045) is SlowStartPhase.FAST


def test_growth_of_sixteen_milliseconds_is_a_queue_on_the_longest_path():
    assert Rounds().feed(1.0, 1.0, 1.017) is SlowStartPhase.CONSERVATIVE


def test_a_queue_that_goes_on_growing_ends_slow_start():
    rounds = Rounds()
    assert rounds.feed(0.05, 0.057, 0.065) is SlowStartPhase.DONE
    assert rounds.hystart.growth(4000) == 0


def test_a_queue_that_stays_for_five_rounds_ends_slow_start():
    rounds = Rounds()
    assert rounds.feed(0.05, *[0.057] * 5) is SlowStartPhase.CONSERVATIVE
    assert rounds.feed(0.057) is SlowStartPhase.DONE


def test_a_round_trip_that_falls_back_resumes_slow_start():
    rounds = Rounds()
    assert rounds.feed(0.05, 0.057) is SlowStartPhase.CONSERVATIVE
    assert rounds.feed(0.05) is SlowStartPhase.FAST


def test_acknowledgements_without_a_round_trip_say_nothing():
    assert Rounds().feed(0.05, None, None) is SlowStartPhase.FAST
