"""What a connection does to its keys, with the rest of the connection played here."""

import pytest

from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection_ids import ConnectionIds
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.frames import (
    FrameType,
    KeyShareFrame,
    encode_ping,
    parse_frames,
)
from opnode.protocols.rudp.hybrid import PARTS
from opnode.protocols.rudp.key_schedule import MAX_PACKETS_PER_KEY
from opnode.protocols.rudp.packet_keys import MAX_FORGED_PER_KEY, PacketKeys
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.recovery import Recovery
from opnode.protocols.rudp.rekeying import Rekeying
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError
from opnode.testing.keys import SeededKem
from opnode.testing.pair import seeded_keys

PING = encode_ping(0)
CONFIG = RudpConfig(key_update_packets=100, key_update_interval_s=60.0)


class Desk:
    """One end: its keys, its packet numbers and the frames that it wants to send."""

    def __init__(self, *, initiator: bool) -> None:
        keys = seeded_keys()[0 if initiator else 1]
        self.keys = PacketKeys(keys, initiator=initiator, config=CONFIG)
        self.keys.start(0.0)
        ids = ConnectionIds(keys, of_initiator=not initiator, ours=False)
        self.sealer = PacketSealer(self.keys, ids[0], ReceiptProof(bytes(32)))
        self.controls = ControlQueue()
        kem = SeededKem(str(initiator))
        self.rekeying = Rekeying(
            kem,
            self.sealer,
            self.controls,
            Recovery(initial_rtt_s=0.1, min_pto_s=0.01),
        )

    def frames(self) -> list[bytes]:
        """Take the control frames that wait."""
        frames, _ = self.controls.take(1 << 16, lambda _: PING)
        return frames

    def parts(self) -> list[KeyShareFrame]:
        wire = b"".join(self.frames())
        return [
            frame for frame in parse_frames(wire, 0) if isinstance(frame, KeyShareFrame)
        ]

    def take(self, parts: list[KeyShareFrame], now: float = 0.0) -> None:
        for part in parts:
            self.rekeying.on_key_share(part, now)


def exchanged() -> tuple[Desk, Desk]:
    """Two ends, of which the initiator sends under the new keys."""
    one, other = Desk(initiator=True), Desk(initiator=False)
    one.sealer.seal(b"first")
    one.rekeying.before_burst(0.0)
    other.take(one.parts())
    one.take(other.parts())
    return one, other


def test_the_exchange_waits_for_the_first_packet():
    desk = Desk(initiator=True)
    assert desk.rekeying.before_burst(0.0)
    assert desk.parts() == []
    desk.sealer.seal(b"first")
    assert desk.rekeying.before_burst(0.0)
    assert [part.part for part in desk.parts()] == list(range(PARTS))
    assert desk.rekeying.before_burst(0.0)
    assert desk.parts() == []


def test_the_responder_says_nothing_by_itself():
    desk = Desk(initiator=False)
    desk.sealer.seal(b"first")
    desk.rekeying.before_burst(0.0)
    assert desk.parts() == []


def test_the_initiator_changes_keys_with_the_answer_and_asks_to_be_confirmed():
    one, other = exchanged()
    assert (one.keys.send_epoch, other.keys.send_epoch) == (1, 0)
    assert one.frames() == [PING]


def test_lost_parts_are_made_again_until_the_new_keys_are_in_use():
    one, other = Desk(initiator=True), Desk(initiator=False)
    one.sealer.seal(b"first")
    one.rekeying.before_burst(0.0)
    parts = one.parts()
    one.controls.restore(((FrameType.KEY_SHARE, 0), (FrameType.KEY_SHARE, 1)))
    assert one.parts() == parts
    other.take(parts)
    one.take(other.parts())
    one.controls.restore(((FrameType.KEY_SHARE, 0), (FrameType.KEY_SHARE, 1)))
    assert one.parts() == []
    other.keys.is_unsettled = True
    other.rekeying.after_run(0, 0.0)
    other.controls.restore(((FrameType.KEY_SHARE, 0),))
    assert other.parts() == []


def test_an_update_happens_when_it_is_due_and_allowed():
    one, other = exchanged()
    header, sealed = one.sealer.seal(b"second")
    other.keys.open_other_phase(1, header[5:], sealed, expected=1, now=1.0)
    other.rekeying.after_run(0, 1.0)
    header, sealed = other.sealer.seal(b"answer")
    one.keys.open_other_phase(0, header[5:], sealed, expected=0, now=1.0)
    one.rekeying.after_run(0, 1.0)
    one.keys.on_acked(1)
    one.keys.on_deadline(10.0)
    one.rekeying.before_burst(59.0)
    assert one.keys.send_epoch == 1
    one.rekeying.before_burst(61.0)
    assert one.keys.send_epoch == 2


def test_an_end_that_nobody_acknowledges_asks_for_it_once_a_second():
    one, _ = exchanged()
    one.frames()
    for now, asked in ((61.0, [PING]), (61.5, []), (62.0, [PING])):
        one.rekeying.before_burst(now)
        assert one.frames() == asked
    one.keys.on_acked(1)
    one.rekeying.before_burst(64.0)
    assert one.frames() == []


@pytest.mark.parametrize("initiator", [True, False])
def test_no_packet_leaves_under_a_key_that_no_update_replaced(initiator):
    desk = Desk(initiator=initiator)
    desk.sealer.next_number = MAX_PACKETS_PER_KEY - 1
    assert desk.rekeying.before_burst(0.0)
    desk.sealer.next_number = MAX_PACKETS_PER_KEY
    assert not desk.rekeying.before_burst(0.0)


def test_a_connection_whose_exchange_never_ends_is_over_at_last():
    desk = Desk(initiator=False)
    assert desk.rekeying.before_burst(60.0)
    assert desk.rekeying.before_burst(179.9)
    assert not desk.rekeying.before_burst(180.0)


def test_forged_packets_beyond_the_limit_of_a_key_end_the_connection():
    desk = Desk(initiator=False)
    desk.rekeying.after_run(MAX_FORGED_PER_KEY - 1, 0.0)
    with pytest.raises(PeerViolationError) as caught:
        desk.rekeying.after_run(MAX_FORGED_PER_KEY, 0.0)
    assert caught.value.code is CloseCode.KEY_EXHAUSTED
