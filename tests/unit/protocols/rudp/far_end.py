"""A connection under test whose peer is played by hand, packet by packet."""

import random

from opnode.core.addresses import Endpoint
from opnode.core.crypto import new_aead
from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.events import Closed, Event
from opnode.protocols.rudp.packet import Frame
from opnode.testing.pair import seeded_keys

HERE = Endpoint("192.0.2.1", 4001)
THERE = Endpoint("192.0.2.2", 4002)
ELSEWHERE = Endpoint("198.51.100.7", 4003)


class FarEnd:
    """Seals frames for the connection, opens what it sends, keeps the time.

    The connection is the responder, so channels 0, 2, 4 are opened from here.
    """

    def __init__(
        self, *, config: RudpConfig | None = None, connected: bool = True
    ) -> None:
        ours, theirs = seeded_keys()
        self.now = 10.0
        self.connection = RudpConnection(
            initiator=False,
            keys=theirs,
            config=config or RudpConfig(),
            rng=random.Random(1),
        )
        self.connection.max_segments = 54
        self.next_number = 0
        self._seal = new_aead(ours.send)
        self._open = new_aead(ours.receive)
        if connected:
            self.connection.set_path(THERE, self.now)

    def packet(self, *frames: bytes, number: int | None = None) -> bytes:
        """Seal frames into one packet, under the next number or a given one."""
        if number is None:
            number = self.next_number
            self.next_number += 1
        prefix = bytes([packet.PACKET_TYPE]) + self.connection.local_id
        header = packet.pack_header(prefix, number)
        nonce = packet.pack_nonce(0, number)
        return header + self._seal.encrypt(nonce, b"".join(frames), header)

    def feed(
        self, *frames: bytes, number: int | None = None, source: Endpoint = THERE
    ) -> None:
        """Let one packet arrive."""
        self.arrive(self.packet(*frames, number=number), source=source)

    def arrive(self, *packets: bytes, source: Endpoint = THERE) -> None:
        """Let packets arrive as one run."""
        self.connection.receive_run(
            memoryview(b"".join(packets)), len(packets[0]), source, self.now
        )

    def wait(self, duration_s: float) -> None:
        """Let time pass, with its deadlines."""
        end_at = self.now + duration_s
        while True:
            deadline = self.connection.next_deadline()
            if deadline is None or deadline > end_at:
                break
            self.now = max(self.now, deadline)
            self.connection.handle_deadline(self.now)
            if self.connection.next_deadline() == deadline:
                break
        self.now = end_at

    def sent(self) -> list[tuple[int, list[Frame]]]:
        """Take and open all packets that the connection wants to send."""
        opened = []
        while bursts := self.connection.datagrams_to_send(self.now):
            for burst in bursts:
                size = burst.segment_size
                opened += [
                    self.open(burst.data[start : start + size])
                    for start in range(0, len(burst.data), size)
                ]
        return opened

    def open(self, data: bytes) -> tuple[int, list[Frame]]:
        """Open one packet of the connection."""
        header, body = data[: packet.HEADER_SIZE], data[packet.HEADER_SIZE :]
        _, number = packet.unpack_header(header)
        plaintext = self._open.decrypt(packet.pack_nonce(0, number), body, header)
        return number, packet.parse_frames(plaintext)

    def frames(self, kind: type[Frame]) -> list[Frame]:
        """Take all packets and return their frames of one kind."""
        return [
            frame
            for _, frames in self.sent()
            for frame in frames
            if isinstance(frame, kind)
        ]

    def acknowledge(self, *numbers: int) -> None:
        """Acknowledge single packets, or all below `next` when none is named."""
        ranges = [(number, number + 1) for number in sorted(numbers, reverse=True)]
        joined: list[tuple[int, int]] = []
        for start, stop in ranges:
            if joined and joined[-1][0] == stop:
                joined[-1] = (start, joined[-1][1])
            else:
                joined.append((start, stop))
        self.feed(packet.encode_ack(0.0, joined))

    def settle(self) -> None:
        """Acknowledge everything until the connection has nothing to say."""
        while sent := self.sent():
            self.acknowledge(*(number for number, _ in sent))

    def events(self) -> list[Event]:
        """Take all events."""
        found = []
        while (event := self.connection.next_event()) is not None:
            found.append(event)
        return found

    def closed(self) -> Closed | None:
        """Take all events and return the last one if it ends the connection."""
        found = self.events()
        return found[-1] if found and isinstance(found[-1], Closed) else None
