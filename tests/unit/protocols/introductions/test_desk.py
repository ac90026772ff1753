"""The desk: copies of offers, glare, withdrawals, limits, counters."""

from dataclasses import replace

import pytest

from opnode.core.errors import (
    IntroductionRefused,
    LocalProtocolError,
    RefusalCode,
    RemoteProtocolError,
)
from opnode.protocols.introductions import (
    IncomingIntroduction,
    IncomingWithdrawn,
    IntroductionConfig,
    IntroductionState,
    OutgoingIntroduction,
    OutgoingSuperseded,
)
from opnode.protocols.introductions.messages import MAX_WITHDRAWN
from opnode.protocols.introductions.parts import MAX_SEALED
from tests.unit.protocols.introductions.people import (
    WALL_NOW,
    Person,
    desk_of,
)


def call(caller: Person, callee: Person, now: float = 0.0) -> OutgoingIntroduction:
    return caller.desk.offer(callee.location.certificate, caller.ice, now)


def hear(
    callee: Person, outgoing: OutgoingIntroduction, now: float = 0.0
) -> IncomingIntroduction:
    incoming = callee.desk.receive_offer_untrusted(
        outgoing.message, now, wall_now=WALL_NOW
    )
    assert incoming is not None
    return incoming


def refusal(
    callee: Person, outgoing: OutgoingIntroduction, now: float = 0.0
) -> RefusalCode:
    with pytest.raises(IntroductionRefused) as caught:
        callee.desk.receive_offer_untrusted(outgoing.message, now, wall_now=WALL_NOW)
    return caught.value.code


def people(config: IntroductionConfig | None = None) -> tuple[Person, Person]:
    return Person.named("alice", config), Person.named("bob", config)


def crossing() -> tuple[Person, Person, OutgoingIntroduction, OutgoingIntroduction]:
    """Two calls that cross: the winner and its offer first, then the loser."""
    alice, bob = people()
    hers, his = call(alice, bob), call(bob, alice)
    if hers.digest < his.digest:
        return alice, bob, hers, his
    return bob, alice, his, hers


# --- Copies of an offer ---


def test_i_6_a_copy_of_an_answered_offer_gets_the_same_answer_for_thirty_seconds():
    alice, bob = people()
    outgoing = call(alice, bob)
    assert bob.desk.cached_answer(outgoing.message, 0.0) is None
    answer, _ = hear(bob, outgoing).answer(bob.ice)
    assert bob.desk.cached_answer(outgoing.message, 29.9) == answer
    assert bob.desk.cached_answer(outgoing.message, 30.0) is None


def test_i_7_a_copy_of_an_answered_offer_makes_no_second_introduction():
    alice, bob = people()
    outgoing = call(alice, bob)
    hear(bob, outgoing).answer(bob.ice)
    assert refusal(bob, outgoing, 1.0) is RefusalCode.EXPIRED
    assert refusal(bob, outgoing, 100_000.0) is RefusalCode.EXPIRED
    assert bob.desk.statistics().offers_taken == 1


def test_i_6_a_copy_of_an_offer_under_decision_is_met_with_silence():
    alice, bob = people()
    outgoing = call(alice, bob)
    hear(bob, outgoing)
    assert bob.desk.cached_answer(outgoing.message, 0.0) is None
    again = bob.desk.receive_offer_untrusted(outgoing.message, 0.0, wall_now=WALL_NOW)
    assert again is None


@pytest.mark.parametrize("code", [RefusalCode.DECLINED, RefusalCode.BUSY])
def test_a_copy_of_a_declined_offer_is_refused_with_the_same_code(code: RefusalCode):
    alice, bob = people()
    outgoing = call(alice, bob)
    hear(bob, outgoing).decline(code)
    assert bob.desk.cached_answer(outgoing.message, 0.0) is None
    assert refusal(bob, outgoing) is code


