"""`trace`: the way of a lookup, as events."""

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.core.ids import Contact, NodeId, PeerId, format_peer_id, peer_key
from opnode.daemon import control_messages as messages
from opnode.daemon.address_book import AddressBook
from opnode.daemon.control_trace import run_trace, target_key
from opnode.protocols.lookup.trace import LookupTrace, StepOutcome, TraceStep
from opnode.testing.overlay import open_overlay

ANN = PeerId(bytes([1]) * 32)
KEY = bytes(range(20))


def book_with_ann():
    book = AddressBook(None)
    book.add("ann", ANN)
    return book


class Listener:
    def __init__(self):
        self.events = []

    async def send(self, event):
        self.events.append(event)


class ScriptedTable:
    """Answers with one trace, whatever is asked."""

    def __init__(self, steps=(), records=0):
        self.asked = []
        self._found = LookupTrace(
            target=KEY,
            radius=0,
            took_s=0.25,
            is_complete=True,
            records=records,
            steps=tuple(steps),
        )

    async def trace(self, key):
        self.asked.append(("records", key))
        return self._found

    async def trace_nodes(self, key):
        self.asked.append(("nodes", key))
        return self._found


def step(number, parent=None, outcome=StepOutcome.ANSWERED, rtt_s=0.01, records=0):
    return TraceStep(
        contact=Contact(NodeId(bytes([number]) * 20), Endpoint("192.0.2.1", number)),
        parent=parent,
        path=number % 2,
        shared_bits=number,
        is_inside=False,
        outcome=outcome,
        asked_at_s=number / 10,
        rtt_s=rtt_s,
        named=2,
        records=records,
    )


def test_a_name_a_peer_id_and_digits_are_keys():
    book = book_with_ann()
    assert target_key("ann", book) == peer_key(ANN)
    assert target_key(format_peer_id(ANN), book) == peer_key(ANN)
    assert target_key(f" {KEY.hex().upper()} ", book) == KEY


@pytest.mark.parametrize("text", ["bob", "ab" * 19, "zz" * 20, "", "ab" * 21])
def test_what_is_no_key_is_refused_with_all_that_would_be(text):
    with pytest.raises(ConfigError, match="or 40 hexadecimal digits"):
        target_key(text, book_with_ann())


def test_a_mistyped_peer_id_is_told_as_such():
    with pytest.raises(ConfigError) as caught:
        target_key("op1abc", book_with_ann())
    assert "hexadecimal" not in str(caught.value)


async def test_hops_come_in_order_and_the_end_sums_them_up():
    table = ScriptedTable(
        [
            step(0),
            step(1, parent=0, outcome=StepOutcome.FAILED, rtt_s=None),
            step(2, parent=0, records=1),
            step(3, parent=2, records=2),
        ],
        records=2,
    )
    listener = Listener()
    await run_trace(table, KEY, listener, nodes=False)
    *hops, end = listener.events
    assert [(h.number, h.named_by, h.outcome) for h in hops] == [
        (0, None, "answered"),
        (1, 0, "failed"),
        (2, 0, "answered"),
        (3, 2, "answered"),
    ]
    assert hops[1].rtt_ms is None
    assert hops[2].endpoint == "192.0.2.1:2"
    assert (end.asked, end.answered, end.paths) == (4, 3, 2)
    assert (end.records, end.holders, end.first_record_ms) == (2, 2, 210.0)
    assert table.asked == [("records", KEY)]


async def test_nodes_alone_are_looked_for_on_demand():
    table, listener = ScriptedTable(), Listener()
    await run_trace(table, KEY, listener, nodes=True)
    assert table.asked == [("nodes", KEY)]
    (end,) = listener.events
    assert (end.asked, end.paths, end.first_record_ms) == (0, 0, None)


async def test_a_lookup_that_never_ends_is_given_up(autojump_clock):
    table = ScriptedTable()

    async def hang(key):
        assert key == KEY
        await trio.sleep_forever()

    table.trace = hang
    with pytest.raises(trio.TooSlowError):
        await run_trace(table, KEY, Listener(), nodes=False)


async def test_the_way_to_a_peer_is_told_in_a_real_overlay(autojump_clock):
    async with open_overlay(seeds=6) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        listener = Listener()
        key = peer_key(bob.peer_id)
        await run_trace(alice.dht, key, listener, nodes=False)
        *hops, end = listener.events
        assert all(isinstance(hop, messages.Hop) for hop in hops)
        assert end.records == 2
        assert end.asked == end.answered == len(hops) == 6
        assert end.complete
        listener = Listener()
        await run_trace(alice.dht, key, listener, nodes=True)
        assert listener.events[-1].answered == 6
        assert listener.events[-1].records == 0
