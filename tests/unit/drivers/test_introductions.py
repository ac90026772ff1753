import random
from contextlib import asynccontextmanager

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    IntroductionRefused,
    PeerUnreachable,
    RefusalCode,
    RequestRefused,
    RequestTimeout,
)
from opnode.core.ids import Contact, node_id_of
from opnode.core.peerfile import IntroducerEntry
from opnode.drivers.introductions import (
    DIRECT_S,
    Introductions,
    IntroductionsConfig,
)
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.introductions.introducer import (
    IntroducerConfig,
    IntroducerDesk,
    Standing,
)
from opnode.protocols.rpc.datagrams import (
    Sender,
    encode_request,
)
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    Introduce,
    Offer,
    Ping,
    Register,
    handle_of,
    registration_statement,
)
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import Link, VirtualNetwork

LINK = Link(latency_s=(0.02, 0.02))


class Node:
    """An Rpc and its introductions, and nothing else of a node."""

    def __init__(self, hub, label, wall_clock, config):
        self.hub = hub
        self.key = seeded_signing_key(label)
        host = hub.local.host
        self.rpc = Rpc(
            hub,
            node_id=node_id_of(self.key.public, host),
            leaf=False,
            signing_key=self.key,
            rng=random.Random(label),
        )
        self.introductions = Introductions(
            self.rpc, IntroducerDesk(), wall_clock=wall_clock, config=config
        )
        self.contact = Contact(self.rpc.node_id, hub.local)

    def entry_for(self, location):
        return IntroducerEntry(
            node_id=self.rpc.node_id,
            endpoint=self.rpc.local,
            handle=handle_of(location.public),
        )


@asynccontextmanager
async def open_nodes(*, config=None, link=LINK):
    network = VirtualNetwork(random.Random(1), link)
    wall_clock = VirtualWallClock()
    async with trio.open_nursery() as nursery:
        nodes = []
        for number, label in enumerate(("introducer", "target", "caller")):
            host = network.host(f"10.0.0.{number + 1}")
            hub = SocketHub(await host.bind(Endpoint(f"10.0.0.{number + 1}", 4000)))
            node = Node(hub, label, wall_clock, config)
            await nursery.start(hub.run)
            await nursery.start(node.rpc.run)
            await nursery.start(node.introductions.run)
            nodes.append(node)
        yield (*nodes, network, wall_clock)
        nursery.cancel_scope.cancel()


async def answer_backwards(sealed):
    await trio.lowlevel.checkpoint()
    return sealed[::-1]


async def test_an_offer_reaches_who_registered_and_the_answer_comes_back(
    autojump_clock,
):
    async with open_nodes() as (introducer, target, caller, _, _):
        target.introductions.on_offer = answer_backwards
        granted = await target.introductions.register(
            introducer.contact, target.key, 300
        )
        assert granted == 300
        answer = await caller.introductions.introduce(
            introducer.entry_for(target.key), b"abc"
        )
        assert answer == b"cba"
        assert introducer.introductions.statistics().passed == 1
        assert target.introductions.statistics().answered == 1


async def test_nobody_registered_is_a_named_refusal(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, _):
        with pytest.raises(IntroductionRefused) as caught:
            await caller.introductions.introduce(
                introducer.entry_for(target.key), b"abc"
            )
        assert caught.value.code is RefusalCode.UNKNOWN_TARGET


async def test_a_registration_ends_with_its_lifetime(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, _):
        target.introductions.on_offer = answer_backwards
        await target.introductions.register(introducer.contact, target.key, 60)
        await trio.sleep(61)
        with pytest.raises(IntroductionRefused):
            await caller.introductions.introduce(
                introducer.entry_for(target.key), b"abc"
            )


async def test_the_refusal_of_the_target_arrives_with_its_code(autojump_clock):
    async def decline(_):
        await trio.lowlevel.checkpoint()
        raise IntroductionRefused(RefusalCode.DECLINED)

    async with open_nodes() as (introducer, target, caller, _, _):
        target.introductions.on_offer = decline
        await target.introductions.register(introducer.contact, target.key, 300)
        with pytest.raises(IntroductionRefused) as caught:
            await caller.introductions.introduce(
                introducer.entry_for(target.key), b"abc"
            )
        assert caught.value.code is RefusalCode.DECLINED


