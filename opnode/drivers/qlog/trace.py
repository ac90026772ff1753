"""One connection as a sequence of qlog events.

Owns the events' names and fields (draft-ietf-quic-qlog-quic-events, with the header of
qlog 0.3, as qvis reads them). What changes slowly (keys, path, packet size, controller)
is seen by comparing one snapshot of the figures with the next. Refuses to know where
the records go.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from opnode.core.addresses import Endpoint
from opnode.drivers.qlog.frames import describe_frames, describe_stream
from opnode.drivers.qlog.qlog import QlogDirectory, QlogFile
from opnode.protocols.rudp.observer import BulkPackets, LostPackets
from opnode.protocols.rudp.statistics import RudpStatistics

_MS: Final = 1e3

Data = Mapping[str, object]


class QlogTraces:
    """Begins the trace of every connection of a node."""

    def __init__(self, directory: QlogDirectory) -> None:
        """Write to this directory."""
        self._directory = directory

    def begin(
        self, connection_id: bytes, *, is_initiator: bool, now: float
    ) -> "QlogTrace | None":
        """Begin a trace; None when the directory takes no further one."""
        role = "client" if is_initiator else "server"
        name = f"{connection_id.hex()}_{role}"
        header = {
            "title": "opnode RUDP",
            "trace": {
                "title": name,
                "vantage_point": {"name": "opnode", "type": role},
                "common_fields": {
                    "ODCID": connection_id.hex(),
                    "time_format": "relative",
                    "reference_time": round(self._directory.wall_clock() * _MS, 3),
                    "protocol_type": ["QUIC", "opnode RUDP"],
                },
            },
        }
        file = self._directory.open_file(name, header)
        if file is None:
            return None
        return QlogTrace(file, connection_id, is_initiator=is_initiator, now=now)


class QlogTrace:
    """Turns what a connection tells into events; an ``RudpObserver``."""

    __slots__ = ("_connection_id", "_file", "_known", "_role", "_started_at", "_time")

    def __init__(
        self, file: QlogFile, connection_id: bytes, *, is_initiator: bool, now: float
    ) -> None:
        """Begin at `now`, which is the trace's time 0."""
        self._file = file
        self._connection_id = connection_id
        self._role = "client" if is_initiator else "server"
        self._started_at = now
        self._time = 0.0
        self._known: RudpStatistics | None = None

    def at(self, now: float) -> None:
        """See ``RudpObserver``."""
        # Viewers want times that never go back.
        self._time = max(self._time, round((now - self._started_at) * _MS, 3))

    def packet_sent(self, number: int, frames: bytes, size: int) -> None:
        """See ``RudpObserver``."""
        self._packet("transport:packet_sent", number, size, describe_frames(frames))

    def bulk_sent(self, packets: BulkPackets) -> None:
        """See ``RudpObserver``."""
        if not self._file.is_open:
            return
        offset = packets.offset
        for index in range(packets.packets):
            frame = describe_stream(packets.channel_id, offset, packets.chunk)
            offset += packets.chunk
            number = packets.first + index
            self._packet("transport:packet_sent", number, packets.size, [frame])

    def packet_received(self, number: int, frames: bytes, size: int) -> None:
        """See ``RudpObserver``."""
        if self._file.is_open:
            described = describe_frames(frames)
            self._packet("transport:packet_received", number, size, described)

    def packets_lost(self, lost: Sequence[LostPackets]) -> None:
        """See ``RudpObserver``."""
        for run in lost:
            for number in range(run.first, run.stop):
                data = {"header": _header(number), "raw": {"length": run.size}}
                self._event("recovery:packet_lost", data)

    def measured(self, statistics: RudpStatistics) -> None:
        """See ``RudpObserver``."""
        before, self._known = self._known, statistics
        if not self._file.is_open:
            return
        self._tell_drops(before, statistics)
        self._tell_path(before, statistics)
        if before is not None:
            self._tell_slow_changes(before, statistics)
        changed = _changed(_metrics(before) if before else {}, _metrics(statistics))
        if changed:
            self._event("recovery:metrics_updated", changed)

    def closed(self, *, code: int, reason: str, by: str) -> None:
        """The connection is over for the application; closing packets may follow."""
        owner = {"peer": "remote"}.get(by, by)
        data = {"owner": owner, "application_code": code, "reason": reason}
        self._event("connectivity:connection_closed", data)

    def end(self) -> None:
        """Nothing will follow."""
        self._file.end()

    def _tell_drops(self, before: RudpStatistics | None, after: RudpStatistics) -> None:
        """One event for all packets of a run that were dropped for one reason."""
        for trigger, name in (
            ("decryption_failure", "forged"),
            ("duplicate", "duplicates"),
            ("invalid", "malformed"),
        ):
            count = getattr(after, name) - (getattr(before, name) if before else 0)
            if count:
                data = {
                    "header": {"packet_type": "1RTT"},
                    "trigger": trigger,
                    "count": count,
                }
                self._event("transport:packet_dropped", data)

    def _tell_path(self, before: RudpStatistics | None, after: RudpStatistics) -> None:
        path = after.path
        if path is None or (before is not None and before.path == path):
            return
        if before is None or before.path is None:
            own = self._connection_id.hex()
            data = {"dst_ip": path.host, "dst_port": path.port, "src_cid": own}
            self._event("connectivity:connection_started", data)
            return
        data = {"path_id": str(path), "path_remote": _path_endpoint(path)}
        self._event("connectivity:path_assigned", data)

    def _tell_slow_changes(self, before: RudpStatistics, after: RudpStatistics) -> None:
        changes = (
            ("connectivity:mtu_updated", before.packet_size, after.packet_size),
            (
                "recovery:congestion_state_updated",
                _word(before.congestion_phase),
                _word(after.congestion_phase),
            ),
            ("recovery:ecn_state_updated", before.ecn, after.ecn),
        )
        for name, old, new in changes:
            if old != new:
                self._event(name, {"old": old, "new": new})
        for epoch in range(before.key_epoch, after.key_epoch):
            for side in ("client", "server"):
                key = {"key_type": f"{side}_1rtt_secret", "generation": epoch + 1}
                self._event("security:key_updated", key)

    def _packet(
        self, name: str, number: int, size: int, frames: Sequence[Data]
    ) -> None:
        self._event(
            name,
            {"header": _header(number), "raw": {"length": size}, "frames": frames},
        )

    def _event(self, name: str, data: Data) -> None:
        self._file.add({"time": self._time, "name": name, "data": data})


