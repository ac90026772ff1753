"""Silence is counted from the first packet that was not answered."""

from opnode.protocols.rudp.path_watch import PathWatch, Silence

PTO = 0.1


def steps(watch: PathWatch, *times: float) -> list[Silence]:
    return [watch.take_step(now, PTO) for now in times]


def test_silence_grows_in_three_steps_within_three_timeouts():
    watch = PathWatch()
    watch.on_eliciting_sent(1.0)
    watch.on_eliciting_sent(1.05)
    assert steps(watch, 1.09, 1.1, 1.15, 1.2, 1.28, 9.0) == [
        Silence.NONE,
        Silence.SUSPECT,
        Silence.NONE,
        Silence.LEAVE,
        Silence.DEAD,
        Silence.NONE,
    ]
    assert watch.deadline(PTO) is None


def test_any_packet_begins_anew():
    watch = PathWatch()
    watch.on_eliciting_sent(1.0)
    assert steps(watch, 1.1, 1.2)[-1] is Silence.LEAVE
    watch.on_heard(40, 1.21)
    assert watch.silence is Silence.NONE
    assert watch.deadline(PTO) is None
    watch.on_eliciting_sent(2.0)
    assert watch.deadline(PTO) == 2.1


def test_a_path_that_owes_nothing_is_never_suspect():
    watch = PathWatch()
    assert steps(watch, 1e9) == [Silence.NONE]
    watch.on_eliciting_sent(1.0)
    watch.reset()
    assert steps(watch, 1e9) == [Silence.NONE]


def test_a_sender_that_falls_silent_is_asked_once():
    watch = PathWatch()
    for _ in range(30):
        watch.on_heard(1000, 5.0)
    assert watch.stall_deadline(PTO) is None
    watch.on_heard(66_000, 5.0)
    assert not watch.takes_stall(5.05, PTO)
    assert watch.takes_stall(5.1, PTO)
    assert not watch.takes_stall(6.0, PTO)


def test_a_path_that_answers_nothing_for_four_timeouts_is_told_to_be_lost():
    watch = PathWatch()
    assert watch.loss_deadline(PTO) is None
    watch.on_eliciting_sent(1.0)
    watch.on_eliciting_sent(1.3)
    assert not watch.takes_loss(1.39, PTO)
    assert watch.takes_loss(1.4, PTO)
    assert not watch.takes_loss(1.5, PTO)
    assert watch.takes_loss(2.4, PTO)
    watch.on_heard(40, 2.5)
    assert watch.loss_deadline(PTO) is None


def test_a_short_path_is_not_lost_because_a_host_was_busy():
    watch = PathWatch()
    watch.on_eliciting_sent(1.0)
    assert watch.loss_deadline(0.01) == 1.4


def test_a_sender_of_small_packets_that_falls_silent_is_asked_once():
    watch = PathWatch()
    for _ in range(31):
        watch.on_heard(60, 5.0)
    assert not watch.was_fed
    watch.on_heard(60, 5.0)
    assert watch.takes_stall(5.1, PTO)
    watch.on_heard(60, 6.0)
    assert not watch.was_fed