async def test_a_target_that_lives_nowhere_is_refused_by_name(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, _):
        await target.introductions.register(introducer.contact, target.key, 300)
        with pytest.raises(IntroductionRefused):
            await caller.introductions.introduce(
                introducer.entry_for(target.key), b"abc"
            )


async def test_a_dead_introducer_and_a_dead_target_are_told_apart(autojump_clock):
    async with open_nodes() as (introducer, target, caller, network, _):
        target.introductions.on_offer = answer_backwards
        await target.introductions.register(introducer.contact, target.key, 300)
        network.kill("10.0.0.2")
        with pytest.raises(IntroductionRefused, match="target"):
            await caller.introductions.introduce(
                introducer.entry_for(target.key), b"abc"
            )
        network.kill("10.0.0.1")
        with pytest.raises(PeerUnreachable, match="does not answer"):
            await caller.introductions.introduce(
                introducer.entry_for(target.key), b"abc"
            )


async def test_lost_datagrams_do_not_make_a_second_offer(autojump_clock):
    heard = []

    async def count(sealed):
        heard.append(sealed)
        await trio.lowlevel.checkpoint()
        return b"once"

    rough = Link(latency_s=(0.02, 0.04), loss=0.2, duplicate=0.3)
    async with open_nodes(link=rough) as (introducer, target, caller, _, _):
        target.introductions.on_offer = count
        await target.introductions.register(introducer.contact, target.key, 300)
        answer = await caller.introductions.introduce(
            introducer.entry_for(target.key), b"abc"
        )
        assert answer == b"once"
        assert heard == [b"abc"]


async def test_a_node_that_is_its_own_introducer_needs_no_registration(
    autojump_clock,
):
    async with open_nodes() as (_, target, caller, _, _):
        target.introductions.on_offer = answer_backwards
        entry = target.introductions.serve_own(target.key.public)
        assert await caller.introductions.introduce(entry, b"abc") == b"cba"
        assert await target.introductions.introduce(entry, b"abc") == b"cba"


async def test_a_flood_is_told_busy(autojump_clock):
    async def never(_):
        await trio.sleep_forever()

    config = IntroductionsConfig(max_pending=2)
    async with open_nodes(config=config) as (introducer, target, caller, _, _):
        target.introductions.on_offer = never
        await target.introductions.register(introducer.contact, target.key, 300)
        codes = []

        async def call(number):
            try:
                await caller.introductions.introduce(
                    introducer.entry_for(target.key), b"%d" % number
                )
            except IntroductionRefused as refusal:
                codes.append(refusal.code)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(call, number)
        assert codes.count(RefusalCode.BUSY) == 3


async def forge(introducer, target, wall_clock, *, signer, key, issued_ago=0):
    """A REGISTER of ``key`` that ``signer`` signed, sent from the target's address."""
    observed = await target.rpc.observed_by(introducer.rpc.local)
    issued_at = int(wall_clock()) - issued_ago
    handle = handle_of(key.public)
    unsigned = Register(handle, 300, issued_at, key.public, bytes(64))
    statement = registration_statement(
        target.rpc.network_id, introducer.rpc.node_id, observed, unsigned
    )
    signed = Register(handle, 300, issued_at, key.public, signer.sign(statement))
    return await target.rpc.request(introducer.rpc.local, signed)


async def test_nobody_registers_for_a_key_that_is_not_theirs(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, wall_clock):
        with pytest.raises(RequestRefused, match="signature"):
            await forge(
                introducer, target, wall_clock, signer=caller.key, key=target.key
            )
        await forge(introducer, target, wall_clock, signer=target.key, key=target.key)


async def test_a_replayed_older_registration_is_refused(autojump_clock):
    async with open_nodes() as (introducer, target, _, _, wall_clock):
        await target.introductions.register(introducer.contact, target.key, 300)
        with pytest.raises(RequestRefused, match="newer"):
            await forge(
                introducer,
                target,
                wall_clock,
                signer=target.key,
                key=target.key,
                issued_ago=60,
            )


