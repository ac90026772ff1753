"""Which path carries data; what two whole ends make of it is in conformance."""

import random

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.path import Path, PathPacket, PathState
from opnode.protocols.rudp.path_ids import ID_WINDOW
from opnode.protocols.rudp.path_table import PathTable

FIRST = Endpoint("192.0.2.2", 4002)
SECOND = Endpoint("198.51.100.7", 4003)
RELAYED = Endpoint("100::1", 1)
PTO = 0.1
WINDOW = 1 << 20


class Timer:
    """A path that data measured, always alike."""

    probe_timeout_s = PTO
    shortest_rtt_s: float | None = None


class Desk:
    """A table whose packets are played by hand."""

    def __init__(self, *, initiator: bool = True, max_paths: int = 8) -> None:
        self.moves: list[tuple[Endpoint, Endpoint]] = []
        self.table = self.new_table(initiator=initiator, max_paths=max_paths)
        self.table.set_path(FIRST, 0.0, None)

    def new_table(self, *, initiator: bool = True, max_paths: int = 8) -> PathTable:
        config = RudpConfig(max_paths=max_paths)
        return PathTable(
            config, random.Random(1), Timer(), self.on_moved, initiator=initiator
        )

    def on_moved(self, left: Path, taken: Path, _now: float) -> None:
        self.moves.append((left.endpoint, taken.endpoint))

    def packets(self, now: float) -> list[PathPacket]:
        found = []
        while (packet := self.table.next_packet(now, WINDOW)) is not None:
            found.append(packet)
        return found

    def answer(self, now: float, *endpoints: Endpoint) -> None:
        """Answer the challenges that wait for these addresses."""
        for packet in self.packets(now):
            if packet.path.endpoint in endpoints:
                self.table.on_response(packet.challenge, now)

    def run(self, source: Endpoint, index: int, now: float, size: int = 100) -> None:
        self.table.on_run(source, index, size, now, is_newest=True)

    @property
    def active(self) -> Endpoint:
        assert self.table.active is not None
        return self.table.active.endpoint


def test_nothing_leaves_before_the_first_path():
    desk = Desk()
    table = desk.new_table()
    path = table.on_run(SECOND, 0, 100, 1.0, is_newest=True)
    assert path is not None
    table.on_challenge(path, bytes(8), 1.0)
    table.on_response(bytes(8), 1.0)
    table.on_timeout()
    table.on_acked(1, 1200, 1.0, 1.0)
    assert table.next_packet(1.0, WINDOW) is None
    assert table.paths() == (path,)


def test_ends_begin_paths_with_ids_of_their_own_parity():
    for initiator, expected in ((True, [1, 3]), (False, [2, 4])):
        desk = Desk(initiator=initiator)
        for port in range(5):
            desk.table.add(SECOND._replace(port=1 + port), 1.0, 0.05)
        assert [packet.id_index for packet in desk.packets(1.0)] == expected


def test_an_answer_opens_the_window_of_ids_for_the_next_paths():
    desk = Desk()
    for port in range(3):
        desk.table.add(SECOND._replace(port=1 + port), 1.0, None)
    first, second = desk.packets(1.0)
    desk.table.on_response(second.challenge, 1.05)
    (third,) = desk.packets(1.05)
    assert (first.id_index, third.id_index) == (1, 5)


def test_our_ids_that_are_accepted_follow_those_that_the_peer_uses():
    desk = Desk()
    assert desk.table.receive_indices == frozenset(range(ID_WINDOW + 1))
    desk.run(SECOND, 4, 1.0)
    assert desk.table.receive_indices == frozenset(range(9))
    desk.run(FIRST, 8, 1.1)
    assert {0, 4, 8, 12} <= desk.table.receive_indices
    desk.run(FIRST, 4, 1.2)
    assert 8 in desk.table.receive_indices


def test_a_higher_index_of_the_peer_is_used_for_the_answers():
    desk = Desk()
    desk.run(FIRST, 0, 1.0)
    desk.run(FIRST, 2, 1.1)
    assert desk.table.active is not None
    assert desk.table.active.send_index == 2
    desk.run(FIRST, 1, 1.2)
    assert desk.table.active.send_index == 2


def test_addresses_that_the_peer_makes_up_do_not_fill_the_table():
    desk = Desk(max_paths=4)
    desk.table.add(SECOND, 0.5, None)
    desk.answer(0.6, SECOND)
    for port in range(100):
        desk.run(Endpoint("203.0.113.5", 1 + port), 0, 1.0)
    kept = [path.endpoint for path in desk.table.paths()]
    assert len(kept) == 4
    assert kept[:2] == [FIRST, SECOND]


