"""Reads qlog files back, as a viewer does, and adds up what they tell.

Owns the reader of JSON text sequences (RFC 7464) and the sums over a trace. Shares no
code with the writer, so that what both agree on is what stands in the file.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Whatever JSON holds: typed by whoever looks at it.
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """One file: its header record and its events, in order."""

    header: Json
    events: Sequence[Json]

    def named(self, name: str) -> list[Json]:
        """Return the data of all events of one name, oldest first."""
        return [event["data"] for event in self.events if event["name"] == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What a trace tells of the whole connection.

    Attributes:
        packets_sent: Packets that left.
        bytes_sent: Their sizes together.
        packets_received: Authentic packets, each once.
        bytes_received: Their sizes together.
        packets_lost: Packets given up, whether they arrived later or not.
        packets_acked: Different sent packets that the peer acknowledged.
        bytes_acked: Their sizes together.
        stream_bytes_sent: Bytes of channels, repeated ones included.
    """

    packets_sent: int
    bytes_sent: int
    packets_received: int
    bytes_received: int
    packets_lost: int
    packets_acked: int
    bytes_acked: int
    stream_bytes_sent: int


def read_trace(path: Path) -> Trace:
    """Read a file; a record that was cut off at the end is left out.

    Raises:
        ValueError: It is no JSON text sequence, or no qlog.
    """
    first, *parts = path.read_bytes().split(b"\x1e")
    if first or not parts:
        raise ValueError(f"{path.name} does not begin with a record separator")
    records = [json.loads(part) for part in parts if part.endswith(b"\n")]
    header = records[0]
    if header["qlog_format"] != "JSON-SEQ" or "trace" not in header:
        raise ValueError(f"{path.name} has no header of a qlog sequence")
    return Trace(header, records[1:])


def sums_of(trace: Trace) -> Sums:
    """Add up the packets of a trace."""
    sizes: dict[int, int] = {}
    stream_bytes = 0
    for data in trace.named("transport:packet_sent"):
        sizes[data["header"]["packet_number"]] = data["raw"]["length"]
        stream_bytes += sum(
            frame["length"]
            for frame in data["frames"]
            if frame["frame_type"] == "stream"
        )
    received = trace.named("transport:packet_received")
    acked = _acked(received) & sizes.keys()
    return Sums(
        packets_sent=len(sizes),
        bytes_sent=sum(sizes.values()),
        packets_received=len(received),
        bytes_received=sum(data["raw"]["length"] for data in received),
        packets_lost=len(trace.named("recovery:packet_lost")),
        packets_acked=len(acked),
        bytes_acked=sum(sizes[number] for number in acked),
        stream_bytes_sent=stream_bytes,
    )


def dropped(trace: Trace) -> Counter[str]:
    """Count the packets that were dropped, by reason."""
    counts: Counter[str] = Counter()
    for data in trace.named("transport:packet_dropped"):
        counts[data["trigger"]] += data["count"]
    return counts


def _acked(received: Sequence[Json]) -> set[int]:
    acked: set[int] = set()
    for data in received:
        for frame in data["frames"]:
            if frame["frame_type"] == "ack":
                for first, last in frame["acked_ranges"]:
                    acked.update(range(first, last + 1))
    return acked
