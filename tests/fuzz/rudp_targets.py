"""What must hold for any bytes given to an RUDP connection.

The invariant of every target: nothing escapes from a connection, and bytes from
somebody without the keys change nothing: a genuine datagram still arrives. The targets
are run by atheris (``fuzz_rudp``) and replayed as plain tests (``test_rudp_targets``).
"""

import random
from collections.abc import Callable

from opnode.protocols.rudp import packet
from opnode.protocols.rudp.events import ChannelReadable, Closed, DatagramReceived
from opnode.protocols.rudp.frames import encode_data, encode_datagram, encode_ping
from tests.fuzz.hostile_rudp import Victim
from tests.unit.protocols.rudp.far_end import THERE, FarEnd

Target = Callable[[bytes], None]
_ROOM = packet.BASE_PACKET_SIZE - packet.OVERHEAD


def drive(far: FarEnd) -> list[object]:
    """Do all that a driver does, and a moment later again; returns the events."""
    found: list[object] = []
    for _ in range(2):
        far.sent()
        for event in far.events():
            found.append(event)
            if isinstance(event, ChannelReadable):
                far.connection.read(event.channel_id, 1000, far.now)
        far.connection.handle_deadline(far.now)
        far.connection.statistics()
        far.now += 0.5
    return found


def stranger_target(data: bytes) -> None:
    """Any bytes as a run; the first byte chooses the size of the segments."""
    far = FarEnd()
    size = data[0] * 8 if data else 0
    far.connection.receive_run(memoryview(data), size, THERE, far.now)
    addressed = bytes([packet.PACKET_TYPE]) + far.connection.local_ids[0] + data
    far.connection.receive_run(memoryview(addressed), size, THERE, far.now)
    assert drive(far) == []
    far.feed(encode_datagram(b"genuine"))
    assert drive(far) == [DatagramReceived(b"genuine")]


def mutated_target(data: bytes) -> None:
    """Genuine packets with changes: two bytes a place, one the change."""
    far = FarEnd()
    far.settle()
    far.events()
    genuine = b"".join(
        far.packet(encode_data(0, 1151 * index, bytes(1151), fin=False))
        for index in range(3)
    )
    changed = bytearray(genuine)
    for start in range(0, len(data) - 2, 3):
        place = int.from_bytes(data[start : start + 2], "big")
        changed[place % len(changed)] ^= data[start + 2]
    run = memoryview(bytes(changed[: len(changed) - len(data) % 7]))
    far.connection.receive_run(run, packet.BASE_PACKET_SIZE, THERE, far.now)
    drive(far)
    far.arrive(*(genuine[start : start + 1200] for start in range(0, 3600, 1200)))
    assert far.connection.statistics().packets_received == far.next_number
    far.feed(encode_datagram(b"genuine"))
    assert drive(far)[-1] == DatagramReceived(b"genuine")


def mad_peer_target(data: bytes) -> None:
    """Any bytes as the frames of an authentic packet, twice; it may close."""
    far = FarEnd()
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, bytes(5000), far.now)
    far.feed(encode_ping(1) + data[: _ROOM - 5])
    drive(far)
    far.feed(data[:_ROOM] or b"\0")
    events = drive(far)
    assert not any(isinstance(event, Closed) for event in events[:-1])
    assert (
        far.connection._channels.flow.credit.received
        <= far.connection._config.connection_window
    )


class ByteDice(random.Random):
    """Dice whose throws are the given bytes, then zeros: data chooses what happens."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.left = len(data)
        self._data = data

    def getrandbits(self, k: int) -> int:
        size = (k + 7) // 8
        start = len(self._data) - self.left
        taken = self._data[start : start + size]
        self.left -= len(taken)
        return int.from_bytes(taken, "big") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / 65536

    def randbytes(self, n: int) -> bytes:
        return self.getrandbits(8 * n).to_bytes(n, "big") if n else b""


def hostile_peer_target(data: bytes) -> None:
    """The bytes choose what a peer seals, and how the application goes on meanwhile."""
    dice = ByteDice(data)
    victim = Victim(dice)
    for _ in range(100):
        if not dice.left or victim.closed is not None:
            break
        victim.suffer(1)
    victim.far.wait(5)
    victim.check_bounds()


TARGETS: tuple[Target, ...] = (
    stranger_target,
    mutated_target,
    mad_peer_target,
    hostile_peer_target,
)