async def test_an_offer_for_somebody_else_is_refused(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, _):
        target.introductions.on_offer = answer_backwards
        handle = handle_of(target.key.public)
        with pytest.raises(RequestRefused, match="nobody of that handle"):
            await caller.rpc.request(target.rpc.local, Offer(handle, b"abc"))
        await target.introductions.register(introducer.contact, target.key, 300)
        with pytest.raises(RequestRefused, match="nobody of that handle"):
            await introducer.rpc.request(target.rpc.local, Offer(bytes(16), b"abc"))
        await introducer.rpc.request(target.rpc.local, Offer(handle, b"abc"))


async def test_who_knows_the_address_needs_no_introducer(autojump_clock):
    async with open_nodes() as (_, target, caller, network, _):
        network.kill("10.0.0.1")
        target.introductions.on_offer = answer_backwards
        target.introductions.live_at(target.key.public)
        handle = handle_of(target.key.public)
        began_at = trio.current_time()
        answer = await caller.introductions.offer_directly(
            target.rpc.local, handle, b"abc"
        )
        assert answer == b"cba"
        # A PING for the token, and the offer.
        assert trio.current_time() - began_at == pytest.approx(0.08)
        assert target.introductions.statistics().direct == 1


async def test_a_direct_offer_from_an_address_that_is_not_proven_is_not_opened(
    autojump_clock,
):
    async with open_nodes() as (_, target, caller, network, _):
        heard = []

        async def listen(sealed):
            heard.append(sealed)
            return await answer_backwards(sealed)

        target.introductions.on_offer = listen
        target.introductions.live_at(target.key.public)
        body = Offer(handle_of(target.key.public), b"abc")
        spoofed = encode_request(
            Sender(MAIN_NETWORK, bytes(20), True), bytes(8), b"", body, 1200
        )
        before = network.statistics().sent
        caller.hub.send(spoofed, target.rpc.local)
        await trio.sleep(10)
        assert heard == []
        # The datagram itself and its refusal.
        assert network.statistics().sent - before == 2


async def test_junk_offers_of_one_source_and_of_all_cost_bounded_work(autojump_clock):
    limits = IntroducerConfig(
        offers_per_s=1.0, offers_burst=5.0, total_offers_per_s=2.0, total_burst=8.0
    )
    config = IntroductionsConfig(direct=limits)
    async with open_nodes(config=config) as (introducer, target, caller, _, _):
        opened = 0

        async def junk(_):
            nonlocal opened
            await trio.lowlevel.checkpoint()
            opened += 1
            raise IntroductionRefused(RefusalCode.MALFORMED)

        target.introductions.on_offer = junk
        target.introductions.live_at(target.key.public)
        handle = handle_of(target.key.public)
        busy = 0
        for number in range(40):
            source = (introducer, caller)[number % 2].introductions
            try:
                await source.offer_directly(target.rpc.local, handle, b"%d" % number)
            except IntroductionRefused as refusal:
                busy += refusal.code is RefusalCode.BUSY
        # 40 offers take 40 round trips of 40 ms each: 1.6 s.
        assert opened <= 8 + 2 * 2
        assert busy == 40 - opened
        # An introducer that we chose ourselves is not held up by strangers.
        await target.introductions.register(introducer.contact, target.key, 300)
        with pytest.raises(IntroductionRefused) as caught:
            await caller.introductions.introduce(
                introducer.entry_for(target.key), b"abc"
            )
        assert caught.value.code is RefusalCode.MALFORMED


async def test_nobody_at_the_last_known_address_is_told_so_in_time(autojump_clock):
    async with open_nodes() as (_, target, caller, network, _):
        network.kill("10.0.0.2")
        began_at = trio.current_time()
        before = network.statistics().sent
        with pytest.raises(PeerUnreachable, match="last known address"):
            await caller.introductions.offer_directly(
                target.rpc.local, bytes(16), b"abc"
            )
        assert trio.current_time() - began_at == pytest.approx(DIRECT_S)
        # Small PINGs, not offers, for an address that may be anybody's by now.
        assert network.statistics().sent - before < 20


