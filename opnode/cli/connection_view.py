"""One connection of the running node, in lines for people.

Owns the wording and the rounding. Refuses to know where the figures come from: they
arrive as the plain values of ``status --json``, and what is missing is left out.
"""

from collections.abc import Mapping

import msgspec

from opnode.cli.output import size_text


class _Transport(msgspec.Struct, kw_only=True):
    """The figures shown, of those in ``RudpStatistics``; another node may lack some."""

    smoothed_rtt_s: float | None = None
    latest_rtt_s: float | None = None
    min_rtt_s: float | None = None
    rtt_variation_s: float | None = None
    congestion_window: int = 0
    bytes_in_flight: int = 0
    acked_rate_Bps: float = 0.0  # noqa: N815 - named as in the figures
    congestion_control: str = ""
    congestion_phase: str = ""
    ecn: str = ""
    packet_size: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_lost: int = 0
    probe_timeouts: int = 0
    duplicates: int = 0
    forged: int = 0
    malformed: int = 0
    datagrams_dropped: int = 0
    channels_open: int = 0
    key_epoch: int = 0
    post_quantum_at: float | None = None


class _Carried(msgspec.Struct, kw_only=True):
    """What one kind of path carried, in bytes."""

    sent: int
    received: int


def connection_rows(row: Mapping[str, object]) -> dict[str, object]:
    """Return what to show of a connection, by its label.

    Args:
        row: An entry of ``connections`` in the status report.

    Raises:
        msgspec.ValidationError: A figure is of another type than it should be.
    """
    transport = msgspec.convert(row.get("transport") or {}, _Transport)
    shown = {
        "peer id": row.get("peer_id"),
        "path": _path(row, transport),
        "carried": _carried(row.get("carried")),
        "round trip": _round_trip(transport),
        "sent": _sent(transport),
        "received": _received(transport),
        "flow": _flow(transport),
        "keys": _keys(transport),
        "channels": f"{transport.channels_open} open",
    }
    return {label: text for label, text in shown.items() if text}


def _path(row: Mapping[str, object], transport: _Transport) -> str:
    if not row.get("endpoint"):
        return "none yet"
    kind = row.get("path")
    by = "" if kind == "direct" else "by way of "
    words = [f"{kind}, {by}{row.get('endpoint')}"]
    if transport.packet_size:
        words.append(f"packets of {transport.packet_size} bytes")
    if transport.ecn:
        words.append(f"congestion marks {transport.ecn}")
    return ", ".join(words)


def _carried(carried: object) -> str:
    """Bytes by kind of path, where it was not the direct one alone."""
    kinds = msgspec.convert(carried or {}, dict[str, _Carried])
    if set(kinds) <= {"direct"}:
        return ""
    return ", ".join(
        f"{kind} {size_text(figures.sent)} out and {size_text(figures.received)} in"
        for kind, figures in kinds.items()
    )


def _round_trip(transport: _Transport) -> str:
    smoothed, latest = transport.smoothed_rtt_s, transport.latest_rtt_s
    if smoothed is None or latest is None:
        return "not measured yet"
    least, varies = transport.min_rtt_s or 0.0, transport.rtt_variation_s or 0.0
    return (
        f"{smoothed * 1e3:.2f} ms (latest {latest * 1e3:.2f}, least {least * 1e3:.2f},"
        f" varies by {varies * 1e3:.2f})"
    )


def _sent(transport: _Transport) -> str:
    packets, lost = transport.packets_sent, transport.packets_lost
    share = 100 * lost / packets if packets else 0.0
    return (
        f"{size_text(transport.bytes_sent)} in {packets:,} packets,"
        f" {lost:,} lost ({share:.2g} %), {transport.probe_timeouts:,} probe timeouts"
    )


def _received(transport: _Transport) -> str:
    text = (
        f"{size_text(transport.bytes_received)} in"
        f" {transport.packets_received:,} packets"
    )
    for count, what in (
        (transport.duplicates, "twice"),
        (transport.forged, "forged"),
        (transport.malformed, "malformed"),
        (transport.datagrams_dropped, "datagrams dropped"),
    ):
        if count:
            text += f", {count:,} {what}"
    return text


def _flow(transport: _Transport) -> str:
    text = (
        f"{size_text(round(transport.acked_rate_Bps))}/s acknowledged, window"
        f" {size_text(transport.congestion_window)},"
        f" {size_text(transport.bytes_in_flight)} in flight"
    )
    if transport.congestion_control:
        phase = transport.congestion_phase or "unknown"
        text += f" ({transport.congestion_control}: {phase})"
    return text


def _keys(transport: _Transport) -> str:
    kind = "not post-quantum yet" if transport.post_quantum_at is None else "hybrid"
    return f"epoch {transport.key_epoch}, {kind}"