def test_an_offer_left_undecided_for_thirty_seconds_is_over():
    alice, bob = people()
    incoming = hear(bob, call(alice, bob))
    call(bob, Person.named("carol"), now=30.0)
    assert incoming.state is IntroductionState.FINISHED
    with pytest.raises(IntroductionRefused, match="undecided"):
        incoming.answer(bob.ice)
    assert bob.desk.statistics().deciding == 0


def test_an_offer_is_not_over_before_its_thirty_seconds():
    alice, bob = people()
    incoming = hear(bob, call(alice, bob))
    call(bob, Person.named("carol"), now=29.9)
    incoming.answer(bob.ice)


def test_a_finished_incoming_introduction_answers_no_more_copies():
    alice, bob = people()
    outgoing = call(alice, bob)
    incoming = hear(bob, outgoing)
    incoming.answer(bob.ice)
    bob.desk.finish(incoming)
    assert bob.desk.cached_answer(outgoing.message, 1.0) is None
    assert refusal(bob, outgoing, 1.0) is RefusalCode.EXPIRED


def test_an_incoming_introduction_finished_before_its_decision_is_gone():
    alice, bob = people()
    incoming = hear(bob, call(alice, bob))
    bob.desk.finish(incoming)
    with pytest.raises(IntroductionRefused):
        incoming.decline()
    assert bob.desk.statistics().deciding == 0


# --- Glare ---


def test_i_4_of_two_offers_that_cross_the_lower_digest_goes_on():
    winner, loser, winning, losing = crossing()
    assert refusal(winner, losing) is RefusalCode.GLARE
    answer, at_loser = hear(loser, winning).answer(loser.ice)
    assert loser.desk.next_event() == OutgoingSuperseded(winner.static, losing.digest)
    assert loser.desk.next_event() is None
    at_winner = winning.receive_answer_untrusted(answer, WALL_NOW)
    assert at_winner.keys.handshake_hash == at_loser.keys.handshake_hash


def test_i_4_the_answer_to_a_superseded_offer_is_refused_as_glare():
    winner, loser, winning, losing = crossing()
    winner.desk.finish(winning)
    answer, _ = hear(winner, losing).answer(winner.ice)
    hear(loser, winning)
    with pytest.raises(IntroductionRefused) as caught:
        losing.receive_answer_untrusted(answer, WALL_NOW)
    assert caught.value.code is RefusalCode.GLARE
    loser.desk.finish(losing)
    assert losing.state is IntroductionState.SUPERSEDED


def test_an_offer_refused_for_glare_is_taken_once_our_own_is_given_up():
    winner, loser, winning, losing = crossing()
    assert refusal(winner, losing) is RefusalCode.GLARE
    winner.desk.finish(winning)
    hear(winner, losing).answer(winner.ice)
    assert loser.desk.next_event() is None


def test_i_5_whoever_took_a_call_does_not_call_back():
    alice, bob = people()
    incoming = hear(bob, call(alice, bob))
    for _ in range(2):
        with pytest.raises(IntroductionRefused, match="is calling us") as caught:
            call(bob, alice)
        assert caught.value.code is RefusalCode.GLARE
        if incoming.state is IntroductionState.PENDING:
            incoming.answer(bob.ice)
    call(bob, Person.named("carol"))


def test_i_5_calling_back_is_free_after_finish_decline_or_thirty_seconds():
    for ending in ("finish", "decline", "time"):
        alice, bob = people()
        incoming = hear(bob, call(alice, bob))
        if ending == "decline":
            incoming.decline()
        else:
            incoming.answer(bob.ice)
        if ending == "finish":
            bob.desk.finish(incoming)
        call(bob, alice, now=30.0 if ending == "time" else 1.0)


# --- Withdrawals ---


