import struct

import pytest

from benchmarks.link_emulator import BUCKET_S, LinkSpec, QueueTrace, marked


def ones_complement_sum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ipv4(ecn: int, identification: int) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, ecn, 25, identification, 0x4000, 64, 17, 0),
        *(bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2])),
    )
    checksum = ~ones_complement_sum(header) & 0xFFFF
    return header[:10] + checksum.to_bytes(2, "big") + header[12:] + b"hello"


@pytest.mark.parametrize("ecn", [1, 2, 3])
def test_a_marked_packet_says_so_and_its_checksum_is_right(ecn):
    for identification in range(0, 65536, 251):
        packet = marked(ipv4(ecn, identification))
        assert packet[1] == 3
        assert ones_complement_sum(packet[:20]) == 0xFFFF
        assert packet[20:] == b"hello"


def test_a_trace_keeps_the_longest_wait_of_each_bucket():
    trace = QueueTrace()
    for number, waiting_s in enumerate((0.0, 0.3, 0.1, 0.2)):
        trace.note(waiting_s, 100 * number, 5 + number * BUCKET_S * 0.6)
    assert [row[1:] for row in trace.rows()] == [(0.3, 100), (0.2, 300)]


def test_a_link_s_queue_is_counted_in_bandwidth_delay_products():
    spec = LinkSpec(mbit=100, rtt_s=0.05, buffer_bdp=0.5, loss=0.01, mark_share=0.1)
    forward, backward = spec.forward(), spec.backward()
    assert forward.queue_bytes == 312_500
    assert forward.mark_bytes == 31_250
    assert (forward.loss, backward.loss) == (0.01, 0)
    assert forward.delay_s + backward.delay_s == 0.05
