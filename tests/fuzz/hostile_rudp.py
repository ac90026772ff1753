"""Hostile packets by the million against two RUDP connections; run by hand for long.

``python -m tests.fuzz.hostile_rudp --packets 1000000 --seed 1`` prints one line of
JSON; ``test_hostile_rudp`` replays a short run in the gate. Two attackers:

- ``NetworkAttacker`` has no keys, but sees every packet: it changes, cuts, lengthens,
  splices, repeats and delays them, and puts other ids, phases and numbers into them.
  Nothing may escape, nothing may close, and the bytes of every channel arrive.
- ``PeerAttacker`` has the keys: its packets authenticate, and hold anything. Nothing
  may escape and memory stays within the configuration; the connection may close.

Both ends keep talking meanwhile, so that everything happens to a busy connection.
"""

import argparse
import json
import random
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp import frames, packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.events import ChannelOpened, ChannelReadable, Closed
from opnode.protocols.rudp.hybrid import PART_SIZES
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.protocols.rudp.packet import Transmission
from opnode.testing.pair import End, LinkConfig, Pair
from tests.unit.protocols.rudp.far_end import FarEnd

CONFIG = RudpConfig(
    channel_window=256 * 1024,
    connection_window=1 << 20,
    send_buffer=64 * 1024,
    key_update_packets=64,
)
LINK = LinkConfig(latency_s=0.002, jitter_s=0.002, loss=0.01, duplication=0.02)
STRANGER = Endpoint("198.51.100.66", 6666)

WILDNESSES = (0.0, 0.0005, 0.01, 0.3)
"""How often a hostile peer does what none may do: a wild one is soon cut off."""

_HISTORY = 256
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
# Numbers that lie on a border of something.
_EDGES = (0, 1, 2, 3, 127, 128, 1151, 2**16, 2**18, 2**20, 2**31, 2**54, 2**62)


@dataclass(slots=True)
class Tally:
    """What a run did."""

    hostile: int = 0
    genuine: int = 0
    connections: int = 0
    closed_by_attack: int = 0
    bytes_delivered: int = 0