def test_i_8_a_new_attempt_withdraws_the_one_given_up_before():
    alice, bob = people()
    first = call(alice, bob)
    hear(bob, first).answer(bob.ice)
    alice.desk.finish(first)
    second = call(alice, bob, 1.0)
    hear(bob, second, 1.0).answer(bob.ice)
    assert bob.desk.next_event() == IncomingWithdrawn(alice.static, first.digest)
    assert bob.desk.next_event() is None
    assert bob.desk.cached_answer(first.message, 1.0) is None
    assert refusal(bob, first, 1.0) is RefusalCode.EXPIRED


def test_i_8_an_undecided_offer_is_withdrawn_as_well():
    alice, bob = people()
    first = call(alice, bob)
    incoming = hear(bob, first)
    alice.desk.finish(first)
    hear(bob, call(alice, bob))
    assert bob.desk.next_event() == IncomingWithdrawn(alice.static, first.digest)
    with pytest.raises(IntroductionRefused, match="withdrawn"):
        incoming.answer(bob.ice)


def test_i_8_an_offer_overtaken_by_its_own_withdrawal_is_refused():
    alice, bob = people()
    first = call(alice, bob)
    alice.desk.finish(first)
    hear(bob, call(alice, bob))
    assert refusal(bob, first) is RefusalCode.EXPIRED


def test_i_8_an_answer_withdraws_the_answerers_superseded_offer():
    winner, loser, winning, losing = crossing()
    answer, _ = hear(loser, winning).answer(loser.ice)
    winning.receive_answer_untrusted(answer, WALL_NOW)
    assert refusal(winner, losing) is RefusalCode.EXPIRED


def test_i_8_nobody_withdraws_the_offers_of_others():
    alice, bob = people()
    mallory = Person.named("mallory")
    hers = call(alice, bob)
    seen_on_the_way = hers.digest[:16]
    half = mallory.desk.own_half(bob.static, mallory.ice, b"")
    lie = replace(half, withdrawn=(seen_on_the_way,))
    mallory.desk.own_half = lambda *_: lie  # type: ignore[method-assign] # a liar
    mallorys = call(mallory, bob)
    hear(bob, mallorys)
    hear(bob, hers).answer(bob.ice)
    mallory.desk.finish(mallorys)
    hear(bob, call(mallory, bob))
    assert bob.desk.next_event() is None
    assert bob.desk.cached_answer(hers.message, 0.0) is not None


def test_only_the_latest_withdrawals_are_carried_along():
    alice, bob = people()
    for _ in range(MAX_WITHDRAWN + 3):
        alice.desk.finish(call(alice, bob))
    assert len(alice.desk.own_half(bob.static, alice.ice, b"").withdrawn) == 4
    assert len(call(alice, bob).message) <= MAX_SEALED


def test_withdrawals_are_forgotten_once_the_other_side_has_heard_them():
    alice, bob = people()
    alice.desk.finish(call(alice, bob))
    outgoing = call(alice, bob)
    answer, _ = hear(bob, outgoing).answer(bob.ice)
    outgoing.receive_answer_untrusted(answer, WALL_NOW)
    assert alice.desk.own_half(bob.static, alice.ice, b"").withdrawn == ()


def test_withdrawals_are_kept_for_a_bounded_number_of_locations():
    alice, bob = people(IntroductionConfig(max_callers=2))
    for name in ("bob", "carol", "dave"):
        alice.desk.finish(call(alice, Person.named(name)))
    assert alice.desk.own_half(bob.static, alice.ice, b"").withdrawn == ()


# --- Limits and misuse ---


def test_i_9_offers_beyond_the_undecided_limit_are_refused_as_busy():
    _, bob = people(IntroductionConfig(max_deciding=2))
    for name in ("carol", "dave"):
        hear(bob, call(Person.named(name), bob))
    assert refusal(bob, call(Person.named("erin"), bob)) is RefusalCode.BUSY


def test_i_9_one_caller_cannot_fill_the_desk():
    bob = Person.named("bob")
    alice = Person.named("alice")
    for number in range(3):
        # A desk that forgets, as after a restart, withdraws nothing.
        alice.desk = desk_of(alice.location, seed=f"life {number}")
        outgoing = call(alice, bob)
        if number == 2:
            assert refusal(bob, outgoing) is RefusalCode.BUSY
        else:
            hear(bob, outgoing)


