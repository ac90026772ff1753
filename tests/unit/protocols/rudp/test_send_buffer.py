"""What waits for its acknowledgement, and what goes next."""

import random

import pytest

from opnode.protocols.rudp.send_buffer import SendBuffer


def filled(text: bytes, *, capacity: int = 10_000, limit: int = 10_000) -> SendBuffer:
    buffer = SendBuffer(3, capacity=capacity, limit=limit)
    buffer.write(memoryview(text))
    return buffer


def test_a_write_takes_what_fits_and_acknowledged_bytes_make_room():
    buffer = SendBuffer(3, capacity=10, limit=100)
    assert buffer.write(memoryview(b"abcdefgh")) == 8
    assert buffer.write(memoryview(b"ijkl")) == 2
    assert buffer.write(memoryview(b"kl")) == 0
    buffer.take(0, 10)
    buffer.on_acked(0, 4)
    assert buffer.room == 4


def test_small_writes_share_a_block_and_large_ones_are_not_joined():
    buffer = SendBuffer(3, capacity=1 << 20, limit=1 << 20)
    for _ in range(10_000):
        buffer.write(memoryview(b"x"))
    assert len(buffer._blocks) <= 3
    buffer.write(memoryview(bytes(50_000)))
    assert len(buffer._blocks[-1]) == 50_000
    assert bytes(buffer.view(9_990, 10_010)) == b"x" * 10 + bytes(10)


def test_the_buffer_keeps_its_own_copy_of_what_may_change():
    text = bytearray(b"before")
    buffer = filled(text)
    text[:] = b"after!"
    assert bytes(buffer.view(0, 6)) == b"before"


def test_a_view_crosses_any_number_of_blocks():
    buffer = SendBuffer(3, capacity=1 << 20, limit=1 << 20)
    text = b"".join(bytes([n]) * 5000 for n in range(5))
    for start in range(0, len(text), 5000):
        buffer.write(memoryview(text)[start : start + 5000])
    assert bytes(buffer.view(4999, 20_001)) == text[4999:20_001]
    assert bytes(buffer.view(0, 25_000)) == text
    assert bytes(buffer.view(5000, 10_000)) == text[5000:10_000]


def test_new_bytes_end_at_the_peer_s_credit_and_at_the_connection_s():
    buffer = filled(b"x" * 100, limit=60)
    assert buffer.next_range(1000) == (0, 60)
    assert buffer.next_range(7) == (0, 7)
    buffer.take(0, 60)
    assert buffer.next_range(1000) == (60, 60)
    buffer.limit = 70
    assert buffer.next_range(1000) == (60, 70)


def test_lost_bytes_go_first_and_cost_no_credit():
    buffer = filled(b"x" * 100)
    assert buffer.take(0, 50) == 50
    buffer.on_lost(10, 20)
    buffer.on_lost(30, 40)
    assert buffer.next_range(0) == (10, 20)
    assert buffer.take(10, 15) == 0
    assert buffer.next_range(0) == (15, 20)
    assert buffer.take(15, 20) == 0
    assert buffer.take(30, 40) == 0
    assert buffer.next_range(5) == (50, 55)


def test_what_was_acknowledged_is_not_sent_again():
    buffer = filled(b"x" * 100)
    buffer.take(0, 100)
    buffer.on_acked(20, 30)
    buffer.on_lost(10, 40)
    assert list(buffer.lost) == [(10, 20), (30, 40)]
    buffer.on_acked(30, 40)
    assert list(buffer.lost) == [(10, 20)]
    buffer.on_acked(0, 20)
    assert buffer.base == 40
    buffer.on_lost(0, 40)
    assert not buffer.lost
    buffer.on_acked(5, 9)
    assert buffer.base == 40


def test_acknowledged_blocks_are_freed():
    buffer = SendBuffer(3, capacity=1 << 20, limit=1 << 20)
    for _ in range(10):
        buffer.write(memoryview(bytes(5000)))
    buffer.take(0, 50_000)
    buffer.on_acked(0, 12_000)
    assert len(buffer._blocks) == 8
    buffer.on_acked(12_000, 50_000)
    assert buffer._blocks == []
    buffer.write(memoryview(b"more"))
    assert bytes(buffer.view(50_000, 50_004)) == b"more"


def test_the_end_mark_is_delivered_with_the_last_byte():
    buffer = filled(b"ab")
    buffer.finish()
    assert buffer.fin_pending
    assert not buffer.has_bare_fin
    buffer.take(0, 2)
    assert buffer.has_bare_fin
    buffer.fin_pending = False
    buffer.on_fin_lost()
    assert buffer.fin_pending
    buffer.fin_acked = True
    assert not buffer.is_delivered
    buffer.on_acked(0, 2)
    assert buffer.is_delivered
    buffer.on_fin_lost()
    assert not buffer.fin_pending
    buffer.finish()
    assert not buffer.fin_pending


def test_a_discarded_buffer_has_nothing_to_send_and_keeps_its_final_size():
    buffer = filled(b"x" * 100)
    buffer.take(0, 60)
    buffer.on_lost(0, 10)
    buffer.discard()
    assert buffer.next_range(1000) == (60, 60)
    buffer.on_lost(20, 40)
    buffer.on_acked(20, 40)
    assert not buffer.lost
    assert buffer.sent == 60


@pytest.mark.parametrize("size", [1, 4096, 4097])
def test_nothing_is_taken_from_an_empty_write(size):
    buffer = filled(bytes(size))
    assert buffer.write(memoryview(b"")) == 0
    assert buffer.written == size


def test_bytes_are_kept_as_they_are_and_what_may_change_is_copied():
    text, changing = random.Random(1).randbytes(5000), bytearray(5000)
    buffer = SendBuffer(0, capacity=20_000, limit=20_000)
    buffer.write(memoryview(text))
    buffer.write(memoryview(changing))
    buffer.write(memoryview(text)[:4500])
    changing[0] = 1
    assert buffer._blocks[0] is text
    assert bytes(buffer.view(0, 14_500)) == text + bytes(5000) + text[:4500]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 9000), (4999, 5008), (8, 8)])
def test_a_range_is_copied_across_blocks(start: int, stop: int):
    text = bytes(range(250)) * 36
    out = SendBuffer(0, capacity=9000, limit=9000)
    for first, last in ((0, 5000), (5000, 5007), (5007, 9000)):
        out.write(memoryview(text)[first:last])
    target = bytearray(stop - start + 2)
    out.copy_into(memoryview(target)[1:-1], start)
    assert target == b"\0" + text[start:stop] + b"\0"
