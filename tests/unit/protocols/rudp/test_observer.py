"""What an observer hears is what happened, and nobody pays who has none."""

from opnode.protocols.rudp.observer import BulkPackets, LostPackets
from opnode.testing.pair import LinkConfig, Pair


class Listener:
    """Keeps what it is told."""

    def __init__(self):
        self.sent = {}
        self.received = []
        self.lost = []

    def at(self, now):
        pass

    def packet_sent(self, number, frames, size):
        assert frames
        self.sent[number] = size

    def bulk_sent(self, packets):
        assert isinstance(packets, BulkPackets)
        for number in range(packets.first, packets.first + packets.packets):
            self.sent[number] = packets.size

    def packet_received(self, number, frames, size):
        assert frames
        self.received.append((number, size))

    def packets_lost(self, lost):
        assert all(isinstance(run, LostPackets) for run in lost)
        self.lost += [n for run in lost for n in range(run.first, run.stop)]

    def measured(self, statistics):
        pass


def transfer(link, *, watched=True):
    """Send 300 kB from a to b; returns the pair and both listeners."""
    pair = Pair(link=link)
    listeners = Listener(), Listener()
    if watched:
        pair.a.connection.observe(listeners[0])
        pair.b.connection.observe(listeners[1])
    connection = pair.a.connection
    channel = connection.open_channel(pair.now)
    assert connection.send(channel, bytes(300_000), pair.now) == 300_000
    pair.run_for(5.0)
    return pair, *listeners


HOSTILE = LinkConfig(jitter_s=0.01, loss=0.05, duplication=0.05)


def test_each_packet_sent_is_told_once_with_its_size():
    pair, a, _ = transfer(HOSTILE)
    statistics = pair.a.connection.statistics()
    assert len(a.sent) == statistics.packets_sent > 200
    assert sum(a.sent.values()) == statistics.bytes_sent


def test_each_packet_received_is_told_once_though_it_came_twice_and_late():
    pair, a, b = transfer(HOSTILE)
    statistics = pair.b.connection.statistics()
    assert statistics.duplicates > 5
    assert len(b.received) == statistics.packets_received
    assert sum(size for _, size in b.received) == statistics.bytes_received
    numbers = [number for number, _ in b.received]
    assert len(set(numbers)) == len(numbers)
    assert numbers != sorted(numbers)
    assert all(a.sent[number] == size for number, size in b.received)


def test_each_packet_given_up_is_told():
    pair, a, _ = transfer(LinkConfig(loss=0.05))
    assert len(a.lost) == pair.a.connection.statistics().packets_lost > 5
    assert set(a.lost) <= a.sent.keys()


def test_an_observer_changes_nothing_of_what_is_sent():
    seen = [
        transfer(HOSTILE, watched=watched)[0].a.connection.statistics()
        for watched in (True, False)
    ]
    assert seen[0] == seen[1]
