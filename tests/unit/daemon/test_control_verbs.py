import math
import random
from dataclasses import dataclass

import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    ConfigError,
    LocalProtocolError,
    PeerUnreachable,
    RecordNotFound,
    TransferDeclined,
)
from opnode.core.ids import NodeId, PeerId, format_peer_id, peer_key
from opnode.daemon import control_messages as messages
from opnode.daemon.address_book import AddressBook
from opnode.daemon.control_verbs import Daemon, Verbs, VerbsConfig
from opnode.daemon.frames import HELLO, FrameStream
from opnode.daemon.peer_connections import PeerConnections
from opnode.daemon.services import AcceptPolicy, Services
from opnode.daemon.transfer import Verdict
from opnode.drivers.beginnings import ConnectTimings
from opnode.drivers.connection_paths import Path, PathBytes, PathKind
from tests.unit.daemon.test_control_trace import ScriptedTable

ME = PeerId(bytes([9]) * 32)
ANN = PeerId(bytes([1]) * 32)
NOBODY = PeerId(bytes([3]) * 32)


@dataclass(frozen=True)
class Statistics:
    peer_id: PeerId | None
    contacts: int = 3


@dataclass(frozen=True)
class View:
    peer_id: PeerId
    peer_file: None = None
    presences: tuple = ()


class FakeConnection:
    """A connection whose other end is another node's services."""

    path = Path(PathKind.DIRECT, Endpoint("192.0.2.7", 7))
    timings = ConnectTimings(lookup_s=0.001, introduce_s=0.002, ice_s=0.003)

    def __init__(self, world):
        self.peer_id = ANN
        self.closed = trio.Event()
        self._world = world
        self._channels = []

    def bytes_by_kind(self):
        return {PathKind.DIRECT: PathBytes(10, 20)}

    async def open_channel(self):
        ours, theirs = memory_stream_pair()
        self._channels.append(ours)
        self._world.nursery.start_soon(self._serve, theirs)
        if self._world.cuts:
            limit = self._world.cuts.pop(0)
            self._world.nursery.start_soon(self._cut, limit, ours, theirs)
        return ours

    async def _serve(self, channel):
        async with channel:
            await self._world.remote.serve_channel(ME, channel)

    async def _cut(self, limit, ours, theirs):
        """End the connection once the receiver has that many bytes."""
        await self._world.arrived(limit)
        self.closed.set()
        await ours.aclose()
        await theirs.aclose()

    async def accept_channel(self):
        await self.closed.wait()
        raise trio.BrokenResourceError("ended")

    async def ping(self):
        if self._world.is_silent:
            await trio.sleep_forever()
        return 0.0015

    def close(self, code, reason):
        assert code == 0
        self._world.close_reasons.append(reason)
        self.closed.set()
        for channel in self._channels:
            channel.send_stream.close()
            channel.receive_stream.close()

    async def aclose(self):
        self.close(0, "")
        await trio.lowlevel.checkpoint()

    def statistics(self):
        return Statistics(None)


