import pytest
import trio

from opnode.core.addresses import Endpoint, IceHalf
from opnode.node.ways.signalling import SignallingConfig
from opnode.protocols.introductions.messages import Rendezvous
from opnode.protocols.introductions.signals import Signal
from opnode.testing.overlay import open_overlay

NOWHERE = Endpoint("10.9.9.9", 9)


def words(generation):
    def make(wants_answer):
        return Signal(
            generation=generation,
            ice=IceHalf("ufra", "p" * 24, ()),
            rendezvous=Rendezvous(),
            wants_answer=wants_answer,
        )

    return make


def ignore(*_):
    """Of moving, silence and consent these tests want to hear nothing."""


def say(line, said):
    line.words = said
    line.say()


class Ends:
    """Two connected nodes, their lines, and what these heard; ICE says nothing."""

    def __init__(self, overlay, alice, bob):
        self.overlay, self.alice, self.bob = overlay, alice, bob
        self.heard = []
        self.has_heard = trio.Event()

    def hear(self, signal):
        self.heard.append(signal)
        self.has_heard.set()

    @property
    def lines(self):
        return [
            next(iter(node.connector._meetings.values()))._line
            for node in (self.alice, self.bob)
        ]


@pytest.fixture
async def ends(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        await alice.connect(bob.peer_id)
        await bob.accept_connection()
        ends = Ends(overlay, alice, bob)
        for node in (alice, bob):
            meeting = next(iter(node.connector._meetings.values()))
            meeting._direct.begin = ignore
            meeting.connection.on_silent = ignore
        for line in ends.lines:
            line.on_signal = ends.hear
            line.words = words(0)
        yield ends


def copies(node):
    return node.connector.switchboard.statistics().copies


async def test_what_one_end_says_the_other_hears_once(autojump_clock, ends):
    say(ends.lines[0], words(7))
    await trio.sleep(60)
    assert [signal.generation for signal in ends.heard] == [7, 0]
    statistics = ends.bob.connector.switchboard.statistics()
    assert (statistics.heard, statistics.unknown) == (1, 0)


async def test_what_was_heard_is_not_repeated(autojump_clock, ends):
    before = copies(ends.alice)
    say(ends.lines[0], words(7))
    await trio.sleep(60)
    # One to the introducer and one on the path.
    assert copies(ends.alice) - before <= 3


async def test_a_signal_finds_its_way_while_no_packet_passes_between_the_ends(
    autojump_clock, ends
):
    ends.overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
    started_at = trio.current_time()
    say(ends.lines[0], words(7))
    await ends.has_heard.wait()
    assert ends.heard[0].generation == 7
    assert trio.current_time() - started_at < 0.2


async def test_a_signal_finds_its_way_while_no_introducer_lives(autojump_clock, ends):
    ends.overlay.network.partition(["10.0.0.1"], ["10.0.0.2", "10.0.0.3"])
    started_at = trio.current_time()
    say(ends.lines[0], words(7))
    await ends.has_heard.wait()
    assert trio.current_time() - started_at < 0.2


async def test_a_signal_is_repeated_until_it_was_heard(autojump_clock, ends):
    everybody = ["10.0.0.1", "10.0.0.3"]
    ends.overlay.network.partition(["10.0.0.2"], everybody)
    say(ends.lines[0], words(7))
    await trio.sleep(10)
    assert not ends.heard
    ends.overlay.network.heal()
    await trio.sleep(10)
    assert ends.heard[0].generation == 7


async def test_newer_words_replace_those_that_were_not_heard(autojump_clock, ends):
    ends.overlay.network.partition(["10.0.0.2"], ["10.0.0.1", "10.0.0.3"])
    say(ends.lines[0], words(7))
    await trio.sleep(3)
    say(ends.lines[0], words(8))
    await trio.sleep(3)
    ends.overlay.network.heal()
    await trio.sleep(20)
    assert [s.generation for s in ends.heard] == [8, 0]


async def test_introducers_that_are_gone_are_looked_up_anew(autojump_clock, ends):
    asked = []

    async def find(certificate):
        await trio.lowlevel.checkpoint()
        asked.append(certificate.peer_id)
        return [Endpoint("10.0.0.1", 4000)]

    ends.alice.connector.switchboard.find_introducers = find
    ends.overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
    line = ends.lines[0]
    line.introducers = (NOWHERE,)
    say(line, words(7))
    await trio.sleep(10)
    assert asked == [ends.bob.peer_id]
    assert ends.heard[0].generation == 7


async def test_a_signal_that_comes_twice_is_answered_twice_and_taken_once(
    autojump_clock, ends
):
    requests = []
    introductions = ends.bob._parts.introductions
    take = introductions.on_signal

    def record(sealed):
        requests.append(sealed)
        take(sealed)

    introductions.on_signal = record
    say(ends.lines[0], words(7))
    await trio.sleep(5)
    count = copies(ends.bob)
    heard = list(ends.heard)
    take(requests[0])
    await trio.sleep(1)
    assert ends.heard == heard
    assert ends.bob.connector.switchboard.statistics().repeated >= 1
    assert copies(ends.bob) > count


async def test_what_nobody_sealed_is_counted_and_dropped(autojump_clock, ends):
    board = ends.bob.connector.switchboard
    tag = next(iter(board._lines))
    before = board.statistics().unknown
    for forged in (b"", b"nonsense", tag + bytes(50)):
        board.receive_untrusted(forged)
    assert board.statistics().unknown == before + 3
    assert not ends.heard


async def test_a_line_that_is_closed_leaves_nothing(autojump_clock, ends):
    for node in (ends.alice, ends.bob):
        for connection in node.connector.connections():
            await connection.aclose()
    await trio.sleep(10)
    for node in (ends.alice, ends.bob):
        assert node.connector.switchboard.statistics().lines == 0


async def test_no_more_is_sent_for_one_signal_than_its_repeats(autojump_clock, ends):
    everybody = ["10.0.0.1", "10.0.0.3"]
    ends.overlay.network.partition(["10.0.0.2"], everybody)
    before = copies(ends.alice)
    say(ends.lines[0], words(7))
    await trio.sleep(600)
    config = SignallingConfig()
    assert copies(ends.alice) - before <= 3 * (config.repeats + 1)


async def test_s_5_nothing_is_sent_to_whom_an_unproven_offer_names(
    autojump_clock, ends
):
    line = ends.lines[1]
    line.is_proven = False
    line._connection = Unproven(line._connection)
    before = copies(ends.bob)
    say(line, words(7))
    await trio.sleep(5)
    assert copies(ends.bob) == before


class Unproven:
    def __init__(self, connection):
        self._connection = connection
        self.confirmed = trio.Event()

    def __getattr__(self, name):
        return getattr(self._connection, name)


async def test_a_host_in_a_private_network_is_no_introducer_of_a_public_node(
    autojump_clock,
):
    async with open_overlay(public=True) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        await alice.connect(bob.peer_id)
        asked = []
        alice._parts.introductions.signal = lambda to, *_, **__: record(asked, to)
        line = next(iter(alice.connector._meetings.values()))._line
        private = Endpoint("192.168.1.1", 4000)
        line.introducers = (private, *line.introducers)
        say(line, words(7))
        await trio.sleep(3)
        assert asked
        assert private not in asked


async def record(asked, to):
    await trio.lowlevel.checkpoint()
    asked.append(to)