def test_a_full_table_of_good_paths_takes_no_more():
    desk = Desk(max_paths=2)
    desk.table.add(SECOND, 0.5, None)
    assert desk.table.add(SECOND._replace(port=9), 0.5, None) is None
    desk.table.set_path(SECOND._replace(port=9), 0.5, None)
    assert desk.table.on_run(THIRD, 0, 100, 1.0, is_newest=True) is None


THIRD = Endpoint("203.0.113.9", 9)


def test_a_path_that_fails_again_and_again_is_forgotten():
    desk = Desk()
    desk.table.add(SECOND, 0.0, None)
    now = 0.0
    for _ in range(5):
        for _ in range(3):
            desk.packets(now)
            now += 1.0
            desk.table.handle_deadline(now)
        desk.table.on_keep_alive(now)
    assert [path.endpoint for path in desk.table.paths()] == [FIRST]


def test_without_another_way_the_active_path_is_kept():
    desk = Desk()
    desk.table.active.start_check(1.0)
    for now in (1.0, 2.0, 3.0):
        desk.packets(now)
        desk.table.handle_deadline(now + 0.5)
    assert desk.table.active.state is PathState.VALIDATED
    assert desk.moves == []


def test_an_active_path_that_answers_nothing_is_left_for_one_that_does():
    desk = Desk()
    desk.table.add(SECOND, 0.5, None)
    desk.answer(0.6, SECOND)
    desk.table.active.start_check(1.0)
    for now in (1.0, 2.0, 3.0):
        desk.answer(now, SECOND)
        desk.table.handle_deadline(now + 0.5)
    assert desk.moves == [(FIRST, SECOND)]


def test_a_warm_path_is_taken_at_the_last_step_although_it_did_not_answer_since():
    desk = Desk()
    desk.table.add(SECOND, 0.5, 0.5)
    desk.answer(0.6, SECOND)
    desk.table.on_eliciting_sent(1.0)
    for now in (1.1, 1.2):
        desk.table.handle_deadline(now)
        assert desk.active == FIRST
    deadline = desk.table.next_deadline()
    assert deadline is not None
    assert deadline <= 1.3
    desk.table.handle_deadline(1.28)
    assert desk.active == SECOND


def test_a_warm_path_that_answers_between_the_steps_is_taken_at_once():
    desk = Desk()
    desk.table.add(SECOND, 0.5, 0.5)
    desk.answer(0.6, SECOND)
    desk.table.on_eliciting_sent(1.0)
    desk.table.handle_deadline(1.1)
    challenges = [p for p in desk.packets(1.1) if p.path.endpoint == SECOND]
    desk.table.handle_deadline(1.2)
    assert desk.active == FIRST
    desk.table.on_response(challenges[0].challenge, 1.22)
    assert desk.active == SECOND


def test_the_responder_does_not_choose_by_round_trips():
    for initiator, expected in ((True, SECOND), (False, FIRST)):
        desk = Desk(initiator=initiator)
        desk.table.add(SECOND, 0.0, None)
        for now in range(1, 40, 6):
            desk.table.on_eliciting_sent(float(now))
            packets = desk.packets(float(now))
            for packet in packets:
                delay = 0.01 if packet.path.endpoint == SECOND else 0.09
                desk.table.on_response(packet.challenge, now + delay)
        assert desk.active == expected


def test_the_peer_s_packets_on_the_old_path_do_not_undo_a_move_of_ours():
    for initiator in (True, False):
        desk = Desk(initiator=initiator)
        desk.run(FIRST, 0, 0.1)
        desk.table.add(SECOND, 0.2, None)
        desk.answer(0.3, SECOND)
        desk.table.set_path(SECOND, 0.4, None)
        desk.run(FIRST, 0, 0.45)
        assert desk.active == SECOND
        desk.run(FIRST, 0, 0.4 + 3 * PTO + 0.01)
        assert desk.active == FIRST


def test_the_initiator_s_move_stands_when_both_move_at_once():
    for initiator, expected in ((True, SECOND), (False, THIRD)):
        desk = Desk(initiator=initiator)
        for endpoint in (SECOND, THIRD):
            desk.table.add(endpoint, 0.1, None)
            desk.answer(0.2, endpoint)
        desk.table.set_path(SECOND, 0.4, None)
        desk.run(THIRD, 5, 0.45)
        assert desk.active == expected


