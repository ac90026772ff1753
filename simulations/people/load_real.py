"""The load of every server, on the shipped node code.

Owns a small overlay in which users call each other, and the counters of its sockets.
Refuses to know why bytes were sent.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import trio

from opnode.node.config import NodeConfig
from opnode.node.node import OverlayNode
from opnode.testing.clock import run_deterministic
from opnode.testing.nat_behaviour import PRESETS
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.seeded_secrets import seeded_secrets
from opnode.testing.virtual_network import Link
from simulations.introductions import call, take_calls
from simulations.model.durations import LATENCY_S, NAT_TIMERS_S
from simulations.people.costs import HEADER_BYTES
from simulations.people.load_vector import Load
from simulations.run_context import Run

_LINK = Link(latency_s=LATENCY_S)
_SETTLE_S = 1200.0
"""Users join, learn how long mappings live, and their tables calm down."""


class Plan(NamedTuple):
    """How many there are, how often they call, and for how long that is watched."""

    servers: int
    users: int
    calls_per_s: float
    window_s: float


class RealLoad(NamedTuple):
    """The load, and the datagrams and virtual seconds that it took to find out."""

    load: Load
    datagrams: int
    virtual_s: float


def load_real(plan: Plan, run: Run) -> RealLoad:
    """Let an overlay of real nodes live."""
    with seeded_secrets(run.seed):
        return run_deterministic(_live, run.seed, plan, run)


async def _live(plan: Plan, run: Run) -> RealLoad:
    async with open_overlay(0, link=_LINK, seed=run.seed, public=True) as overlay:
        for _ in range(plan.servers):
            await overlay.seed()
        users = await _open(overlay, plan.users, run)
        await trio.sleep(_SETTLE_S)
        before = [_bytes(node) for node in (*overlay.seeds, *users)]
        passed = _passed(overlay)
        with trio.move_on_after(plan.window_s):
            async with trio.open_nursery() as nursery:
                for number in range(plan.users):
                    nursery.start_soon(_call_others, overlay, users, number, plan)
        after = [_bytes(node) for node in (*overlay.seeds, *users)]
        rates = (np.array(after) - np.array(before)) / plan.window_s
        held = [s.statistics().introductions.registered for s in overlay.seeds]
        load = Load(
            server_bytes_per_s=rates[: plan.servers],
            user_bytes_per_s=float(rates[plan.servers :].mean()),
            registrations=np.array(held, dtype=np.int64),
            refused=sum(s.statistics().introductions.refused for s in overlay.seeds),
            introductions=_passed(overlay) - passed,
        )
        sent = overlay.network.statistics().sent
        digest = overlay.network.trace_digest()
    run.fold(bytes.fromhex(digest))
    return RealLoad(load, sent, trio.current_time())


async def _open(overlay: Overlay, count: int, run: Run) -> list[OverlayNode]:
    config = NodeConfig(bootstrap=tuple(overlay.entries[:3]))
    users = []
    for number in range(count):
        timer_s = NAT_TIMERS_S[number % len(NAT_TIMERS_S)]
        behind = dataclasses.replace(PRESETS["port"], timeout_s=timer_s)
        user = await overlay.start_user(behind, config)
        overlay.start_soon(take_calls, user)
        users.append(user)
        run.progress(number + 1, count, "users")
    for user in users:
        await user.wait_published()
    return users


async def _call_others(
    overlay: Overlay, users: list[OverlayNode], number: int, plan: Plan
) -> None:
    if not plan.calls_per_s:
        return
    rng = overlay.rng(f"calls {number}")
    while True:
        await trio.sleep(rng.expovariate(plan.calls_per_s))
        callee = rng.choice(users)
        if callee is not users[number]:
            await call(users[number], callee.peer_id)


def _bytes(node: OverlayNode) -> int:
    seen = node.statistics().traffic.socket
    datagrams = seen.datagrams_in + seen.datagrams_out
    return seen.bytes_in + seen.bytes_out + HEADER_BYTES * datagrams


def _passed(overlay: Overlay) -> int:
    return sum(one.statistics().introductions.passed for one in overlay.seeds)
