"""`acquaintances`: who was met, how they are called again, and that it is kept."""

import contextlib
import json
import random
import stat

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, StaticKey
from opnode.core.errors import IntroductionRefused, PeerUnreachable, RefusalCode
from opnode.core.ids import NodeId
from opnode.core.peerfile import (
    Identity,
    IntroducerEntry,
    Presence,
    certify_location,
)
from opnode.node.acquaintances import (
    MAX_ACQUAINTANCES,
    MAX_ENDPOINTS,
    SAVE_AFTER_S,
    Acquaintances,
)
from opnode.node.config import NodeConfig, Role
from opnode.node.node import open_node
from opnode.protocols.binding_lifetime import BindingLifetimeConfig
from opnode.testing.clock import DEFAULT_BASE
from opnode.testing.overlay import open_overlay


class WallClock:
    def __init__(self):
        self.now = DEFAULT_BASE

    def __call__(self):
        return self.now


def certificate(identity=None, lifetime_s=1000):
    return certify_location(
        identity or Identity(SigningKey.generate()),
        signing=SigningKey.generate(),
        static=StaticKey.generate(),
        name="laptop",
        wall_now=DEFAULT_BASE,
        lifetime_s=lifetime_s,
    ).certificate


def entry(number):
    return IntroducerEntry(
        node_id=NodeId(bytes([number]) * 20),
        endpoint=Endpoint(f"10.0.0.{number}", 4000),
        handle=bytes([number]) * 16,
    )


def presence(certificate, *introducers):
    return Presence(certificate=certificate, introducers=introducers, capabilities=0)


AT = [Endpoint(f"10.0.1.{number}", 4000) for number in range(1, 9)]


def test_the_address_that_worked_last_is_the_first_and_the_oldest_goes():
    known = Acquaintances(WallClock())
    anna = certificate()
    for endpoint in (*AT[:5], AT[2], None):
        known.met(anna, endpoint)
    found = known.endpoints_of(anna.static_public)
    assert found == (AT[2], AT[4], AT[3], AT[1])
    assert len(found) == MAX_ENDPOINTS
    assert known.endpoints_of(bytes(32)) == ()


def test_introducers_are_remembered_of_those_who_were_met_and_of_nobody_else():
    known = Acquaintances(WallClock())
    anna, bert = certificate(), certificate()
    known.met(anna, AT[0])
    known.found([presence(anna, entry(1)), presence(bert, entry(2))])
    known.met(anna, AT[1])
    assert known.presences_of(anna.peer_id) == [presence(anna, entry(1))]
    assert known.presences_of(bert.peer_id) == []
    assert len(known) == 1


def test_who_left_neither_an_address_nor_an_introducer_is_not_called_again():
    identity = Identity(SigningKey.generate())
    known = Acquaintances(WallClock())
    known.met(certificate(identity), None)
    assert known.presences_of(identity.peer_id) == []


def test_of_several_devices_the_one_met_last_comes_first_and_expired_ones_never():
    clock = WallClock()
    identity = Identity(SigningKey.generate())
    phone, laptop = certificate(identity), certificate(identity, lifetime_s=10)
    known = Acquaintances(clock)
    known.met(phone, AT[0])
    known.met(laptop, AT[1])
    names = [p.certificate for p in known.presences_of(identity.peer_id)]
    assert names == [laptop, phone]
    clock.now += 11
    names = [p.certificate for p in known.presences_of(identity.peer_id)]
    assert names == [phone]


def test_a_crowd_pushes_out_those_met_longest_ago(monkeypatch):
    known = Acquaintances(WallClock())
    people = [certificate() for _ in range(MAX_ACQUAINTANCES + 3)]
    known.met(people[0], AT[0])
    for person in people[1:-1]:
        known.met(person, AT[1])
    known.met(people[3], AT[2])
    known.met(people[-1], AT[0])
    assert len(known) == MAX_ACQUAINTANCES
    assert known.endpoints_of(people[0].static_public) == ()
    assert known.endpoints_of(people[3].static_public) == (AT[2], AT[1])


def test_the_file_brings_back_what_was_known_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "acquaintances.json"
    known = Acquaintances(WallClock(), path)
    anna, bert = certificate(), certificate()
    known.met(anna, AT[0])
    known.met(bert, AT[1])
    known.found([presence(anna, entry(1), entry(2))])
    known.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Acquaintances(WallClock(), path)
    assert again.endpoints_of(anna.static_public) == (AT[0],)
    assert again.presences_of(anna.peer_id) == [presence(anna, entry(1), entry(2))]
    assert len(again) == 2
    again.met(certificate(), None)
    assert len(again) == 3