async def test_a_call_waits_where_too_many_requests_are_under_way(autojump_clock):
    async with open_nodes() as (_, target, caller, _, _):
        pings = []

        async def fail_at_once(endpoint, body):
            pings.append(body)
            # Without a checkpoint, so a loop around it would never end.
            assert len(pings) < 100
            raise RequestTimeout("too many requests are under way")

        caller.rpc.request = fail_at_once
        with pytest.raises(PeerUnreachable, match="last known address"):
            await caller.introductions.offer_directly(
                target.rpc.local, bytes(16), b"abc"
            )


async def test_a_target_that_comes_up_while_it_is_called_is_reached(autojump_clock):
    async with open_nodes() as (_, target, caller, network, _):
        target.introductions.on_offer = answer_backwards
        target.introductions.live_at(target.key.public)
        network.kill("10.0.0.2")
        async with trio.open_nursery() as nursery:

            async def call():
                handle = handle_of(target.key.public)
                where = target.rpc.local
                answer = await caller.introductions.offer_directly(
                    where, handle, b"abc"
                )
                assert answer == b"cba"

            nursery.start_soon(call)
            await trio.sleep(3)
            network.revive("10.0.0.2")


async def test_an_introducer_that_is_gone_or_sees_us_elsewhere_has_no_use(
    autojump_clock,
):
    async with open_nodes() as (introducer, target, _, network, _):
        register = target.introductions.register
        standing = target.introductions.standing
        await register(introducer.contact, target.key, 300)
        assert await standing(introducer.contact) is Standing.KEPT
        other = introducer.contact._replace(node_id=bytes(20))
        assert await standing(other) is Standing.GONE
        seen = target.introductions._registered_from
        seen[introducer.rpc.local] = Endpoint("203.0.113.9", 1)
        assert await standing(introducer.contact) is Standing.MOVED
        await register(introducer.contact, target.key, 300)
        network.kill("10.0.0.1")
        assert await standing(introducer.contact) is Standing.GONE


@pytest.mark.parametrize(
    "body",
    [
        Register(handle_of(bytes(32)), 300, 1, bytes(32), bytes(64)),
        Introduce(bytes(16), 10, b"abc"),
    ],
)
async def test_an_address_that_is_not_proven_makes_us_send_to_nobody(
    autojump_clock, body
):
    async with open_nodes() as (introducer, _, caller, network, _):
        await caller.rpc.request(introducer.rpc.local, Ping())
        before = network.statistics().sent
        spoofed = encode_request(
            Sender(MAIN_NETWORK, bytes(20), False), bytes(8), b"", body, 1200
        )
        caller.hub.send(spoofed, introducer.rpc.local)
        await trio.sleep(20)
        # The request itself and its refusal.
        assert network.statistics().sent - before == 2
        assert introducer.introductions.statistics().registered == 0


async def test_a_node_that_is_its_own_introducer_limits_each_source(autojump_clock):
    async with open_nodes() as (_, target, caller, _, _):
        target.introductions.on_offer = answer_backwards
        entry = target.introductions.serve_own(target.key.public)

        async def flood():
            for number in range(1000):
                await caller.introductions.introduce(entry, b"%d" % number)

        with pytest.raises(IntroductionRefused) as caught:
            await flood()
        assert caught.value.code is RefusalCode.BUSY


async def test_whoever_answered_us_lately_is_no_stranger(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, _):
        entry = introducer.entry_for(target.key)
        assert caller.introductions.is_stranger(entry)
        await caller.rpc.request(introducer.rpc.local, Ping())
        assert not caller.introductions.is_stranger(entry)


async def test_a_record_cannot_send_a_node_of_the_internet_into_its_own_network(
    autojump_clock,
):
    async with open_nodes() as (introducer, target, caller, network, wall_clock):
        host = network.host("8.8.8.8")
        hub = SocketHub(await host.bind(Endpoint("8.8.8.8", 4000)))
        public = Node(hub, "public", wall_clock, None)
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            await caller.rpc.request(public.rpc.local, Ping())
            before = introducer.rpc.statistics().served
            with pytest.raises(PeerUnreachable, match="private network"):
                await caller.introductions.introduce(
                    introducer.entry_for(target.key), b"abc"
                )
            assert introducer.rpc.statistics().served == before
            # Its own word is enough: it answered us.
            await caller.rpc.request(introducer.rpc.local, Ping())
            with pytest.raises(IntroductionRefused):
                await caller.introductions.introduce(
                    introducer.entry_for(target.key), b"abc"
                )
            nursery.cancel_scope.cancel()


