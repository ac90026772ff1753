"""Limits and timers of a connection, each with its reason; no behaviour."""

from dataclasses import dataclass

from opnode.core.errors import ConfigError
from opnode.protocols.rudp import frames, packet
from opnode.protocols.rudp.congestion import CongestionAlgorithm
from opnode.protocols.rudp.key_schedule import (
    MAX_PACKETS_PER_KEY,
    MIN_UPDATE_INTERVAL_S,
)

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RudpConfig:
    """Settings of one connection; both ends may differ in all of them.

    Attributes:
        channel_window: What the window of a channel may grow to, in unread bytes. 8 MiB
            carry 80 MB/s at 100 ms, and on loopback sender and receiver work at the
            same time although a driver takes up to 4 MB at once (371 MB/s; with 4 MiB
            238 MB/s).
        connection_window: Unread bytes held for all channels together at most: the
            most memory that a peer can make us hold. Windows that have grown take at
            most three quarters of it, one slow reader half.
        send_buffer: Bytes of a channel that wait for their acknowledgement; more than
            a window, so that the sender never idles while a window is full.
        max_channels: Channels that the peer may have open at once. An idle one costs
            2.4 kB, driver included: 10 MB in all.
        max_gaps: Holes in the received data of all channels together. 50 % loss of a
            full window makes 3600; a peer that makes more wants to exhaust us.
        max_received_ranges: Ranges of packet numbers remembered; older ones are seen.
        max_datagrams: Unreliable messages that wait in each direction.
        max_pings: Application pings under way.
        max_events: Events that wait for the driver, who takes them after every call.
        work_burst: Units of work, about 1 µs each, that the peer may cause at once
            without moving anything: 8000 lone PINGs.
        work_per_s: Units that come back in a second: less than a hundredth of a core.
        congestion: The congestion controller of what we send. BBR: where one packet
            in a hundred is lost at random it carries 90 % of 100 Mbit/s at 50 ms,
            CUBIC 2 %, and a CUBIC flow beside it keeps its share.
        initial_window_packets: Congestion window at the start. RFC 9002 §7.2 says 10;
            32 is what today's content networks use, and a channel starts 2 round
            trips sooner.
        max_window: Largest congestion window, in bytes.
        initial_rtt_s: Round trip assumed when ``set_path`` tells none. Below RFC 9002's
            333 ms, because a connection follows an answered introduction.
        min_pto_s: Shortest probe timeout; a busy Python process pauses this long.
        max_ack_delay_s: How long a lone packet waits for its acknowledgement; at most
            what the protocol promises to the peer.
        keep_alive_s: Silence after which one PING is sent; 0 sends none. NATs forget
            UDP mappings from 30 s on (RFC 4787 §4.3 asks for 120 s).
        idle_timeout_s: Silence after which the connection is given up: three
            keep-alives may be lost.
        key_update_packets: Packets sent under one key. Half of what AES-GCM bears
            for packets of any size (RFC 9001 §B.1), so that an update may fail once.
        key_update_interval_s: Age at which a key is replaced all the same: who breaks
            into a node finds the keys of the last minutes, not of the last weeks.
        max_paths: Addresses of the peer that are known at once. ICE tries eight; more
            come from nobody but a peer that wants to exhaust us.
        path_probe_s: While data flows, all paths are compared this often. Three
            comparisons in a row decide, so that 15 s of weather move nobody.
        max_packet_size: The largest packet that the search for the path's MTU tries;
            1200 turns it off. 65,507 is what UDP carries over loopback.
    """

    channel_window: int = 8 * _MIB
    connection_window: int = 16 * _MIB
    send_buffer: int = 10 * _MIB
    max_channels: int = 4096
    max_gaps: int = 4096
    max_received_ranges: int = 1024
    max_datagrams: int = 256
    max_pings: int = 16
    max_events: int = 16384
    work_burst: int = 40_000
    work_per_s: int = 5_000
    congestion: CongestionAlgorithm = CongestionAlgorithm.BBR
    initial_window_packets: int = 32
    max_window: int = 16 * _MIB
    initial_rtt_s: float = 0.1
    min_pto_s: float = 0.01
    max_ack_delay_s: float = frames.MAX_ACK_DELAY_S
    keep_alive_s: float = 25.0
    idle_timeout_s: float = 90.0
    key_update_packets: int = MAX_PACKETS_PER_KEY // 2
    key_update_interval_s: float = 600.0
    max_paths: int = 8
    path_probe_s: float = 5.0
    max_packet_size: int = 65_507

    def __post_init__(self) -> None:
        """Refuse values with which the protocol cannot work.

        Raises:
            ConfigError: Names the field.
        """
        _at_least("channel_window", self.channel_window, frames.INITIAL_CHANNEL_CREDIT)
        _at_least(
            "connection_window",
            self.connection_window,
            max(frames.INITIAL_CONNECTION_CREDIT, self.channel_window),
        )
        _at_least("send_buffer", self.send_buffer, frames.BASE_CHUNK_SIZE)
        _at_least("max_channels", self.max_channels, frames.INITIAL_CHANNEL_COUNT)
        _at_least("initial_window_packets", self.initial_window_packets, 2)
        _at_least("max_window", self.max_window, 2 * packet.BASE_PACKET_SIZE)
        _at_least("idle_timeout_s", self.idle_timeout_s, 1)
        _at_least(
            "key_update_interval_s", self.key_update_interval_s, MIN_UPDATE_INTERVAL_S
        )
        if not 1 <= self.key_update_packets <= MAX_PACKETS_PER_KEY // 2:
            raise ConfigError(
                "key_update_packets",
                self.key_update_packets,
                f"1 to {MAX_PACKETS_PER_KEY // 2}, half of what a key bears",
            )
        _at_least("max_paths", self.max_paths, 2)
        _at_least("max_packet_size", self.max_packet_size, packet.BASE_PACKET_SIZE)
        if not 0 <= self.max_ack_delay_s <= frames.MAX_ACK_DELAY_S:
            raise ConfigError(
                "max_ack_delay_s",
                self.max_ack_delay_s,
                f"0 to {frames.MAX_ACK_DELAY_S}, which the peer counts on",
            )


def _at_least(field: str, found: float, least: float) -> None:
    if found < least:
        raise ConfigError(field, found, f"at least {least}")