def _header(number: int) -> Data:
    return {"packet_type": "1RTT", "packet_number": number}


def _word(phase: str) -> str:
    """A phase as qlog writes it: slow_start, congestion_avoidance."""
    return phase.replace(" ", "_")


def _path_endpoint(path: Endpoint) -> Data:
    version = "v6" if ":" in path.host else "v4"
    return {f"ip_{version}": path.host, f"port_{version}": path.port}


def _metrics(statistics: RudpStatistics) -> dict[str, float | int | None]:
    """The figures of one snapshot in qlog's names and units."""
    return {
        "min_rtt": _ms(statistics.min_rtt_s),
        "smoothed_rtt": _ms(statistics.smoothed_rtt_s),
        "latest_rtt": _ms(statistics.latest_rtt_s),
        "rtt_variance": _ms(statistics.rtt_variation_s),
        "congestion_window": statistics.congestion_window,
        "bytes_in_flight": statistics.bytes_in_flight,
        # qlog counts bits, and nobody reads fractions of one.
        "pacing_rate": round(8 * statistics.pacing_rate_Bps),
    }


def _changed(
    before: Mapping[str, float | int | None], after: Mapping[str, float | int | None]
) -> dict[str, float | int]:
    return {
        name: value
        for name, value in after.items()
        if value is not None and before.get(name) != value
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * _MS, 3)
