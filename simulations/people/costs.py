"""What messages cost, measured on the shipped node code at the start of a run.

A small overlay of real nodes on the virtual network is left alone, first the servers,
then users too, then these call each other; the nodes' own counters say what each kind
of message took. Owns that measurement. Refuses to know how often anything is sent in a
larger network: that is what the models are for.

Bytes are UDP payloads of request and reply together, repeats included; a datagram has
28 more on the wire (IPv4 and UDP). CPU time is not measured here, as the virtual clock
has none: `INTRODUCTION_CPU_MS` comes from ``python -m benchmarks introducer``.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec
import trio

from opnode.node.config import NodeConfig
from opnode.node.node import OverlayNode
from opnode.testing.clock import run_deterministic
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.seeded_secrets import seeded_secrets
from opnode.testing.virtual_network import Link
from simulations.introductions import call, take_calls
from simulations.model.durations import LATENCY_S

HEADER_BYTES: Final = 28
"""IPv4 and UDP, for each datagram."""

INTRODUCTION_CPU_MS: Final = 0.32
"""Of the introducer, for one introduction; 2026-11-21, one core of a shared machine."""

SERVERS: Final = 24
"""So many that answers name k contacts, as they do in any larger network."""

_USERS: Final = 20
_SETTLE_S: Final = 600.0
_IDLE_S: Final = 3600.0
"""Each bucket is refreshed once in it, so what users add can be told from that."""
_AFTER_CALL_S: Final = 30.0
_CALLS: Final = 20
_LINK: Final = Link(latency_s=LATENCY_S)
_KEPT: Final = frozenset({"PING", "REGISTER", "STORE"})
"""What an idle user asks by rules that the models have; the rest is its remainder."""


class Cost(msgspec.Struct, frozen=True):
    """One exchange: UDP payload both ways, and datagrams both ways."""

    size_bytes: float
    datagrams: float

    def wire(self) -> float:
        """Bytes on the wire."""
        return self.size_bytes + HEADER_BYTES * self.datagrams


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What one exchange of each kind costs, and the rates that follow no simple rule.

    Attributes:
        introduce: caller and introducer, for each introduction that was passed on.
        offer: introducer and target, likewise.
        rest_bytes_per_s: what an idle user spends beside PING, REGISTER and STORE, on
            the wire: searches for gateways, delegated lookups, knocks.
        rest_packets_per_s: the same in datagrams.
        delegated_bytes_per_s: what servers ask each other for an idle user, on the
            wire: who is nearest to its presence, whether it can be dialled, and putting
            its records where holders are missing. Mostly FIND_NODEs of lookups.
        check_per_contact_per_s: PINGs that a server sends to a contact of its table.
        introductions_per_call: introductions passed on for one call, with the knocks
            at their own doors that users made meanwhile: up to a third of them.
    """

    ping: Cost
    register: Cost
    store: Cost
    find_value: Cost
    find_node: Cost
    introduce: Cost
    offer: Cost
    rest_bytes_per_s: float
    rest_packets_per_s: float
    delegated_bytes_per_s: float
    check_per_contact_per_s: float
    introductions_per_call: float

    @property
    def introduction_bytes(self) -> float:
        """What one introduction costs its introducer, on the wire."""
        return self.introduce.wire() + self.offer.wire()


class _Seen(NamedTuple):
    """Exchanges, bytes and datagrams of one kind."""

    asked: int
    size: int
    datagrams: int


_Account = Mapping[str, _Seen]


class _Idle(NamedTuple):
    """Servers alone, idle users, and bytes a second that servers ask for one."""

    servers: _Account
    users: _Account
    delegated: float


@functools.cache
def measure_costs(seed: int = 1) -> Costs:
    """Measure; the same seed gives the same costs. Some seconds of CPU."""
    with seeded_secrets(seed):
        return run_deterministic(_measure, seed, seed)