class Talk:
    """Some channels each way whose bytes are checked as they come out."""

    def __init__(self, pair: Pair, dice: random.Random) -> None:
        self.pair = pair
        self.dice = dice
        self.delivered = 0
        self._text = dice.randbytes(1 << 16)
        self._sent: dict[tuple[str, int], int] = {}
        self._got: dict[tuple[str, int], int] = {}
        self._taken = {"a": 0, "b": 0}

    def end(self, name: str) -> End:
        return self.pair.a if name == "a" else self.pair.b

    def act(self, name: str) -> None:
        """Do one thing that an application does."""
        connection, now = self.end(name).connection, self.pair.now
        action = self.dice.randrange(8)
        if action == 0 and connection.channels_available and len(self._sent) < 6:
            self._sent[name, connection.open_channel(now)] = 0
        elif action == 1:
            connection.send_datagram(b"noise", now)
        elif action == 2 and connection.may_ping:
            connection.ping(now)
        mine = [key for key in self._sent if key[0] == name]
        if mine:
            key = self.dice.choice(mine)
            start = self._sent[key] % len(self._text)
            piece = self._text[start : start + self.dice.choice((1, 300, 5000))]
            self._sent[key] += connection.send(key[1], piece, now)

    def read(self, name: str) -> None:
        """Read what is there, and compare it with what was written."""
        end, other = self.end(name), "b" if name == "a" else "a"
        for event in end.events:
            if isinstance(event, ChannelReadable | ChannelOpened):
                self._read_channel(end, (other, event.channel_id))
        end.events.clear()
        for key in list(self._sent):
            if key[0] == other and key in self._got:
                self._read_channel(end, key)

    def _read_channel(self, end: End, key: tuple[str, int]) -> None:
        if key not in self._sent:
            return
        while piece := end.connection.read(key[1], 9000, self.pair.now):
            at = self._got.get(key, 0)
            expected = self._expected(at, len(piece))
            assert piece == expected, f"other bytes came out of {key} at {at}"
            self._got[key] = at + len(piece)
            self.delivered += len(piece)

    def _expected(self, start: int, size: int) -> bytes:
        # A write never goes beyond the end of the text, so it starts anew there.
        start %= len(self._text)
        twice = self._text[start:] + self._text * (size // len(self._text) + 1)
        return twice[:size]

    def is_quiet(self) -> bool:
        """Whether all that was written was read."""
        return all(self._got.get(key, 0) == size for key, size in self._sent.items())


class NetworkAttacker:
    """On the path, without keys."""

    def __init__(self, dice: random.Random, tally: Tally) -> None:
        self.dice = dice
        self.tally = tally
        self.rate = 3
        self.seen: deque[bytes] = deque(maxlen=_HISTORY)

    def __call__(self, _end: End, burst: Transmission) -> list[bytes]:
        """Let the genuine packets through, late or not, among hostile ones."""
        size, out = burst.segment_size, []
        for start in range(0, len(burst.data), size):
            genuine = burst.data[start : start + size]
            self.tally.genuine += 1
            out.append(genuine)
            self.seen.append(genuine)
            hostile = [self.mutate(genuine) for _ in range(self.rate)]
            self.tally.hostile += len(hostile)
            out += hostile
        if self.dice.random() < 0.2:
            self.dice.shuffle(out)
        return out

    def mutate(self, genuine: bytes) -> bytes:
        """Make one hostile packet of a genuine one and those seen before."""
        dice, wire = self.dice, bytearray(genuine)
        match dice.randrange(9):
            case 0:
                for _ in range(dice.randint(1, 4)):
                    wire[dice.randrange(len(wire))] ^= 1 << dice.randrange(8)
            case 1:
                del wire[dice.randrange(len(wire)) :]
            case 2:
                wire += dice.randbytes(dice.choice((1, 16, 1200)))
            case 3:
                other = dice.choice(self.seen)
                cut = dice.randrange(len(wire))
                wire[cut:] = other[cut:]
            case 4:
                return dice.choice(self.seen)
            case 5:
                wire[1 : packet.PREFIX_SIZE] = dice.randbytes(8)
            case 6:
                wire[packet.PREFIX_SIZE] ^= 1 << dice.randrange(8)
            case 7:
                number = int.from_bytes(wire[10:17], "big") + dice.choice(
                    (-1, 1, 2, 1 << 20, 1 << 40, -(1 << 20))
                )
                wire[10:17] = (number % (1 << 56)).to_bytes(7, "big")
            case _:
                header = bytes(wire[: packet.HEADER_SIZE])
                return header + dice.randbytes(dice.choice((1, 17, 18, 1183, 65000)))
        return bytes(wire) or b"\xe0"


class FrameMaker:
    """Frames that a hostile peer seals: whole ones with odd values, and junk."""

    def __init__(self, dice: random.Random, wildness: float) -> None:
        """A wild maker is soon caught; a tame one gets deep into the victim."""
        self.dice = dice
        self.wildness = wildness
        self._makers = (
            lambda: frames.encode_ping(self.number(_U32)),
            lambda: frames.encode_channel_credit(self.channel(), self.number(_U64)),
            lambda: frames.encode_connection_credit(self.number(_U64)),
            lambda: frames.encode_channel_count(self.number(_U32)),
            self.reset,
            lambda: frames.encode_stop_reading(self.channel(), self.number(_U32)),
            lambda: frames.encode_datagram(self.junk(200)),
            lambda: frames.encode_path_challenge(dice.randbytes(8)),
            lambda: frames.encode_path_response(dice.randbytes(8)),
            self.key_share,
            lambda: frames.encode_ack_frequency(
                self.number(_U32), self.number(65535), dice.random() * 4
            ),
            self.data,
            self.data,
            self.data,
            self.ack,
            lambda: bytes(dice.randrange(50)),
        )

    def frames(self) -> bytes:
        """Return what one packet holds."""
        dice = self.dice
        wire = bytearray()
        for _ in range(dice.choice((1, 1, 2, 5))):
            made = dice.choice(self._makers)()
            if len(wire) + len(made) <= packet.BASE_PACKET_SIZE - packet.OVERHEAD:
                wire += made
        kind = dice.randrange(8) if self.is_wild() else -1
        if kind == 0 and wire:
            wire[dice.randrange(len(wire))] ^= dice.randint(1, 255)
        elif kind == 1:
            del wire[dice.randrange(len(wire) + 1) :]
        elif kind == 2:
            wire = bytearray(self.junk(100))
        elif kind == 3:
            wire = bytearray(frames.encode_close(self.number(_U32), "away"))
        return bytes(wire) or b"\0"

    def key_share(self) -> bytes:
        """Make what is hardly ever a part of an encapsulation key."""
        if not self.is_wild():
            return b""
        if self.dice.randrange(2):
            return frames.encode_key_share(self.number(255), self.junk(640) or b"x")
        part = self.dice.randbytes(PART_SIZES[True])
        return frames.encode_key_share(self.dice.randrange(2), part)

    def is_wild(self) -> bool:
        """Whether to do now what no peer may do."""
        return self.dice.random() < self.wildness

    def number(self, maximum: int) -> int:
        """Draw a number, often one on a border."""
        dice = self.dice
        if not self.is_wild():
            return min(dice.randrange(1 << 16), maximum)
        if dice.randrange(3):
            return min(max(dice.choice(_EDGES) + dice.randint(-1, 1), 0), maximum)
        return dice.randint(0, maximum)

    def channel(self) -> int:
        """Draw a channel, most often one that may exist."""
        if self.is_wild():
            return self.number(_U32)
        return 2 * self.dice.randrange(12)

    def junk(self, longest: int) -> bytes:
        """Draw bytes."""
        return self.dice.randbytes(self.dice.randint(0, longest))

    def data(self) -> bytes:
        """Draw a DATA frame; mostly within the credit, with holes."""
        dice = self.dice
        offset = self.number(_U64) if self.is_wild() else dice.randrange(1 << 16)
        return frames.encode_data(
            self.channel(), offset, self.junk(300), fin=self.is_wild()
        )

    def reset(self) -> bytes:
        """Draw a RESET; a wrong final size is a violation."""
        if not self.is_wild():
            return b""
        return frames.encode_reset(self.channel(), 1, self.number(_U64))

    def ack(self) -> bytes:
        """Draw an ACK of what was never received."""
        if not self.is_wild():
            return b""
        top, ranges = self.number((1 << 53) + 9) + 200, []
        for _ in range(self.dice.choice((1, 2, 64))):
            length = self.dice.randint(1, 3)
            ranges.append((top - length, top, self.dice.randrange(256)))
            top -= length + 1
            if top < 4:
                break
        return frames.encode_ack(self.dice.random(), ranges)


def attack_from_the_network(packets: int, seed: int) -> Tally:
    """Talk on one connection after another while its packets are tampered with."""
    dice, tally = random.Random(seed), Tally()
    while tally.hostile < packets:
        tally.connections += 1
        pair = Pair(link=LINK, config=CONFIG, seed=dice.randrange(1 << 30))
        attacker = NetworkAttacker(dice, tally)
        pair.on_transmission = attacker
        talk = Talk(pair, dice)
        limit = min(packets, tally.hostile + 20_000)
        while tally.hostile < limit:
            for name in "ab":
                talk.act(name)
            pair.run_for(0.001)
            for end in (pair.a, pair.b):
                assert not end.events_of(Closed), end.events_of(Closed)
            for name in "ab":
                talk.read(name)
            if dice.randrange(8) == 0:
                genuine = attacker.mutate(bytes(packet.BASE_PACKET_SIZE))
                pair.put_on_link(STRANGER, pair.b.endpoint, genuine)
        attacker.rate = 0
        pair.link = LinkConfig(latency_s=0.002)
        for _ in range(60):
            pair.run_for(0.5)
            for name in "ab":
                talk.read(name)
        assert talk.is_quiet(), "bytes are missing after the attack"
        tally.bytes_delivered += talk.delivered
    return tally


def attack_by_the_peer(packets: int, seed: int) -> Tally:
    """Seal anything under the keys of a live connection, until it closes; again."""
    dice, tally = random.Random(seed), Tally()
    while tally.hostile < packets:
        tally.connections += 1
        victim = Victim(dice, WILDNESSES[tally.connections % len(WILDNESSES)])
        left = min(dice.choice((50, 2000)), packets // (2 * len(WILDNESSES)))
        while left > 0 and victim.closed is None:
            count = dice.choice((1, 2, 40))
            victim.suffer(count)
            tally.hostile += count
            left -= count
        tally.closed_by_attack += victim.closed is not None
        tally.genuine += victim.answered
        victim.far.wait(5)
        victim.check_bounds()
    return tally


class Victim:
    """A connection whose peer is hostile, with an application that writes and reads."""

    def __init__(self, dice: random.Random, wildness: float | None = None) -> None:
        self.dice = dice
        self.far = FarEnd(config=CONFIG)
        if wildness is None:
            wildness = dice.choice(WILDNESSES)
        self.maker = FrameMaker(dice, wildness)
        self.closed: Closed | None = None
        self.answered = 0
        self._channels: list[int] = []

    def suffer(self, count: int) -> None:
        """Let that many hostile packets arrive, one read each, and do all the rest."""
        far, dice = self.far, self.dice
        for _ in range(count):
            far.feed(self.maker.frames())
        self._write()
        numbers = [number for number, _ in far.sent()]
        self.answered += len(numbers)
        self.check_bounds()
        for event in far.events():
            assert self.closed is None, f"{event} after the connection had closed"
            if isinstance(event, Closed):
                self.closed = event
            elif isinstance(event, ChannelReadable):
                while far.connection.read(event.channel_id, 9000, far.now):
                    pass
        if numbers and dice.randrange(4):
            far.acknowledge(*numbers[-60:])
        if dice.randrange(4) == 0:
            far.wait(dice.choice((0.001, 0.02, 0.3)))

    def _write(self) -> None:
        connection, now = self.far.connection, self.far.now
        if self.closed is not None or connection.state is not ConnectionState.OPEN:
            return
        if len(self._channels) < 4 and connection.channels_available:
            self._channels.append(connection.open_channel(now))
        connection.send(self.dice.choice(self._channels), bytes(2000), now)
        connection.send_datagram(b"noise", now)

    def check_bounds(self) -> None:
        """What a peer can make us hold is bounded by the configuration.

        Raises:
            AssertionError: It is not.
        """
        connection = self.far.connection
        channels = connection._channels
        assert len(channels) <= CONFIG.max_channels + frames.INITIAL_CHANNEL_COUNT
        held = channels.flow.credit.received - channels.flow.credit.consumed
        assert held <= CONFIG.connection_window
        assert channels._islands.count <= CONFIG.max_gaps
        assert len(connection._acks.received) <= CONFIG.max_received_ranges
        assert len(connection._controls) <= 4 * CONFIG.max_channels + 64
        assert len(connection._events._events) <= CONFIG.max_events + 1


def resident_kB() -> int:  # noqa: N802 - units come last
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


ATTACKS = {"network": attack_from_the_network, "peer": attack_by_the_peer}


def main() -> None:
    """Run both attacks in slices; the memory after the first slice is the start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slices", type=int, default=10)
    options = parser.parse_args()
    for name, attack in ATTACKS.items():
        total, memory_kB = Tally(), []  # noqa: N806 - units come last
        for index in range(options.slices):
            tally = attack(options.packets // options.slices, options.seed + index)
            for field in Tally.__slots__:
                setattr(total, field, getattr(total, field) + getattr(tally, field))
            memory_kB.append(resident_kB())
        figures = {field: getattr(total, field) for field in Tally.__slots__}
        growth = memory_kB[-1] - memory_kB[0]
        line = {"attack": name, **figures, "growth_kB": growth}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
