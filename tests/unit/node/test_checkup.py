"""A checkup tells facts that a node can only learn from others."""

import random

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.drivers.dht.probing import PutAnswer
from opnode.node.bootstrap import BootstrapEntry, Verdict, VerdictKind
from opnode.node.checkup import Checkup
from opnode.testing.overlay import open_overlay

NOW = 1_800_000_000.0


class Holder:
    """A node with a clock of its own, which may refuse, forget or be silent."""

    def __init__(
        self, number, *, clock_s=0.0, refusal=None, forgets=False, silent=False
    ):
        self.contact = Contact(
            NodeId(bytes([number]) * 20), Endpoint("192.0.2.1", number)
        )
        self.clock_s = clock_s
        self.refusal = refusal
        self.forgets = forgets
        self.silent = silent
        self.held = set()

    def put(self, record):
        if self.silent:
            return PutAnswer(self.contact, took=False, refusal=None)
        if record.expires_at <= NOW + self.clock_s:
            return PutAnswer(self.contact, took=False, refusal="expired record")
        if self.refusal:
            return PutAnswer(self.contact, took=False, refusal=self.refusal)
        if not self.forgets:
            self.held.add(record.wire)
        return PutAnswer(self.contact, took=True, refusal=None)


class World:
    """The DHT as a checkup sees it."""

    def __init__(self, holders, *, hangs=False):
        self.hangs = hangs
        self.by_contact = {holder.contact: holder for holder in holders}
        self.prober = self

    async def closest_nodes(self, key):
        assert len(key) == 20
        if self.hangs:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return list(self.by_contact)

    async def offer(self, record, contacts):
        await trio.sleep(0.1)
        return [self.by_contact[contact].put(record) for contact in contacts]

    async def holders(self, record, contacts):
        await trio.sleep(0.1)
        return [c for c in contacts if record.wire in self.by_contact[c].held]


def checkup_of(holders, entries=(), probe=None, *, hangs=False):
    return Checkup(
        World(holders, hangs=hangs),
        entries,
        probe,
        wall_clock=lambda: NOW,
        rng=random.Random(1),
    )


async def test_what_was_written_is_read_back_from_those_who_took_it(autojump_clock):
    holders = [
        Holder(1),
        Holder(2, forgets=True),
        Holder(3, refusal="store full"),
        Holder(4, refusal="store full"),
        Holder(5, silent=True),
    ]
    facts = await checkup_of(holders).write_through()
    assert (facts.asked, facts.took, facts.read) == (5, 2, 1)
    assert facts.refusals == (("store full", 2),)
    assert abs(facts.seconds - 0.2) < 1e-9


async def test_clocks_that_agree_are_counted_and_silence_is_not(autojump_clock):
    holders = [
        Holder(1, clock_s=100),
        Holder(2, clock_s=-100),
        Holder(3, silent=True),
        Holder(4, refusal="store full"),
    ]
    facts = await checkup_of(holders).compare_clocks()
    assert (facts.agree, facts.ahead, facts.behind, facts.at_least_s) == (2, 0, 0, 0)


async def test_a_clock_that_most_others_are_ahead_of_is_measured(autojump_clock):
    holders = [Holder(n, clock_s=4000) for n in (1, 2, 3)] + [Holder(4)]
    facts = await checkup_of(holders).compare_clocks()
    assert (facts.agree, facts.ahead, facts.behind) == (1, 3, 0)
    assert facts.at_least_s == 3600


async def test_a_clock_that_most_others_are_behind_of_is_measured(autojump_clock):
    holders = [Holder(n, clock_s=-200) for n in (1, 2, 3)] + [Holder(4, clock_s=9e9)]
    facts = await checkup_of(holders).compare_clocks()
    assert (facts.agree, facts.ahead, facts.behind) == (0, 1, 3)
    assert facts.at_least_s == 120


async def test_one_wrong_clock_among_others_is_not_ours(autojump_clock):
    holders = [Holder(1, clock_s=-1e6), Holder(2), Holder(3)]
    facts = await checkup_of(holders).compare_clocks()
    assert (facts.agree, facts.behind, facts.at_least_s) == (2, 1, 0)


async def test_nobody_to_ask_gives_empty_facts(autojump_clock):
    checkup = checkup_of([])
    facts = await checkup.write_through()
    assert (facts.asked, facts.took, facts.read) == (0, 0, 0)
    assert (await checkup.compare_clocks()).agree == 0


async def test_a_lookup_that_hangs_costs_ten_seconds(autojump_clock):
    checkup = checkup_of([Holder(1)], hangs=True)
    began_at = trio.current_time()
    assert (await checkup.write_through()).asked == 0
    assert 10.0 <= trio.current_time() - began_at < 11.0


async def test_every_entry_is_probed_at_once_and_keeps_its_place(autojump_clock):
    entries = [BootstrapEntry(None, "192.0.2.1", port) for port in (3, 1, 2)]

    async def probe(entry):
        await trio.sleep(entry.port)
        return Verdict(entry, VerdictKind.ANSWERED)

    began_at = trio.current_time()
    verdicts = await checkup_of([], entries, probe).probe_entries()
    assert [verdict.entry for verdict in verdicts] == entries
    assert trio.current_time() - began_at == 3.0


async def test_a_whole_node_is_checked_through_real_ones(autojump_clock):
    async with open_overlay(seeds=3) as overlay:
        bob = await overlay.user()
        verdicts = await bob.checkup.probe_entries()
        assert [v.kind for v in verdicts] == [VerdictKind.ANSWERED]
        facts = await bob.checkup.write_through()
        assert (facts.asked, facts.took, facts.read) == (3, 3, 3)
        clocks = await bob.checkup.compare_clocks()
        assert (clocks.agree, clocks.at_least_s) == (3, 0)
