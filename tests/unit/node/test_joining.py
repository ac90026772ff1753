import random

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey
from opnode.core.errors import RequestRefused, RequestTimeout
from opnode.core.ids import Contact, NodeId
from opnode.drivers.dht.contacts import KnownContact
from opnode.node.bootstrap import BootstrapEntry, VerdictKind
from opnode.node.joining import Joiner
from opnode.testing.virtual_network import VirtualNetwork

KEY = SigningKey.generate().public
OTHER_KEY = SigningKey.generate().public
LIVE, SILENT, FOREIGN = (Endpoint(f"10.0.0.{n}", 1) for n in (1, 2, 3))


class ScriptedRpc:
    """Proves ``KEY`` at the live endpoint, is silent or foreign at others."""

    local = Endpoint("10.0.0.9", 1)

    async def prove(self, endpoint):
        await trio.sleep(0.01)
        if endpoint == FOREIGN:
            raise RequestRefused(32, "another network")
        if endpoint != LIVE:
            raise RequestTimeout("silent")
        return KEY


class ScriptedDht:
    """Knows whoever it was joined to, if that one is alive."""

    def __init__(self, alive=(LIVE,)):
        self.alive = list(alive)
        self.known = []
        self.shunned = set()
        self.asked = []
        self.lost = []

    async def restore(self, known, task_status):
        await self.join([one.contact.endpoint for one in known])
        task_status.started()

    def lost_contacts(self):
        return self.lost

    async def join(self, endpoints):
        await trio.sleep(0.01)
        self.asked.append(list(endpoints))
        self.known += [e for e in endpoints if e in self.alive]
        return len(self.known)

    def contacts(self):
        return self.known

    def shun(self, endpoint):
        self.shunned.add(endpoint)

    def welcome(self, endpoint):
        self.shunned.discard(endpoint)


def known(endpoint):
    return KnownContact(Contact(NodeId(bytes(20)), endpoint), 100.0, 1.0)


def entry(endpoint, key=KEY):
    return BootstrapEntry(key, endpoint.host, endpoint.port)


def make_joiner(dht, entries=(), remembered=(), *, is_server=False):
    network = VirtualNetwork(random.Random(1))
    return Joiner(
        dht=dht,
        rpc=ScriptedRpc(),
        network=network.host("10.0.0.9"),
        entries=entries,
        remembered=remembered,
        rng=random.Random(1),
        is_server=is_server,
    )


async def reports_of(joiner, count):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        reports = [await joiner.reports.receive() for _ in range(count)]
        nursery.cancel_scope.cancel()
    return reports


async def test_each_entry_gets_its_own_verdict(autojump_clock):
    entries = [
        entry(LIVE),
        entry(SILENT),
        entry(FOREIGN),
        entry(LIVE, OTHER_KEY),
        BootstrapEntry(KEY, "nowhere.invalid", 1),
        BootstrapEntry(KEY, "fd00::1", 1),
    ]
    reports = await reports_of(make_joiner(ScriptedDht(), entries), len(entries))
    kinds = {report.verdict.kind for report in reports}
    assert kinds == set(VerdictKind)
    assert sum(report.joined for report in reports) == 1


async def test_a_node_with_another_key_is_shunned_unless_another_entry_proves_it(
    autojump_clock,
):
    wrong, right = entry(LIVE, OTHER_KEY), entry(LIVE)
    for entries, shunned in (([wrong], {LIVE}), ([wrong, right], set())):
        for ordered in (entries, entries[::-1]):
            dht = ScriptedDht()
            await reports_of(make_joiner(dht, ordered), len(ordered))
            assert dht.shunned == shunned


async def test_the_words_of_a_report_say_what_happened(autojump_clock):
    entries = [entry(LIVE), entry(LIVE, OTHER_KEY)]
    reports = await reports_of(make_joiner(ScriptedDht(), entries), 2)
    words = sorted(map(str, reports))
    assert "answered with another key (found" in words[0]
    assert words[1] == "10.0.0.1:1: joined with 1 contact"


async def test_a_node_is_never_joined_without_a_contact(autojump_clock):
    dht = ScriptedDht(alive=())
    joiner = make_joiner(dht, [entry(LIVE)])
    (report,) = await reports_of(joiner, 1)
    assert not report.joined
    assert "fell silent" in str(report)
    assert not joiner.joined.is_set()


async def test_it_keeps_trying_until_somebody_answers(autojump_clock):
    dht = ScriptedDht(alive=())
    joiner = make_joiner(dht, [entry(LIVE)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        await trio.sleep(300)
        assert 5 <= len(dht.asked) <= 60
        dht.alive.append(LIVE)
        with trio.fail_after(70):
            await joiner.joined.wait()
        nursery.cancel_scope.cancel()


async def test_remembered_contacts_bring_it_back_without_any_seed(autojump_clock):
    dht = ScriptedDht()
    joiner = make_joiner(dht, [entry(SILENT)], [known(SILENT), known(LIVE)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        with trio.fail_after(1):
            await joiner.joined.wait()
        nursery.cancel_scope.cancel()


async def test_when_all_contacts_are_lost_they_are_asked_again_beside_the_seeds(
    autojump_clock,
):
    dht = ScriptedDht()
    joiner = make_joiner(dht, [entry(SILENT)])
    dht.lost = [known(LIVE)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        with trio.fail_after(1):
            await joiner.joined.wait()
        nursery.cancel_scope.cancel()


async def test_a_first_seed_is_joined_at_once(autojump_clock):
    joiner = make_joiner(ScriptedDht(alive=()), is_server=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        with trio.fail_after(1):
            await joiner.joined.wait()
        assert joiner.is_joined
        nursery.cancel_scope.cancel()


async def test_a_leaf_without_any_entry_is_not_joined(autojump_clock):
    joiner = make_joiner(ScriptedDht(alive=()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        await trio.sleep(100)
        assert not joiner.joined.is_set()
        assert not joiner.is_joined
        nursery.cancel_scope.cancel()


async def test_a_node_that_lost_all_contacts_joins_again(autojump_clock):
    dht = ScriptedDht()
    joiner = make_joiner(dht, [entry(LIVE)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        await joiner.joined.wait()
        assert joiner.is_joined
        dht.known.clear()
        assert not joiner.is_joined
        await trio.sleep(60)
        assert dht.known
        nursery.cancel_scope.cancel()


async def test_a_node_that_fell_out_comes_back_at_once_for_whoever_asks_it(
    autojump_clock,
):
    dht = ScriptedDht()
    joiner = make_joiner(dht, [entry(LIVE)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        await joiner.joined.wait()
        await trio.sleep(1)
        dht.known.clear()
        with trio.fail_after(1):
            async with trio.open_nursery() as callers:
                for _ in range(2):
                    callers.start_soon(joiner.come_back)
        assert joiner.is_joined
        nursery.cancel_scope.cancel()


async def test_whoever_asks_a_node_that_cannot_come_back_does_not_wait_for_ever(
    autojump_clock,
):
    dht = ScriptedDht()
    joiner = make_joiner(dht, [entry(LIVE)])
    with trio.fail_after(0.1):
        await joiner.come_back()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        await joiner.joined.wait()
        await trio.sleep(1)
        dht.alive.clear()
        dht.known.clear()
        with trio.fail_after(10):
            await joiner.come_back()
        assert not joiner.is_joined
        nursery.cancel_scope.cancel()


async def test_reports_that_nobody_reads_do_not_stop_it(autojump_clock):
    dht = ScriptedDht(alive=())
    joiner = make_joiner(dht, [entry(SILENT)] * 200)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    assert joiner.reports.statistics().current_buffer_used == 256
