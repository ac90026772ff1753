"""A connection under test whose peer is played by hand, packet by packet."""

import random

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.connection_ids import ConnectionId, ConnectionIds
from opnode.protocols.rudp.events import Closed, Event
from opnode.protocols.rudp.frames import (
    Frame,
    KeyShareFrame,
    PathChallengeFrame,
    encode_ack,
    encode_key_share,
    encode_path_response,
    parse_frames,
)
from opnode.protocols.rudp.hybrid import PARTS, HybridExchange
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.receipts import Receipt
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.testing.keys import SeededKem
from opnode.testing.pair import seeded_keys

HERE = Endpoint("192.0.2.1", 4001)
THERE = Endpoint("192.0.2.2", 4002)
# More ids than a test uses.
_IDS = 8
ELSEWHERE = Endpoint("198.51.100.7", 4003)


class FarEnd:
    """Seals frames for the connection, opens what it sends, keeps the time.

    The connection is the responder, so channels 0, 2, 4 are opened from here.
    """

    def __init__(
        self,
        *,
        config: RudpConfig | None = None,
        connected: bool = True,
        seed: int = 1,
    ) -> None:
        ours, theirs = seeded_keys()
        self.now = 10.0
        self.connection = RudpConnection(
            initiator=False,
            keys=theirs,
            config=config or RudpConfig(),
            rng=random.Random(seed),
            kem=SeededKem("connection"),
        )
        self.connection.max_segments = 54
        self.next_number = 0
        self.keys = PacketKeys(ours, initiator=True, config=RudpConfig())
        self.keys.start(self.now)
        # The connection is the responder: what it sends goes to the initiator's id.
        own_ids = ConnectionIds(ours, of_initiator=True, ours=True)
        self._own_ids = {own_ids[n].prefix: own_ids[n].offset for n in range(_IDS)}
        self.its_ids = ConnectionIds(ours, of_initiator=False, ours=False)
        self.its_id = self.its_ids[0]
        self._proof = ReceiptProof(bytes(range(32)))
        self._sealer = PacketSealer(self.keys, self.its_id, self._proof)
        # The proof bytes of all packets that were opened, by number.
        self._marks: dict[int, int] = {}
        if connected:
            self.connection.set_path(THERE, self.now)

    def own_id(self, index: int) -> ConnectionId:
        """Return an id of ours, which the connection may use."""
        return ConnectionIds(seeded_keys()[0], of_initiator=True, ours=True)[index]

    def use_id(self, index: int) -> None:
        """Send with another id of the connection from now on."""
        self._sealer.connection_id = self.its_ids[index]

    def packet(self, *frames: bytes, number: int | None = None) -> bytes:
        """Seal frames into one packet, under the next number or a given one."""
        if number is None:
            number = self.next_number
            self.next_number += 1
        self._sealer.next_number = number
        return b"".join(self._sealer.seal(b"".join(frames)))

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
        offset = self._own_ids[data[: packet.PREFIX_SIZE]]
        (wire_number,) = packet.unpack_wire_number(data, packet.PREFIX_SIZE)
        number = (wire_number & packet.WIRE_NUMBER_MASK) - offset
        nonce, sealed = data[packet.NONCE_AT : packet.HEADER_SIZE], data[17:]
        if wire_number & packet.KEY_PHASE_FLAG == self.keys.receive_phase:
            plaintext = self.keys.decrypt(nonce, sealed, None)
        else:
            plaintext = self._open_other_phase(number, nonce, sealed)
        self._marks[number] = plaintext[0]
        return number, parse_frames(plaintext, packet.PROOF_SIZE)

    def _open_other_phase(self, number: int, nonce: bytes, sealed: bytes) -> bytes:
        """Open the first packet of a new key phase, and follow."""
        expected = max(self._marks, default=-1) + 1
        plaintext = self.keys.open_other_phase(
            number, nonce, sealed, expected=expected, now=self.now
        )
        assert plaintext is not None
        self.keys.settle(
            next_number=self.next_number, forged=0, timeout_s=0.1, now=self.now
        )
        return plaintext

    def exchange_keys(self) -> None:
        """Play the initiator of the post-quantum exchange; we send in epoch 1 then."""
        exchange = HybridExchange(self.keys, SeededKem("far end"))
        exchange.offer()
        for part in range(PARTS):
            self.feed(encode_key_share(part, exchange.part(part)))
        for frame in self.frames(KeyShareFrame):
            exchange.on_part(frame.part, frame.data)
        self.update_keys()

    def update_keys(self) -> None:
        """Seal under the next keys from now on, whether that is allowed or not."""
        self.keys.old_until = None
        self.keys.is_confirmed = True
        self.keys._started_at = float("-inf")
        assert self.keys.update(self.next_number, self.now)

    def sent_to(self, endpoint: Endpoint) -> list[Frame]:
        """Take all packets and return the frames of those for one address."""
        found: list[Frame] = []
        while bursts := self.connection.datagrams_to_send(self.now):
            for burst in bursts:
                size = burst.segment_size
                for start in range(0, len(burst.data), size):
                    _, frames = self.open(burst.data[start : start + size])
                    found += frames if burst.destination == endpoint else []
        return found

    def answer(self, endpoint: Endpoint) -> None:
        """Answer the challenges that are sent to an address, from there."""
        for frame in self.sent_to(endpoint):
            if isinstance(frame, PathChallengeFrame):
                self.feed(encode_path_response(frame.token), source=endpoint)

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
        self.feed(encode_ack(0.0, [self.receipt(*found) for found in joined]))

    def receipt(self, start: int, stop: int) -> Receipt:
        """Return a range of an ACK, proven as well as what was opened allows."""
        proof = 0
        for number in range(start, stop):
            proof ^= self._marks.get(number, 0)
        return start, stop, proof

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