def test_nothing_is_written_without_a_change_or_without_a_directory(tmp_path):
    path = tmp_path / "acquaintances.json"
    known = Acquaintances(WallClock(), path)
    known.save()
    assert not path.exists()
    known.met(certificate(), AT[0])
    known.save()
    path.unlink()
    known.save()
    assert not path.exists()
    Acquaintances(WallClock()).save()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "\udcff",
        lambda _: json.dumps({"version": 1}),
        lambda text: text.replace("10.0.1.1", "nowhere"),
        lambda text: text.replace('"certificate": "', '"certificate": "!'),
        lambda text: text.replace('"certificate": "', '"certificate": "AAAA'),
        lambda text: text.replace("01" * 16, "0101"),
        lambda text: text.replace("01" * 16, "zz" * 16),
    ],
)
def test_a_damaged_file_is_set_aside_and_costs_the_memory_only(
    tmp_path, caplog, damage
):
    path = tmp_path / "acquaintances.json"
    known = Acquaintances(WallClock(), path)
    person = certificate()
    known.met(person, AT[0])
    known.found([presence(person, entry(1))])
    known.save()
    path.write_bytes(damage(path.read_text()).encode("utf-8", "surrogateescape"))
    assert len(Acquaintances(WallClock(), path)) == 0
    assert (tmp_path / "acquaintances.json.corrupt-1").exists()
    assert "set aside" in caplog.text


def test_a_disk_that_refuses_is_told_of_and_stops_nothing(tmp_path, caplog):
    known = Acquaintances(WallClock(), tmp_path / "gone" / "acquaintances.json")
    known.met(certificate(), AT[0])
    known.save()
    assert "not remembered" in caplog.text


async def test_what_changed_is_written_soon_and_once(autojump_clock, tmp_path):
    path = tmp_path / "acquaintances.json"
    known = Acquaintances(WallClock(), path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(known.run)
        known.met(certificate(), AT[0])
        await trio.sleep(SAVE_AFTER_S / 2)
        assert not path.exists()
        await trio.sleep(SAVE_AFTER_S)
        assert path.exists()
        nursery.cancel_scope.cancel()


async def test_what_is_kept_in_memory_only_wakes_nobody(autojump_clock, nursery):
    known = Acquaintances(WallClock())
    nursery.start_soon(known.run)
    known.met(certificate(), AT[0])
    await trio.sleep(SAVE_AFTER_S / 2)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline > SAVE_AFTER_S


# --- Whole nodes ---


async def part(connection, other):
    """End a connection after both sides know of it."""
    with trio.fail_after(5):
        theirs = await other.accept_connection()
        await connection.aclose()
        await theirs.closed.wait()


async def test_when_all_seeds_and_nine_of_ten_servers_die_those_who_met_meet_again(
    autojump_clock,
):
    async with open_overlay(20) as overlay:
        people = [await overlay.user(role=Role.LEAF) for _ in range(20)]
        pairs = list(zip(people[::2], people[1::2], strict=True))
        for one, other in pairs:
            await part(await one.connect(other.peer_id), other)
        # Everybody who could introduce them dies, and two servers live on that know
        # nothing of it: hosts 1 to 20 are the servers, the first of them the seed.
        for number in range(1, 19):
            overlay.network.kill(f"10.0.0.{number}")
        took_s = []

        async def meet(one, other):
            began_at = trio.current_time()
            with trio.move_on_after(10):
                connection = await one.connect(other.peer_id)
                assert await connection.ping() > 0
                took_s.append(trio.current_time() - began_at)

        async with trio.open_nursery() as nursery:
            for number, (one, other) in enumerate(pairs):
                # Either side may be the one who calls.
                ends = (one, other) if number % 2 else (other, one)
                nursery.start_soon(meet, *ends)
        assert len(took_s) == len(pairs)
        assert max(took_s) < 1


async def test_when_nine_of_ten_servers_die_strangers_find_each_other_again_soon(
    autojump_clock,
):
    async with open_overlay(20) as overlay:
        people = [await overlay.user(role=Role.LEAF) for _ in range(6)]
        await trio.sleep(60)
        for number in range(1, 19):
            overlay.network.kill(f"10.0.0.{number}")
        # Two keep-alives: of the longest interval that is ever used, 120 s.
        await trio.sleep(2 * BindingLifetimeConfig().cap_s)
        alive = {"10.0.0.19", "10.0.0.20"}
        for person in people:
            hosts = {e.endpoint.host for e in person.statistics().introducers}
            assert hosts
            assert hosts <= alive
        for one, other in zip(people[::2], people[1::2], strict=True):
            with trio.fail_after(10):
                assert await (await one.connect(other.peer_id)).ping() > 0


async def test_they_meet_again_when_nobody_else_is_left_at_all(autojump_clock):
    async with open_overlay(3) as overlay:
        alice, bob = (
            await overlay.user(role=Role.LEAF),
            await overlay.user(role=Role.LEAF),
        )
        await part(await alice.connect(bob.peer_id), bob)
        for number in range(1, 4):
            overlay.network.kill(f"10.0.0.{number}")
        # By now both know that there is nobody.
        await trio.sleep(1800)
        began_at = trio.current_time()
        await bob.connect(alice.peer_id)
        assert trio.current_time() - began_at < 1


async def test_both_calling_at_once_without_anybody_else_make_one_connection(
    autojump_clock,
):
    async with open_overlay(1) as overlay:
        alice, bob = (
            await overlay.user(role=Role.LEAF),
            await overlay.user(role=Role.LEAF),
        )
        await part(await alice.connect(bob.peer_id), bob)
        overlay.network.kill("10.0.0.1")
        await trio.sleep(400)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alice.connect, bob.peer_id)
                nursery.start_soon(bob.connect, alice.peer_id)
        await trio.sleep(2)
        (mine,) = alice.connector.connections()
        (theirs,) = bob.connector.connections()
        assert await mine.ping() > 0
        assert await theirs.ping() > 0


