"""`peer_watch`: the comings and goings of a peer, as its records tell them."""

import random

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import NodeId
from opnode.core.peerfile import (
    Identity,
    IntroducerEntry,
    build_peer_file,
    build_presence,
    certify_location,
)
from opnode.core.withdrawals import withdraw
from opnode.node.config import NodeConfig
from opnode.node.node import open_node
from opnode.node.peer_watch import PeerWatch, PresenceEvent
from opnode.testing.clock import DEFAULT_BASE, VirtualWallClock
from opnode.testing.keys import seeded_signing_key, seeded_static_key
from opnode.testing.overlay import open_overlay

IDENTITY = Identity(seeded_signing_key("identity"))


def location(name):
    return certify_location(
        IDENTITY,
        signing=seeded_signing_key(name),
        static=seeded_static_key(name),
        name=name,
        wall_now=DEFAULT_BASE,
        lifetime_s=86_400,
    )


PHONE, LAPTOP = location("phone"), location("laptop")


def presence(of, seq, *, introducer=1, lifetime_s=1200, at=0.0):
    entry = IntroducerEntry(
        node_id=NodeId(bytes([introducer]) * 20),
        endpoint=Endpoint(f"10.0.0.{introducer}", 4000),
        handle=bytes(16),
    )
    return build_presence(
        of, (entry,), wall_now=DEFAULT_BASE + at, lifetime_s=lifetime_s, seq=seq
    )


class Followed:
    """A watch over records that a test puts in."""

    def __init__(self):
        self.put, records = trio.open_memory_channel(99)
        self.found = []
        self.watch = PeerWatch(records, VirtualWallClock(), self.found.extend)

    async def next(self):
        change = await anext(self.watch)
        return change.event, change.presence.certificate.name

    async def is_silent(self, seconds=60):
        with trio.move_on_after(seconds):
            await anext(self.watch)
            return False
        return True


async def test_who_comes_changes_and_withdraws_is_told_of_in_turn(autojump_clock):
    followed = Followed()
    first, second = presence(PHONE, 1), presence(PHONE, 2, introducer=2)
    for record in (first, second, withdraw(second, PHONE.signing, 3)):
        followed.put.send_nowait(record)
    followed.put.send_nowait(presence(LAPTOP, 1))
    told = [await followed.next() for _ in range(4)]
    assert told == [
        (PresenceEvent.CAME, "phone"),
        (PresenceEvent.CHANGED, "phone"),
        (PresenceEvent.GONE, "phone"),
        (PresenceEvent.CAME, "laptop"),
    ]
    assert [p.introducers[0].endpoint.host for p in followed.found] == [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.1",
    ]


async def test_a_renewal_is_no_change_and_puts_off_the_end(autojump_clock):
    followed = Followed()
    followed.put.send_nowait(presence(PHONE, 1))
    assert await followed.next() == (PresenceEvent.CAME, "phone")
    await trio.sleep(700)
    followed.put.send_nowait(presence(PHONE, 2, at=700))
    assert await followed.is_silent(1000)
    assert trio.current_time() > 1200


async def test_a_presence_that_nobody_renews_ends_with_its_expiry(autojump_clock):
    followed = Followed()
    followed.put.send_nowait(presence(PHONE, 1))
    followed.put.send_nowait(presence(LAPTOP, 1, lifetime_s=600))
    await followed.next()
    await followed.next()
    assert await followed.next() == (PresenceEvent.GONE, "laptop")
    assert 599 < trio.current_time() < 602
    assert await followed.next() == (PresenceEvent.GONE, "phone")
    assert 1199 < trio.current_time() < 1202


async def test_other_records_and_withdrawals_of_the_unknown_are_no_change(
    autojump_clock,
):
    followed = Followed()
    followed.put.send_nowait(build_peer_file(IDENTITY, wall_now=DEFAULT_BASE, seq=1))
    followed.put.send_nowait(withdraw(presence(PHONE, 1), PHONE.signing, 2))
    assert await followed.is_silent()


# --- Whole nodes ---


def on_disk(overlay, path):
    """A node that is the same person at every start."""
    config = NodeConfig(
        listen=Endpoint("10.1.0.1", 4000),
        bootstrap=tuple(overlay.entries[:1]),
        data_dir=path,
    )
    return open_node(
        config,
        network=overlay.network.host("10.1.0.1"),
        wall_clock=overlay.wall_clock,
        rng=random.Random(path.name),
    )


async def test_a_friend_who_comes_changes_and_leaves_is_noticed_without_asking(
    autojump_clock, tmp_path
):
    async with open_overlay(8) as overlay:
        alice = await overlay.user()
        async with on_disk(overlay, tmp_path) as bob:
            await bob.wait_published()
            peer_id = bob.peer_id
        async with alice.watch(peer_id) as changes:
            await trio.sleep(5)
            requests = alice._parts.rpc.statistics().requests_sent
            async with on_disk(overlay, tmp_path) as bob:
                await bob.wait_published()
                published_at = trio.current_time()
                with trio.fail_after(1):
                    change = await anext(changes)
                assert change.event is PresenceEvent.CAME
                # The holders told us while they told bob that they have it.
                assert trio.current_time() - published_at < 0.1
                # Other introducers in a newer presence.
                keeper = bob._parts.presence
                changed_at = trio.current_time()
                await keeper._publish(keeper.introducers[:1])
                with trio.fail_after(1):
                    change = await anext(changes)
                assert change.event is PresenceEvent.CHANGED
                assert len(change.presence.introducers) == 1
                assert trio.current_time() - changed_at < 0.15
                left_at = trio.current_time()
            with trio.fail_after(1):
                change = await anext(changes)
            assert change.event is PresenceEvent.GONE
            assert trio.current_time() - left_at < 2
            # One PING in eight seconds keeps the introducers known; nothing else.
            elapsed_s = trio.current_time() - published_at
            sent = alice._parts.rpc.statistics().requests_sent - requests
            assert sent <= 2 + elapsed_s / 8