def test_tokens_do_not_repeat():
    desk = Desk()
    desk.table.add(SECOND, 0.0, None)
    tokens = set()
    for now in range(3):
        tokens |= {packet.challenge for packet in desk.packets(float(now))}
        desk.table.handle_deadline(now + 0.9)
    assert len(tokens) == 3
    assert all(len(token) == 8 for token in tokens)


def test_a_claim_asks_for_data_at_once_and_again_when_a_packet_fits():
    desk = Desk()
    assert not desk.table.takes_claim()
    desk.run(FIRST, 0, 0.5)
    desk.run(SECOND, 0, 1.0, size=60)
    assert desk.table.takes_claim()
    desk.run(SECOND, 0, 1.0, size=60)
    assert not desk.table.takes_claim()
    desk.run(SECOND, 0, 1.0, size=1200)
    assert desk.table.takes_claim()
    desk.run(SECOND, 0, 1.0, size=1200)
    assert not desk.table.takes_claim()


def test_the_initiator_follows_to_no_path_of_a_higher_rank_while_its_own_answers():
    desk = Desk()
    desk.table.add(SECOND, 0.0, None)
    desk.table.set_rank(SECOND, 1)
    desk.answer(0.1, SECOND)
    desk.run(SECOND, 1, 0.2)
    assert desk.active == FIRST
    desk.table.on_eliciting_sent(1.0)
    for step in range(1, 8):
        now = 1.0 + step * PTO
        desk.table.handle_deadline(now)
        desk.answer(now, SECOND)
        desk.run(SECOND, 1, now)
    assert desk.active == SECOND


def test_a_claim_to_a_worse_path_has_the_own_one_asked_whether_it_answers():
    """The peer may know that it is dead, and hear none of our acknowledgements."""
    for answers in (True, False):
        desk = Desk()
        desk.table.add(SECOND, 0.0, None)
        desk.table.set_rank(SECOND, 1)
        desk.answer(0.1, SECOND)
        reachable = (FIRST, SECOND) if answers else (SECOND,)
        for step in range(1, 8):
            now = 1.0 + step * PTO
            desk.run(SECOND, 1, now)
            desk.table.handle_deadline(now)
            desk.answer(now, *reachable)
        assert desk.active == (FIRST if answers else SECOND)


def test_the_responder_follows_to_a_path_of_any_rank():
    for rank in (0, 1):
        desk = Desk(initiator=False)
        desk.table.add(SECOND, 0.0, None)
        desk.table.set_rank(SECOND, rank)
        desk.answer(0.1, SECOND)
        desk.run(SECOND, 1, 0.2)
        assert desk.active == SECOND


def test_a_path_that_we_named_is_no_copy_although_it_bears_the_first_id():
    """The ends may begin on different paths: one direct, the other through TURN."""
    desk = Desk(initiator=False)
    desk.run(FIRST, 0, 0.05)
    desk.table.add(SECOND, 0.1, None)
    desk.run(SECOND, 0, 0.2)
    desk.answer(0.3, FIRST)
    desk.run(SECOND, 0, 0.4)
    desk.table.handle_deadline(1.0)
    desk.answer(1.0, SECOND)
    assert desk.active == SECOND


def test_a_way_that_is_found_only_after_the_last_step_is_taken_with_its_first_answer():
    for initiator in (True, False):
        desk = Desk(initiator=initiator)
        desk.table.add(SECOND, 0.5, None)
        desk.table.on_eliciting_sent(1.0)
        for now in (1.1, 1.2, 1.3):
            desk.packets(now)
            desk.table.handle_deadline(now)
        desk.table.add(RELAYED, 2.0, None)
        assert desk.active == FIRST
        desk.answer(2.1, RELAYED)
        assert desk.active == RELAYED


def test_data_that_went_back_to_a_silent_path_leaves_it_for_the_first_that_answers():
    for is_heard, expected in ((False, RELAYED), (True, FIRST)):
        desk = Desk()
        desk.table.add(SECOND, 0.5, None)
        desk.answer(0.6, SECOND)
        desk.table.on_eliciting_sent(1.0)
        for now in (1.1, 1.2, 1.28):
            desk.table.handle_deadline(now)
        assert desk.active == SECOND
        desk.table.remove(SECOND, 1.3)
        assert desk.active == FIRST
        desk.table.add(RELAYED, 1.4, None)
        if is_heard:
            desk.run(FIRST, 0, 1.4)
        desk.answer(1.5, RELAYED)
        assert desk.active == expected
