"""`virtual_socket`: what arrived is seen at its time, whatever the wire does."""

import math
from functools import partial

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.testing.clock import run_deterministic
from opnode.testing.virtual_socket import Arrival, VirtualSocket

HERE = Endpoint("10.0.0.1", 1)
THERE = Endpoint("10.0.0.2", 1)


class WireThatHoldsBack:
    """Hands over what it holds only when it is asked."""

    def __init__(self):
        self.sent = []
        self.held = []
        self.due_at = math.inf
        self.socket = VirtualSocket(self, HERE)

    def carry(self, data, source, destination, ecn=0):
        self.sent.append((data, source, destination, ecn))

    def detach(self, endpoint):
        assert endpoint == HERE

    def settle(self):
        if trio.current_time() >= self.due_at:
            while self.held:
                self.socket.arrive(self.held.pop())
            self.due_at = math.inf
        return self.due_at


async def test_a_socket_asks_its_wire_for_what_is_due(autojump_clock):
    wire = WireThatHoldsBack()
    at = trio.current_time() + 5
    wire.held, wire.due_at = [Arrival(at, 1, b"late", THERE, HERE, 0)], at
    assert wire.socket.receive() is None
    await wire.socket.wait_readable()
    assert trio.current_time() == at
    assert bytes(wire.socket.receive().buffer) == b"late"


async def test_a_sleeper_looks_again_when_it_is_told_to(autojump_clock, nursery):
    wire = WireThatHoldsBack()
    nursery.start_soon(wire.socket.wait_readable)
    await trio.testing.wait_all_tasks_blocked()
    at = trio.current_time() + 1
    wire.held, wire.due_at = [Arrival(at, 1, b"news", THERE, HERE, 0)], at
    wire.socket.wake_at(at)
    await trio.sleep(2)
    assert bytes(wire.socket.receive().buffer) == b"news"


async def test_a_socket_that_moved_sends_from_its_new_address():
    wire = WireThatHoldsBack()
    wire.socket.move("10.0.0.9")
    wire.socket.send(b"hello", THERE)
    assert wire.sent == [(b"hello", Endpoint("10.0.0.9", 1), THERE, 0)]


async def test_what_does_not_fit_into_the_buffer_is_not_taken():
    wire = WireThatHoldsBack()
    arrival = Arrival(0.0, 1, bytes(1 << 23), THERE, HERE, 0)
    assert wire.socket.arrive(arrival)
    assert not wire.socket.arrive(arrival)
    wire.socket.forget_arrivals()
    assert wire.socket.arrive(arrival)


async def test_a_closed_socket_sends_nothing():
    wire = WireThatHoldsBack()
    wire.socket.close()
    with pytest.raises(trio.ClosedResourceError):
        wire.socket.send(b"x", THERE)


async def seen_by_a_watcher(waits_itself):
    """When three datagrams are seen, the last two at once, of which one is too many."""
    wire = WireThatHoldsBack()
    seen = []

    def look():
        received = wire.socket.receive()
        seen.append((trio.current_time(), bytes(received.buffer)))

    async def wait_and_look():
        while True:
            await wire.socket.wait_readable()
            look()

    async with trio.open_nursery() as nursery:
        watch = wait_and_look if waits_itself else partial(wire.socket.watch, look)
        wire.socket.arrive(Arrival(1.0, 1, b"early", THERE, HERE, 0))
        nursery.start_soon(watch)
        await trio.sleep(2)
        wire.socket.arrive(Arrival(4.0, 2, b"one", THERE, HERE, 0))
        wire.socket.arrive(Arrival(4.0, 3, b"two, longer", THERE, HERE, 0))
        await trio.sleep(7)
        nursery.cancel_scope.cancel()
    return seen


@pytest.mark.parametrize("waits_itself", [True, False])
def test_under_a_virtual_clock_all_is_seen_when_it_arrives(waits_itself):
    seen = run_deterministic(seen_by_a_watcher, 1, waits_itself)
    assert seen == [(1.0, b"early"), (4.0, b"one"), (4.0, b"two, longer")]


async def test_under_any_other_clock_a_watcher_sees_the_same(mock_clock):
    mock_clock.autojump_threshold = 0
    seen = await seen_by_a_watcher(waits_itself=False)
    assert [data for _, data in seen] == [b"early", b"one", b"two, longer"]


def test_a_closed_socket_ends_its_watcher():
    async def main():
        wire = WireThatHoldsBack()
        async with trio.open_nursery() as nursery:

            async def watch():
                with pytest.raises(trio.ClosedResourceError):
                    await wire.socket.watch(lambda: None)

            nursery.start_soon(watch)
            await trio.sleep(1)
            wire.socket.close()

    run_deterministic(main, 1)


def test_what_a_watcher_raises_ends_its_task_and_nothing_else():
    async def main():
        wire = WireThatHoldsBack()
        wire.socket.arrive(Arrival(1.0, 1, b"data", THERE, HERE, 0))

        def fail():
            raise KeyError("mine")

        with pytest.raises(KeyError):
            await wire.socket.watch(fail)
        return trio.current_time()

    assert run_deterministic(main, 1) == 1.0