class World:
    """Our daemon, and a remote one behind every connection."""

    node_id = NodeId(bytes(20))
    endpoint = Endpoint("192.0.2.1", 4000)

    def __init__(self, tmp_path, nursery, *, is_seed=False):
        self.nursery = nursery
        self.is_seed = is_seed
        self.is_silent = False
        self.cuts = []
        self.close_reasons = []
        self.stopped = 0
        self.events = []
        self.remote_events = []
        self._arrival = trio.Event()
        self.book = AddressBook(None)
        self.book.add("ann", ANN)
        remote_book = AddressBook(None)
        remote_book.add("me", ME)
        self.inbox = tmp_path / "inbox"
        self.remote = self.make_services(remote_book, self.note_remote)
        self.services = self.make_services(self.book, lambda _: None)
        self.pool = PeerConnections(self, self.services.serve_channel)
        self.daemon = Daemon(
            node=self,
            book=self.book,
            connections=None if is_seed else self.pool,
            services=None if is_seed else self.services,
            stop=self.stop,
            rng=random.Random(1),
        )
        self.verbs = Verbs(self.daemon)

    def make_services(self, book, notify):
        return Services(
            inbox=self.inbox, policy=AcceptPolicy.CONTACTS, book=book, notify=notify
        )

    def note_remote(self, event):
        self.remote_events.append(event)
        self._arrival.set()
        self._arrival = trio.Event()

    async def arrived(self, count):
        while not any(getattr(e, "done", 0) >= count for e in self.remote_events):
            await self._arrival.wait()

    def stop(self):
        self.stopped += 1

    def invite(self):
        return "opnode://key@192.0.2.1:4000"

    def statistics(self):
        return Statistics(None if self.is_seed else ME)

    async def lookup(self, peer_id):
        if peer_id == NOBODY:
            raise RecordNotFound("not known")
        return View(peer_id)

    async def connect(self, peer_id):
        if peer_id != ANN:
            raise PeerUnreachable("no location answered")
        await trio.lowlevel.checkpoint()
        return FakeConnection(self)

    async def accept_connection(self):
        await trio.sleep_forever()

    async def send(self, event):
        self.events.append(event)

    async def receive(self):
        await trio.sleep_forever()

    async def run(self, request):
        await self.verbs.run(request, self)
        return self.events


@pytest.fixture
async def world(tmp_path, nursery):
    world = World(tmp_path, nursery)
    await nursery.start(world.pool.run)
    return world


async def test_id_tells_who_the_node_is(world):
    (identity,) = await world.run(messages.Id())
    assert identity.peer_id == format_peer_id(ME)
    assert identity.endpoint == "192.0.2.1:4000"
    assert identity.invite.startswith("opnode://")


async def test_id_of_a_leaf_has_no_invite(world, monkeypatch):
    monkeypatch.setattr(world, "invite", lambda: None)
    (identity,) = await world.run(messages.Id())
    assert identity.invite is None


async def test_status_shows_every_part(world):
    await world.run(messages.Ping(peer="ann", count=0))
    report = (await world.run(messages.Status()))[-1]
    assert report.node["contacts"] == 3
    assert report.node["peer_id"] == report.peer_id == format_peer_id(ME)
    assert report.services["channels"] == 0
    assert report.connections[0]["name"] == "ann"
    assert report.connections[0]["path"] == "direct"


async def test_k_8_a_seed_says_that_it_cannot_talk(tmp_path, nursery):
    seed = World(tmp_path, nursery, is_seed=True)
    assert (await seed.run(messages.Id()))[0].peer_id is None
    assert (await seed.run(messages.Status()))[1].services == {}
    for request in (messages.Ping(peer="ann"), messages.Chat(peer="ann")):
        with pytest.raises(LocalProtocolError, match="seed"):
            await seed.run(request)


async def test_ping_tells_path_timings_and_round_trips(world):
    events = await world.run(messages.Ping(peer="ann", count=2, interval_s=0.01))
    connected, *trips = events
    assert (connected.path, connected.reused) == ("direct", False)
    assert (connected.lookup_ms, connected.introduce_ms, connected.ice_ms) == (1, 2, 3)
    assert connected.first_byte_ms > 0
    assert trips == [messages.RoundTrip(number=n, ms=1.5) for n in (1, 2)]


async def test_a_second_ping_uses_the_same_connection(world):
    await world.run(messages.Ping(peer="ann", count=0))
    again = (await world.run(messages.Ping(peer="ann", count=0)))[-1]
    assert again.reused
    assert (again.lookup_ms, again.introduce_ms, again.ice_ms) == (None, None, None)
    assert again.first_byte_ms > 0


async def test_after_hanging_up_a_ping_makes_a_new_connection(world):
    await world.run(messages.Ping(peer="ann", count=0))
    for ended in (1, 0):
        hung_up = await world.run(messages.HangUp(peer="ann"))
        assert hung_up[-1] == messages.HungUp(connections=ended)
    assert world.close_reasons == ["hung up"]
    again = (await world.run(messages.Ping(peer="ann", count=0)))[-1]
    assert not again.reused