def test_i_9_decisions_are_kept_in_a_bounded_number():
    bob = Person.named("bob", IntroductionConfig(max_decided=2))
    offers = [call(Person.named(name), bob) for name in ("carol", "dave", "erin")]
    for outgoing in offers:
        hear(bob, outgoing).answer(bob.ice)
    assert bob.desk.cached_answer(offers[0].message, 0.0) is None
    assert bob.desk.cached_answer(offers[2].message, 0.0) is not None
    assert refusal(bob, offers[0]) is RefusalCode.EXPIRED


def test_i_9_calls_beyond_the_limit_are_refused_as_busy():
    alice = Person.named("alice", IntroductionConfig(max_outgoing=1))
    call(alice, Person.named("bob"))
    with pytest.raises(IntroductionRefused) as caught:
        call(alice, Person.named("carol"))
    assert caught.value.code is RefusalCode.BUSY


def test_a_location_is_called_once_at_a_time_and_never_by_itself():
    alice, bob = people()
    outgoing = call(alice, bob)
    with pytest.raises(LocalProtocolError, match="finish that call first"):
        call(alice, bob)
    alice.desk.finish(outgoing)
    call(alice, bob)
    with pytest.raises(LocalProtocolError, match="itself"):
        call(alice, alice)


def test_a_location_with_a_low_order_key_cannot_be_called():
    alice, bob = people()
    useless = replace(bob.location.certificate, static_public=bytes(32))
    with pytest.raises(RemoteProtocolError, match="low-order"):
        alice.desk.offer(useless, alice.ice, 0.0)


def test_an_offer_in_our_own_name_is_refused():
    alice = Person.named("alice")
    twin = Person.named("alice")
    twin.desk._own_static = b""  # a thief of our keys has no such scruples
    assert refusal(alice, call(twin, alice)) is RefusalCode.MALFORMED


def test_an_offer_that_is_too_long_is_refused_before_any_cryptography():
    bob = Person.named("bob")
    with pytest.raises(IntroductionRefused, match="found 2181 bytes") as caught:
        bob.desk.receive_offer_untrusted(bytes(2181), 0.0, wall_now=WALL_NOW)
    assert caught.value.code is RefusalCode.MALFORMED


def test_a_clock_that_goes_back_is_a_bug_of_ours():
    alice, bob = people()
    call(alice, bob, now=5.0)
    with pytest.raises(AssertionError):
        alice.desk.cached_answer(b"", 4.0)


def test_finishing_twice_or_after_establishment_changes_nothing_for_others():
    alice, bob = people()
    outgoing = call(alice, bob)
    incoming = hear(bob, outgoing)
    answer, _ = incoming.answer(bob.ice)
    outgoing.receive_answer_untrusted(answer, WALL_NOW)
    for _ in range(2):
        alice.desk.finish(outgoing)
        bob.desk.finish(incoming)
    assert alice.desk.own_half(bob.static, alice.ice, b"").withdrawn == ()


def test_statistics_count_what_happened():
    winner, loser, winning, losing = crossing()
    refusal(winner, losing)
    answer, _ = hear(loser, winning).answer(loser.ice)
    winning.receive_answer_untrusted(answer, WALL_NOW)
    at_winner, at_loser = winner.desk.statistics(), loser.desk.statistics()
    assert at_winner.offers_made == at_loser.offers_made == 1
    assert at_winner.refused == {RefusalCode.GLARE: 1}
    assert (at_winner.answers_taken, at_loser.answers_given) == (1, 1)
    assert (at_loser.superseded, at_loser.offers_taken) == (1, 1)
    assert (at_loser.decided, at_loser.deciding, at_loser.outgoing) == (1, 0, 0)
    assert at_loser.callers_remembered == 1
