"""The figures of a connection as one frozen value; counts nothing itself."""

from dataclasses import dataclass

from opnode.core.addresses import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RudpStatistics:
    """A snapshot; bytes are whole packets unless the name says otherwise.

    Attributes:
        path: Where packets go now, or None before the first path.
        candidate_path: Another source of an authentic but older packet, if any.
        smoothed_rtt_s: RFC 6298 average, or None before the first measurement.
        latest_rtt_s: The newest round trip measured.
        min_rtt_s: The shortest round trip measured on this path.
        rtt_variation_s: RFC 6298 mean deviation.
        congestion_window: Bytes that may be in flight.
        bytes_in_flight: Bytes sent and neither acknowledged nor lost.
        pacing_rate_Bps: Bytes per second at which packets are spread.
        congestion_control: Name of the controller.
        congestion_phase: What the controller is doing.
        ecn: What is known of congestion marks on this path.
        packet_size: Bytes of a full packet, as found for this path.
        acked_rate_Bps: Bytes per second acknowledged over the last round trips.
        packets_sent: Packets built, acknowledgements included.
        packets_received: Authentic packets, each number once.
        bytes_sent: Size of the packets sent.
        bytes_received: Size of the packets received.
        packets_lost: Packets that were declared lost.
        probe_timeouts: Times that nothing came back in time.
        duplicates: Authentic packets whose number was seen before.
        forged: Packets that did not authenticate.
        malformed: Packets of a wrong size, prefix or key phase.
        datagrams_dropped: Unreliable messages that found no room in the queue here.
        channels_open: Channels with a half that is not over.
        key_epoch: How many key updates both directions have seen.
        post_quantum_at: When, by the connection's clock, the keys of the post-quantum
            exchange came to protect both directions; None before.
    """

    path: Endpoint | None
    candidate_path: Endpoint | None
    smoothed_rtt_s: float | None
    latest_rtt_s: float | None
    min_rtt_s: float | None
    rtt_variation_s: float | None
    congestion_window: int
    bytes_in_flight: int
    pacing_rate_Bps: float  # noqa: N815 - units come last, and a byte is a capital B
    congestion_control: str
    congestion_phase: str
    ecn: str
    packet_size: int
    acked_rate_Bps: float  # noqa: N815 - units come last, and a byte is a capital B
    packets_sent: int
    packets_received: int
    bytes_sent: int
    bytes_received: int
    packets_lost: int
    probe_timeouts: int
    duplicates: int
    forged: int
    malformed: int
    datagrams_dropped: int
    channels_open: int
    key_epoch: int
    post_quantum_at: float | None