async def test_a_ping_that_found_its_connection_dead_tells_the_timings_of_the_new_one(
    autojump_clock, tmp_path, nursery
):
    world = World(tmp_path, nursery)
    await nursery.start(world.pool.run)
    await world.run(messages.Ping(peer="ann", count=0))
    await trio.sleep(10)
    world.is_silent = True
    again = (await world.run(messages.Ping(peer="ann", count=0)))[-1]
    assert (again.reused, again.lookup_ms) == (False, 1)


async def test_pings_that_all_get_lost_are_a_failure(autojump_clock, tmp_path, nursery):
    world = World(tmp_path, nursery)
    await nursery.start(world.pool.run)
    world.is_silent = True
    with pytest.raises(PeerUnreachable, match="none of 2"):
        await world.run(messages.Ping(peer="ann", count=2))
    assert world.events[-1].ms is None


async def test_a_peer_without_echo_is_found_out(world):
    async def refuse(peer_id, channel):
        await channel.receive_some()
        await channel.send_all(b"\x00\x00")

    world.remote.serve_channel = refuse
    with pytest.raises(PeerUnreachable, match="echo"):
        await world.run(messages.Ping(peer="ann"))


async def test_lookup_reports_what_was_found(world):
    (found,) = await world.run(messages.Lookup(peer="ann"))
    assert (found.name, found.locations, found.created_at) == ("ann", [], None)


async def test_trace_runs_the_lookup_of_the_peer_s_key(world):
    world.dht = ScriptedTable()
    (end,) = await world.run(messages.Trace(target="ann", nodes=True))
    assert world.dht.asked == [("nodes", peer_key(ANN))]
    assert end.asked == 0


async def test_failures_leave_as_errors_of_their_kind(world, tmp_path):
    nobody = format_peer_id(NOBODY)
    for request, error in [
        (messages.Lookup(peer="bob"), ConfigError),
        (messages.Lookup(peer=nobody), RecordNotFound),
        (messages.Trace(target="bob"), ConfigError),
        (messages.Ping(peer=nobody), PeerUnreachable),
        (messages.Send(peer="ann", path=str(tmp_path / "none")), ConfigError),
        (messages.RemoveContact(name="bob"), ConfigError),
        (messages.Say(number=1, text=""), messages.RequestError),
    ]:
        with pytest.raises(error):
            await world.run(request)


