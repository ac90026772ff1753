"""Packets of paths bear the ids of their paths, and claims get copies."""

import random

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection_ids import ConnectionIds
from opnode.protocols.rudp.frames import PathChallengeFrame
from opnode.protocols.rudp.packet import PREFIX_SIZE
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.path_table import PathTable
from opnode.protocols.rudp.path_traffic import OwnIds, PathTraffic
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.testing.pair import seeded_keys

FIRST = Endpoint("192.0.2.2", 4002)
SECOND = Endpoint("198.51.100.7", 4003)
WINDOW = 1 << 20


class Timer:
    """A path that data measured, always alike."""

    probe_timeout_s = 0.1
    shortest_rtt_s = None


class Desk:
    """The traffic of an initiator."""

    def __init__(self) -> None:
        keys, _ = seeded_keys()
        self.own = ConnectionIds(keys, of_initiator=True, ours=True)
        self.peer = ConnectionIds(keys, of_initiator=False, ours=False)
        self.sealer = PacketSealer(
            PacketKeys(keys, initiator=True, config=RudpConfig()),
            self.peer[0],
            ReceiptProof(bytes(32)),
        )
        self.table = PathTable(
            RudpConfig(), random.Random(1), Timer(), lambda *_: None, initiator=True
        )
        self.traffic = PathTraffic(
            table=self.table,
            own_ids=OwnIds(keys, initiator=True),
            peer_ids=self.peer,
            sealer=self.sealer,
        )

    def arrive(self, index: int, source: Endpoint, size: int = 100) -> bool:
        """Let an authentic run that bears our id with this index arrive."""
        run = self.own[index].prefix.ljust(size, b"x")
        return self.traffic.on_run(memoryview(run), source, 1.0, is_newest=True)


def test_without_a_path_there_is_nothing_to_seal_for():
    assert Desk().traffic.select() is None


def test_packets_of_a_path_bear_its_id_and_those_of_data_keep_theirs():
    desk = Desk()
    desk.table.set_path(FIRST, 0.0, None)
    desk.table.add(SECOND, 0.0, None)
    (probe,) = desk.traffic.probes(0.0, WINDOW)
    assert probe.destination == SECOND
    assert probe.data[:PREFIX_SIZE] == desk.peer[1].prefix
    assert desk.sealer.connection_id == desk.peer[0]


def test_the_active_path_s_id_seals_data():
    desk = Desk()
    desk.table.set_path(FIRST, 0.0, None)
    desk.arrive(0, FIRST)
    assert desk.arrive(2, FIRST)
    assert desk.traffic.select() is desk.table.active
    assert desk.sealer.connection_id == desk.peer[2]


def test_ids_are_told_again_only_when_they_changed():
    desk = Desk()
    desk.table.set_path(FIRST, 0.0, None)
    assert not desk.arrive(0, FIRST)
    before = desk.traffic.own_ids.wire_ids
    assert desk.arrive(3, SECOND)
    assert not desk.arrive(3, SECOND)
    assert desk.traffic.own_ids.wire_ids != before
    assert desk.own[7].wire_id in desk.traffic.own_ids.wire_ids


def test_a_claim_gets_copies_of_what_its_budget_allows():
    desk = Desk()
    desk.table.set_path(FIRST, 0.0, None)
    desk.arrive(0, FIRST)
    desk.arrive(0, SECOND, 1000)
    whole, copy = desk.traffic.address(bytes(4000), 1200, 2)
    assert (whole.destination, len(whole.data)) == (FIRST, 4000)
    assert (copy.destination, len(copy.data), copy.ecn) == (SECOND, 2400, 2)
    small = desk.traffic.address(bytes(600), 1200, 0)
    assert [len(sent.data) for sent in small] == [600, 600]
    assert len(desk.traffic.address(bytes(1), 1200, 0)) == 1


def test_a_flood_of_path_frames_in_one_read_is_cut():
    desk = Desk()
    desk.table.set_path(FIRST, 0.0, None)
    for number in range(100):
        desk.traffic.on_frame(PathChallengeFrame(bytes([number] * 8)))
    desk.arrive(0, FIRST)
    (answer,) = desk.traffic.probes(1.0, WINDOW)
    assert answer.destination == FIRST
    assert not desk.traffic.probes(1.0, WINDOW)