async def test_a_peer_that_declines_does_so_to_those_who_know_its_address(
    autojump_clock,
):
    async with open_overlay(1) as overlay:
        alice, bob = (
            await overlay.user(role=Role.LEAF),
            await overlay.user(role=Role.LEAF),
        )
        await part(await alice.connect(bob.peer_id), bob)
        bob.connector.may_connect = lambda _: False
        with pytest.raises(Exception, match="declined"):
            await alice.connect(bob.peer_id)


async def test_whoever_took_over_the_old_address_cannot_keep_us_from_the_peer(
    autojump_clock,
):
    async with open_overlay(2) as overlay:
        alice, bob = (
            await overlay.user(role=Role.LEAF),
            await overlay.user(role=Role.LEAF),
        )
        mallory = await overlay.user(role=Role.LEAF)
        await part(await alice.connect(bob.peer_id), bob)
        known = alice._parts.acquaintances
        (presence,) = known.presences_of(bob.peer_id)
        handle = bob._parts.introductions._own_handle
        known._known.clear()
        known.met(presence.certificate, mallory.endpoint)

        async def say_glare(_):
            await trio.lowlevel.checkpoint()
            raise IntroductionRefused(RefusalCode.GLARE)

        mallory._parts.introductions._own_handle = handle
        mallory._parts.introductions.on_offer = say_glare
        began_at = trio.current_time()
        connection = await alice.connect(bob.peer_id)
        assert connection.peer_id == bob.peer_id
        assert trio.current_time() - began_at < 1


async def test_a_peer_that_is_gone_for_good_is_unreachable_in_bounded_time(
    autojump_clock,
):
    async with open_overlay(1) as overlay:
        alice, bob = (
            await overlay.user(role=Role.LEAF),
            await overlay.user(role=Role.LEAF),
        )
        await part(await alice.connect(bob.peer_id), bob)
        overlay.network.kill("10.0.0.3")
        with trio.fail_after(25), pytest.raises(PeerUnreachable):
            await alice.connect(bob.peer_id)


@contextlib.asynccontextmanager
async def on_disk(overlay, path, address):
    config = NodeConfig(
        listen=Endpoint(address, 4000),
        bootstrap=tuple(overlay.entries[:1]),
        data_dir=path,
        role=Role.LEAF,
    )
    async with open_node(
        config,
        network=overlay.network.host(address),
        wall_clock=overlay.wall_clock,
        rng=random.Random(address),
    ) as node:
        yield node


async def test_a_node_that_restarts_after_everybody_died_calls_those_it_knew(
    autojump_clock, tmp_path
):
    async with open_overlay(2) as overlay:
        alice = await overlay.user(role=Role.LEAF)
        async with on_disk(overlay, tmp_path / "bob", "10.1.0.1") as bob:
            await bob.wait_published()
            await alice.connect(bob.peer_id)
            await bob.accept_connection()
        for number in (1, 2):
            overlay.network.kill(f"10.0.0.{number}")
        await trio.sleep(60)
        async with on_disk(overlay, tmp_path / "bob", "10.1.0.1") as bob:
            with trio.fail_after(10):
                connection = await bob.connect(alice.peer_id)
                assert await connection.ping() > 0


async def test_a_node_that_restarts_is_called_by_those_who_knew_it(
    autojump_clock, tmp_path
):
    async with open_overlay(2) as overlay:
        alice = await overlay.user(role=Role.LEAF)
        async with on_disk(overlay, tmp_path / "bob", "10.1.0.1") as bob:
            await bob.wait_published()
            await bob.connect(alice.peer_id)
        for number in (1, 2):
            overlay.network.kill(f"10.0.0.{number}")
        await trio.sleep(60)
        async with on_disk(overlay, tmp_path / "bob", "10.1.0.1") as bob:
            with trio.fail_after(10):
                connection = await alice.connect(bob.peer_id)
                assert await connection.ping() > 0