async def test_a_sent_file_is_whole_and_its_progress_reported(world, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(random.Random(1).randbytes(5_000_000))
    events = await world.run(messages.Send(peer="ann", path=str(path), report_s=0.001))
    assert isinstance(events[0], messages.Connected)
    done = [e.done for e in events if isinstance(e, messages.TransferProgress)]
    assert done == sorted(set(done))
    assert events[-1].size == 5_000_000
    assert (world.inbox / "a.bin").read_bytes() == path.read_bytes()


async def test_k_6_a_transfer_goes_on_over_a_new_connection(world, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(random.Random(1).randbytes(9_000_000))
    world.cuts = [1_000_000, 3_000_000]
    events = await world.run(messages.Send(peer="ann", path=str(path), report_s=0.001))
    assert sum(isinstance(e, messages.Interrupted) for e in events) == 2
    assert events[-1].resumed_at >= 3_000_000
    assert (world.inbox / "a.bin").read_bytes() == path.read_bytes()


async def test_k_6_a_peer_that_fell_silent_is_given_up_and_the_transfer_goes_on(
    world, tmp_path
):
    path = tmp_path / "a.bin"
    path.write_bytes(random.Random(1).randbytes(3_000_000))
    world.verbs = Verbs(world.daemon, VerbsConfig(standstill_s=0.02, silence_s=0.02))
    serve = world.remote.serve_channel
    swallowed = []

    async def swallow_first(peer_id, channel):
        if swallowed:
            await serve(peer_id, channel)
            return
        swallowed.append(True)
        world.is_silent = True
        frames = FrameStream(channel, HELLO)
        await frames.receive_untrusted()
        await frames.send(Verdict(True, 0, ""))
        await trio.sleep_forever()

    world.remote.serve_channel = swallow_first
    events = await world.run(messages.Send(peer="ann", path=str(path)))
    assert any(isinstance(event, messages.Interrupted) for event in events)
    assert world.close_reasons[0] == "the peer fell silent"
    assert (world.inbox / "a.bin").read_bytes() == path.read_bytes()


async def test_k_6_a_transfer_that_broke_looks_anew_instead_of_waiting_for_old_places(
    autojump_clock, tmp_path, nursery
):
    # Threads read the file meanwhile, which the clock must not overtake.
    autojump_clock.autojump_threshold = 0.05
    world = World(tmp_path, nursery)
    await nursery.start(world.pool.run)
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    tries = []

    async def break_off(peer_id, channel):
        frames = FrameStream(channel, HELLO)
        await frames.receive_untrusted()
        await frames.send(Verdict(True, 0, ""))
        world.is_silent = True
        await trio.sleep_forever()

    async def wait_in_vain(peer_id):
        tries.append(trio.current_time())
        if len(tries) == 3:
            raise TransferDeclined("enough seen")
        await trio.sleep_forever()

    world.remote.serve_channel = break_off
    started_at = trio.current_time()
    connect = iter([world.connect])

    async def connect_once(peer_id):
        return await next(connect, wait_in_vain)(peer_id)

    world.connect = connect_once
    with pytest.raises(TransferDeclined):
        await world.run(messages.Send(peer="ann", path=str(path), report_s=60))
    config = VerbsConfig()
    assert tries[0] - started_at <= config.standstill_s + config.silence_s + 0.5
    assert config.reconnect_s <= tries[1] - tries[0] <= config.reconnect_s + 1
    assert 2 * config.reconnect_s <= tries[2] - tries[1] <= 2 * config.reconnect_s + 2


async def test_k_6_a_peer_that_answers_may_stand_still_as_long_as_it_likes(
    autojump_clock, tmp_path, nursery
):
    # Threads read the file meanwhile, which the clock must not overtake.
    autojump_clock.autojump_threshold = 0.05
    world = World(tmp_path, nursery)
    await nursery.start(world.pool.run)
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    serve = world.remote.serve_channel

    async def think(peer_id, channel):
        await trio.sleep(100)
        await serve(peer_id, channel)

    world.remote.serve_channel = think
    world.verbs = Verbs(world.daemon, VerbsConfig(standstill_s=20))
    request = messages.Send(peer="ann", path=str(path), report_s=60)
    events = await world.run(request)
    assert not any(isinstance(event, messages.Interrupted) for event in events)
    assert isinstance(events[-1], messages.Sent)


async def test_k_6_a_declined_file_is_not_tried_again(world, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"1")
    world.remote = Services(
        inbox=world.inbox,
        policy=AcceptPolicy.NEVER,
        book=AddressBook(None),
        notify=world.note_remote,
    )
    with pytest.raises(TransferDeclined):
        await world.run(messages.Send(peer="ann", path=str(path), report_s=0.001))
    assert len(world.remote_events) == 1


async def test_contacts_can_be_added_listed_and_removed(world):
    other = format_peer_id(NOBODY)
    await world.run(messages.AddContact(name="bob", peer=other))
    await world.run(messages.ListContacts())
    await world.run(messages.RemoveContact(name="bob"))
    assert [e.name for e in world.events] == ["bob", "ann", "bob", "bob"]
    assert world.events[0].peer_id == other


async def test_stop_stops(world):
    await world.run(messages.Stop())
    assert world.stopped == 1


def test_a_deadline_of_its_own_ends_each_step():
    config = VerbsConfig()
    assert all(0 < getattr(config, name) < math.inf for name in config.__slots__)