async def _measure(seed: int) -> Costs:
    async with open_overlay(0, link=_LINK, seed=seed, public=True) as overlay:
        for _ in range(SERVERS):
            await overlay.seed()
        await trio.sleep(_SETTLE_S)
        before = _asked(overlay.seeds)
        await trio.sleep(_IDLE_S)
        servers = _since(before, _asked(overlay.seeds))
        users = await _open_users(overlay)
        await trio.sleep(_SETTLE_S)
        before, before_servers = _asked(users), _asked(overlay.seeds)
        await trio.sleep(_IDLE_S)
        idle = _since(before, _asked(users))
        busy = _since(before_servers, _asked(overlay.seeds))
        before_users, before_servers = _asked(users), _asked(overlay.seeds)
        await _call_each_other(users)
        calls = _since(before_users, _asked(users))
        passed = _since(before_servers, _asked(overlay.seeds))
    more = (_bytes_of(busy) - _bytes_of(servers)) / _IDLE_S / _USERS
    return _costs(_Idle(servers, idle, max(more, 0.0)), calls, passed["OFFER"])


async def _open_users(overlay: Overlay) -> list[OverlayNode]:
    config = NodeConfig(bootstrap=tuple(overlay.entries[:3]))
    users = [await overlay.start_user("port", config) for _ in range(_USERS)]
    for user in users:
        overlay.start_soon(take_calls, user)
        await user.wait_published()
    return users


async def _call_each_other(users: list[OverlayNode]) -> None:
    for number in range(_CALLS):
        caller = users[number % _USERS]
        callee = users[(number + 1 + number // _USERS) % _USERS]
        await call(caller, callee.peer_id)
        await trio.sleep(_AFTER_CALL_S)


def _costs(quiet: _Idle, calls: _Account, offer: _Seen) -> Costs:
    servers, idle, delegated = quiet
    rest = [seen for kind, seen in idle.items() if kind not in _KEPT]
    rest_size = sum(s.size + HEADER_BYTES * s.datagrams for s in rest)
    contacts = SERVERS * (SERVERS - 1)
    introduce = calls["INTRODUCE"]
    return Costs(
        ping=_each(idle["PING"], idle["PING"].asked),
        register=_each(idle["REGISTER"], idle["REGISTER"].asked),
        store=_each(idle["STORE"], idle["STORE"].asked),
        find_value=_each(calls["FIND_VALUE"], calls["FIND_VALUE"].asked),
        find_node=_each(servers["FIND_NODE"], servers["FIND_NODE"].asked),
        introduce=_each(introduce, offer.asked),
        offer=_each(offer, offer.asked),
        rest_bytes_per_s=rest_size / _IDLE_S / _USERS,
        rest_packets_per_s=sum(s.datagrams for s in rest) / _IDLE_S / _USERS,
        delegated_bytes_per_s=delegated,
        check_per_contact_per_s=servers["PING"].asked / contacts / _IDLE_S,
        introductions_per_call=offer.asked / _CALLS,
    )


def _bytes_of(account: _Account) -> float:
    """On the wire, of all kinds but OFFER, which follows from introductions."""
    return sum(
        seen.size + HEADER_BYTES * seen.datagrams
        for kind, seen in account.items()
        if kind != "OFFER"
    )


def _each(seen: _Seen, exchanges: int) -> Cost:
    return Cost(seen.size / exchanges, seen.datagrams / exchanges)


def _asked(nodes: Iterable[OverlayNode]) -> _Account:
    """What these nodes asked so far, by kind."""
    found: dict[str, _Seen] = {}
    for node in nodes:
        for line in node.statistics().rpc.traffic:
            if line.side != "asked":
                continue
            asked, size, datagrams = found.get(line.message, _Seen(0, 0, 0))
            found[line.message] = _Seen(
                # A reply may be lost or refused, a request is counted when repeated,
                # too: both are rare enough here to be told as part of the cost.
                asked + line.datagrams_out,
                size + line.bytes_in + line.bytes_out,
                datagrams + line.datagrams_in + line.datagrams_out,
            )
    return found


def _since(before: _Account, after: _Account) -> _Account:
    none = _Seen(0, 0, 0)
    return {
        kind: _Seen(*(x - y for x, y in zip(seen, before.get(kind, none), strict=True)))
        for kind, seen in after.items()
    }
