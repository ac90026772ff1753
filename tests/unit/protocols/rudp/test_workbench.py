"""Benches: packets of a run laid out so that nothing is cut one by one."""

import threading

import pytest

from opnode.protocols.rudp import packet
from opnode.protocols.rudp.frames import (
    BULK_HEADER_SIZE,
    BULK_OVERHEAD,
    encode_data,
)
from opnode.protocols.rudp.workbench import (
    MIN_BENCH_PACKET,
    opening_bench,
    sealing_bench,
)

PREFIX = b"\xe0" + bytes(range(8))


@pytest.mark.parametrize("size", [MIN_BENCH_PACKET, 100, 1200, 1452, 65_507])
def test_headers_are_written_and_read_back_in_their_slots(size: int):
    sealing, opening = sealing_bench(size), opening_bench(size)
    count = opening.capacity
    for slot, first in ((count // 2, 7_000), (0, 3)):
        length = count - slot if slot else max(count // 2, 1)
        nonces = sealing.write_headers(slot, length, PREFIX, first)
        packets = sealing.packets(slot, length)
        assert len(packets) == length * size
        for index, nonce in enumerate(nonces):
            at = index * size
            header = packet.pack_header(PREFIX, first + index)
            assert packets[at : at + packet.HEADER_SIZE] == header
            assert nonce == header[packet.NONCE_AT :]
        numbers, read = opening.load(packets, length)
        assert numbers == tuple(range(first, first + length))
        assert read == nonces


def test_chunks_lie_side_by_side_behind_the_first_header():
    bench = sealing_bench(100)
    chunk = 100 - BULK_OVERHEAD
    bench.texts[: 3 * chunk] = b"a" * chunk + b"b" * chunk + b"c" * chunk
    assert [bytes(bench.plaintexts[at][BULK_HEADER_SIZE:]) for at in range(3)] == [
        b"a" * chunk,
        b"b" * chunk,
        b"c" * chunk,
    ]


def test_plaintexts_are_read_as_data_frames_all_at_once():
    bench = opening_bench(100)
    chunk = 100 - BULK_OVERHEAD
    for index in range(3):
        data = bytes([index]) * chunk
        plain = bytes([50 + index]) + encode_data(6, index * 1000, data, fin=False)
        bench.plaintexts[index][:] = plain
    assert bench.plaintext_size == len(plain)
    assert bench.data_headers(3) == (
        3,
        6,
        0,
        chunk,
        3,
        6,
        1000,
        chunk,
        3,
        6,
        2000,
        chunk,
    )
    assert bench.chunks(2) == (bytes(chunk), b"\1" * chunk)
    assert bench.marks(1, 3) == bytes([51, 52])


def test_a_size_has_one_bench_in_a_thread_and_another_in_the_next():
    here = sealing_bench(1200), opening_bench(1200)
    assert sealing_bench(1200) is here[0]
    assert opening_bench(1200) is here[1]
    there: list[object] = []
    thread = threading.Thread(
        target=lambda: there.extend((sealing_bench(1200), opening_bench(1200)))
    )
    thread.start()
    thread.join()
    assert there[0] is not here[0]
    assert there[1] is not here[1]


def test_many_sizes_do_not_pile_up():
    kept = sealing_bench(2000), opening_bench(2000)
    for size in range(2001, 2010):
        sealing_bench(size)
        opening_bench(size)
    assert sealing_bench(2000) is not kept[0]
    assert opening_bench(2000) is not kept[1]
