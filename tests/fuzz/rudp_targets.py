"""What must hold for any bytes given to an RUDP connection.

The invariant of every target: nothing escapes from a connection, and bytes from
somebody without the keys change nothing: a genuine datagram still arrives. The targets
are run by atheris (``fuzz_rudp``) and replayed as plain tests (``test_rudp_targets``).
"""

from collections.abc import Callable

from opnode.protocols.rudp import packet
from opnode.protocols.rudp.events import ChannelReadable, Closed, DatagramReceived
from opnode.protocols.rudp.frames import encode_data, encode_datagram, encode_ping
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
        far.connection._channels.credit.received
        <= far.connection._config.connection_window
    )


TARGETS: tuple[Target, ...] = (stranger_target, mutated_target, mad_peer_target)