async def test_a_signal_reaches_who_registered_and_who_sent_it_knows_at_once(
    autojump_clock,
):
    async with open_nodes() as (introducer, target, caller, _, _):
        heard = []
        target.introductions.on_signal = heard.append
        await target.introductions.register(introducer.contact, target.key, 300)
        handle = handle_of(target.key.public)
        await caller.introductions._ping(introducer.contact.endpoint)
        started_at = trio.current_time()
        await caller.introductions.signal(introducer.rpc.local, handle, b"sealed")
        assert trio.current_time() - started_at == pytest.approx(0.04)
        await trio.sleep(1)
        assert heard == [b"sealed"]
        assert introducer.introductions.statistics().passed == 1


async def test_a_signal_straight_to_its_target_needs_nobody(autojump_clock):
    async with open_nodes() as (_, target, caller, _, _):
        heard = []
        target.introductions.on_signal = heard.append
        target.introductions.live_at(target.key.public)
        handle = handle_of(target.key.public)
        await caller.introductions.signal(target.rpc.local, handle, b"sealed")
        assert heard == [b"sealed"]


async def test_a_signal_for_nobody_is_refused(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, _):
        handle = handle_of(target.key.public)
        with pytest.raises(IntroductionRefused) as caught:
            await caller.introductions.signal(introducer.rpc.local, handle, b"sealed")
        assert caught.value.code is RefusalCode.UNKNOWN_TARGET


async def test_a_signal_to_where_nobody_is_fails_by_name(autojump_clock):
    async with open_nodes() as (_, _, caller, _, _):
        nobody = Endpoint("10.9.9.9", 9)
        with pytest.raises(PeerUnreachable, match="does not answer a signal"):
            await caller.introductions.signal(nobody, bytes(16), b"sealed")


async def test_nothing_large_goes_to_an_introducer_that_only_a_peer_names(
    autojump_clock,
):
    async with open_nodes() as (introducer, target, caller, network, _):
        host = "10.9.9.9"
        victim = await network.host(host).bind(Endpoint(host, 9))
        sealed, handle = bytes(1000), handle_of(target.key.public)
        with pytest.raises(PeerUnreachable, match="does not answer a signal"):
            await caller.introductions.signal(
                victim.local, handle, sealed, is_hearsay=True
            )
        drawn = 0
        while (received := victim.receive()) is not None:
            drawn += len(received.buffer)
        assert 0 < drawn < 250
        heard = []
        target.introductions.on_signal = heard.append
        await target.introductions.register(introducer.contact, target.key, 300)
        await caller.introductions.signal(
            introducer.rpc.local, handle, sealed, is_hearsay=True
        )
        await trio.sleep(1)
        assert heard == [sealed]


async def test_an_introducer_signals_to_whom_it_serves_itself(autojump_clock):
    async with open_nodes() as (introducer, target, _, _, _):
        heard = []
        target.introductions.on_signal = heard.append
        handle = handle_of(target.key.public)
        assert not introducer.introductions.is_registered_here(handle)
        await target.introductions.register(introducer.contact, target.key, 300)
        assert introducer.introductions.is_registered_here(handle)
        await introducer.introductions.signal_registered(handle, b"sealed")
        assert heard == [b"sealed"]


async def test_signals_of_one_source_are_limited_as_its_offers_are(autojump_clock):
    async with open_nodes() as (introducer, target, caller, _, _):
        heard, refused = [], []
        target.introductions.on_signal = heard.append
        await target.introductions.register(introducer.contact, target.key, 300)
        handle = handle_of(target.key.public)

        async def send():
            try:
                await caller.introductions.signal(introducer.rpc.local, handle, b"x")
            except PeerUnreachable as failure:
                refused.append(failure)

        for _ in range(6):
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(send)
        await trio.sleep(5)
        assert refused
        assert len(heard) <= 240
