"""The reader of logs refuses what a viewer could not load."""

import json

import pytest

from opnode.testing.qlog import dropped, read_trace, sums_of

HEADER = {"qlog_version": "0.3", "qlog_format": "JSON-SEQ", "trace": {}}


def write(path, *records, separator=b"\x1e"):
    path.write_bytes(
        b"".join(separator + json.dumps(record).encode() + b"\n" for record in records)
    )
    return path


def packet(name, number, size, *frames):
    header = {"packet_type": "1RTT", "packet_number": number}
    data = {"header": header, "raw": {"length": size}, "frames": frames}
    return {"time": 0, "name": name, "data": data}


def test_a_record_that_was_cut_off_is_left_out(tmp_path):
    path = write(tmp_path / "a", HEADER, packet("transport:packet_sent", 1, 2))
    path.write_bytes(path.read_bytes() + b'\x1e{"time": 1, "na')
    assert len(read_trace(path).events) == 1


@pytest.mark.parametrize(
    "broken",
    [{"qlog_format": "JSON", "trace": {}}, {"qlog_format": "JSON-SEQ"}],
)
def test_another_header_is_refused(tmp_path, broken):
    with pytest.raises(ValueError, match="header"):
        read_trace(write(tmp_path / "a", broken))


def test_lines_without_record_separators_are_refused(tmp_path):
    with pytest.raises(ValueError, match="separator"):
        read_trace(write(tmp_path / "a", HEADER, separator=b""))


def test_acknowledged_packets_count_once_and_only_if_they_were_sent(tmp_path):
    def ack(*ranges):
        return {"frame_type": "ack", "acked_ranges": ranges}

    path = write(
        tmp_path / "a",
        HEADER,
        packet("transport:packet_sent", 1, 100),
        packet("transport:packet_sent", 2, 50, {"frame_type": "stream", "length": 9}),
        packet("transport:packet_received", 7, 40, ack([0, 1])),
        packet("transport:packet_received", 8, 41, ack([1, 1], [3, 9])),
    )
    sums = sums_of(read_trace(path))
    assert (sums.packets_acked, sums.bytes_acked) == (1, 100)
    assert (sums.bytes_sent, sums.stream_bytes_sent) == (150, 9)
    assert (sums.packets_received, sums.bytes_received) == (2, 81)


def test_drops_are_added_up_by_reason(tmp_path):
    drops = [
        {
            "time": 0,
            "name": "transport:packet_dropped",
            "data": {"trigger": trigger, "count": count},
        }
        for trigger, count in (("invalid", 2), ("duplicate", 1), ("invalid", 3))
    ]
    assert dropped(read_trace(write(tmp_path / "a", HEADER, *drops))) == {
        "invalid": 5,
        "duplicate": 1,
    }
