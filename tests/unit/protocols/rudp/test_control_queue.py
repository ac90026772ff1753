"""Control frames wait by name and are made when they leave."""

from opnode.protocols.rudp.control_queue import PROBE_PING_ID, ControlQueue
from opnode.protocols.rudp.frames import FrameType, control_size


def test_a_frame_waits_once_and_leaves_in_order():
    queue = ControlQueue()
    queue.add(FrameType.CHANNEL_CREDIT, 4)
    queue.add(FrameType.CONNECTION_CREDIT)
    queue.add(FrameType.CHANNEL_CREDIT, 4)
    assert len(queue) == 2
    frames, keys = queue.take(1000, lambda key: bytes([key[0], key[1]]))
    assert frames == [b"\x05\x04", b"\x06\x00"]
    assert keys == [(FrameType.CHANNEL_CREDIT, 4), (FrameType.CONNECTION_CREDIT, 0)]
    assert len(queue) == 0


def test_frames_that_became_needless_vanish():
    queue = ControlQueue()
    queue.add(FrameType.RESET, 4)
    assert queue.take(1000, lambda _: b"") == ([], [])
    assert len(queue) == 0


def test_what_does_not_fit_waits_for_the_next_packet():
    queue = ControlQueue()
    for number in range(3):
        queue.add(FrameType.RESET, number)
    size = control_size(FrameType.RESET)
    frames, _ = queue.take(2 * size, lambda _: bytes(size))
    assert len(frames) == 2
    assert len(queue) == 1


def test_lost_frames_come_back_but_a_probe_does_not():
    queue = ControlQueue()
    queue.add_probe()
    _, keys = queue.take(1000, lambda _: b"x")
    assert keys == [(FrameType.PING, PROBE_PING_ID)]
    queue.restore(((FrameType.PING, PROBE_PING_ID), (FrameType.PING, 3)))
    _, keys = queue.take(1000, lambda _: b"x")
    assert keys == [(FrameType.PING, 3)]


def test_a_frame_that_is_not_wanted_any_more_does_not_leave():
    queue = ControlQueue()
    queue.add(FrameType.PING, 3)
    queue.discard(FrameType.PING, 3)
    queue.discard(FrameType.PING, 3)
    assert len(queue) == 0


def test_a_probe_can_be_taken_alone_and_once():
    queue = ControlQueue()
    assert not queue.take_probe()
    queue.add(FrameType.CONNECTION_CREDIT)
    queue.add_probe()
    assert queue.take_probe()
    assert not queue.take_probe()
    assert len(queue) == 1


def test_ten_thousand_frames_leave_in_order_and_the_needless_ones_cost_no_packet():
    queue = ControlQueue()
    for number in range(10_000):
        queue.add(FrameType.RESET, number)
    frames, keys = queue.take(100, lambda key: b"x" * 17 if key[1] >= 9_000 else b"")
    assert [number for _, number in keys] == list(range(9_000, 9_005))
    assert len(frames) == 5
    assert len(queue) == 995
