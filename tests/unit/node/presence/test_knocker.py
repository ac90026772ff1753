import pytest
import trio

from opnode.core.errors import ConfigError, IntroductionRefused
from opnode.core.ids import Contact
from opnode.node.config import NodeConfig
from opnode.node.presence.knocker import HEARD_S, WORD_LENGTH, Knock, Knocker
from opnode.testing.nat_behaviour import NatBehaviour
from opnode.testing.overlay import open_overlay

STRICT = NatBehaviour(timeout_s=5.0)
QUIET_S = 15.0
"""So long after its start a node has nothing to do yet, until half a minute is over."""

ALONE = NodeConfig(nat_keepalive_s=10_000.0)
"""Such a node writes to its introducers once and leaves them in silence."""


def knocker_of(node):
    return node._parts.presence._introducers._knocker


def door_of(node, number=0):
    """An introducer of the node, and the handle that it passes offers for."""
    entry = node.statistics().introducers[number]
    return Contact(entry.node_id, entry.endpoint), entry.handle


async def test_an_introducer_that_wrote_just_now_gets_in(autojump_clock):
    async with open_overlay(3) as overlay:
        node = await overlay.user(behind=STRICT)
        sent = overlay.nat_of(node).statistics().table
        began_at = trio.current_time()
        assert await knocker_of(node).knock(*door_of(node)) is Knock.HEARD
        assert trio.current_time() - began_at < HEARD_S / 4
        # One mapping more: that of the socket that knocked.
        assert overlay.nat_of(node).statistics().table.sessions <= sent.sessions + 1
        assert node.statistics().introductions.answered == 0


async def test_after_a_silence_that_the_nat_does_not_bear_it_gets_not_in(
    autojump_clock,
):
    async with open_overlay(3) as overlay:
        node = await overlay.user(behind=STRICT, config=ALONE)
        await trio.sleep(QUIET_S)
        assert await knocker_of(node).knock(*door_of(node)) is Knock.LOST


async def test_the_knock_itself_opens_nothing(autojump_clock):
    async with open_overlay(3) as overlay:
        node = await overlay.user(behind=STRICT, config=ALONE)
        await trio.sleep(QUIET_S)
        for _ in range(3):
            assert await knocker_of(node).knock(*door_of(node)) is Knock.LOST


async def test_an_introducer_that_knows_us_no_more_says_so(autojump_clock):
    async with open_overlay(3) as overlay:
        node = await overlay.user(behind=STRICT)
        introducer, handle = door_of(node)
        other = bytes(len(handle))
        assert await knocker_of(node).knock(introducer, other) is Knock.FORGOTTEN


async def test_a_dead_introducer_tells_nothing_about_the_nat(autojump_clock):
    async with open_overlay(3) as overlay:
        node = await overlay.user(behind=STRICT, config=ALONE)
        introducer, handle = door_of(node)
        overlay.network.kill(introducer.endpoint.host)
        assert await knocker_of(node).knock(introducer, handle) is Knock.UNKNOWN


async def test_without_a_socket_nothing_is_found_out(autojump_clock):
    class Full:
        async def bind(self, endpoint):
            await trio.lowlevel.checkpoint()
            raise ConfigError("listen", str(endpoint), "a free port")

    async with open_overlay(1) as overlay:
        node = await overlay.user(behind=STRICT)
        parts = node._parts
        knocker = Knocker(Full(), parts.rpc, parts.introductions, None)
        assert await knocker.knock(*door_of(node)) is Knock.UNKNOWN


async def test_a_word_that_is_not_ours_is_an_offer_like_any_other(autojump_clock):
    async with open_overlay(2) as overlay:
        node, asker = await overlay.user(behind=STRICT), await overlay.user()
        heard = node._parts.introductions.expect_word(b"w" * WORD_LENGTH)
        (door, *_) = node.statistics().introducers
        introduce = asker._parts.introductions.introduce
        with pytest.raises(IntroductionRefused):
            await introduce(door, b"x" * WORD_LENGTH)
        assert not heard.is_set()
        assert await introduce(door, b"w" * WORD_LENGTH) == b"w" * WORD_LENGTH
        assert heard.is_set()
