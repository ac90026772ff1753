"""The status of a node, in at most eighty columns for people.

Owns the order, the wording and the rounding. Refuses to know where the figures come
from; what a node does not tell is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from opnode.cli.output import size_text
from opnode.daemon.figures import (
    Bucket,
    Budget,
    DhtFigures,
    Gateways,
    NodeFigures,
    RelayFigures,
    RelayUseFigures,
    RpcFigures,
    TrafficLine,
    TurnFigures,
    WebSocketFigures,
)

BAR: Final = 20
"""Characters of a full bucket's bar: one for each contact (k of the Kademlia paper)."""

NAT_WORDS: Final = {
    "independent": "one port for all",
    "sequential": "another port for each peer, the next in a row",
    "random": "another port for each peer, at random",
}
"""Kinds of NAT that a person may want to know of; `opnode doctor` tells more."""

_SERVED: Final = (
    *("PING", "FIND_NODE", "FIND_VALUE", "STORE", "REGISTER", "INTRODUCE", "WATCH"),
    *("DIAL_BACK", "DIAL", "DELEGATE", "FIND_SERVICES", "JOIN_RELAY"),
)
_SENT_ON: Final = ("OFFER", "CHANGED", "DIAL", "DIALLED", "RELAY_ENDED")
_FOR_OTHERS: Final = frozenset(
    {(name, "served") for name in _SERVED} | {(name, "asked") for name in _SENT_ON}
)
"""Causes of traffic that somebody else had; a signal may be for either."""

TOLD: Final = ("server", "leaf")
"""Roles that a node can be told; what it was not told, it finds out by itself."""


def node_rows(node: NodeFigures) -> dict[str, str]:
    """What the node is and how it fares, by label."""
    dht = node.dht
    rows = {
        "address": _address(node),
        "nat": _nat(node),
        "udp": _udp(node.gateways) if node.gateways else None,
        "role": _role(node),
        "network": _network(node),
        "callers": _callers(node),
        "alarm": dht.alarm or None,
        "records": _records(dht),
        "watching": _watching(dht),
        "lookups": _lookups(dht),
        "for others": _for_others(node),
        "asked for them": _lent(node.rpc.lent),
        "relaying": _relaying(node.relay) if node.relay else None,
        "relays used": _relays_used(node.relay_use) if node.relay_use else None,
        "turn": _turn(node.turn) if node.turn else None,
        "gateway for": _gateway(node.websocket) if node.websocket else None,
        "refused": _refused(dht, node.rpc),
        "budget": _budget(node.rpc.budget) if node.rpc.budget else None,
    }
    return {label: text for label, text in rows.items() if text}


def table_lines(buckets: Sequence[Bucket]) -> list[str]:
    """A line for each depth of the routing table: nearest to the node last."""
    by_depth: dict[int, list[Bucket]] = {}
    for bucket in buckets:
        by_depth.setdefault(bucket.depth, []).append(bucket)
    return [_depth_line(depth, by_depth[depth]) for depth in sorted(by_depth)]


def traffic_lines(traffic: Sequence[TrafficLine]) -> list[str]:
    """A title and a line for each cause, the most expensive first."""
    if not traffic:
        return []
    lines = [f"{'cause':<22} {'out':>9} {'bytes':>9} {'in':>9} {'bytes':>9}"]
    ordered = sorted(traffic, key=lambda line: -(line.bytes_in + line.bytes_out))
    for line in ordered:
        cause = f"{line.message} {line.side}"
        lines.append(
            f"{cause:<22} {line.datagrams_out:>9} {size_text(line.bytes_out):>9} "
            f"{line.datagrams_in:>9} {size_text(line.bytes_in):>9}"
        )
    return lines


def duration_text(seconds: float) -> str:
    """Write a time in its two largest units: 3 h 12 min."""
    whole = int(seconds)
    days, hours = divmod(whole // 3600, 24)
    minutes = whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Put nested values side by side: {"a": {"b": 1}} becomes {"a b": 1}."""
    result: dict[str, object] = {}
    for name, value in values.items():
        words = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, dict):
            result |= flat(value, f"{words} ")
        elif isinstance(value, list):
            result[words] = ", ".join(map(_cell, value)) or "none"
        else:
            result[words] = _cell(value)
    return result


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(map(_cell, value.values()))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _role(node: NodeFigures) -> str | None:
    """The role in force, and why it is."""
    proof = node.reachability
    if node.configured_role in TOLD:
        return f"{node.role}, as it was told"
    if proof is None:
        return node.role
    if proof.is_proven:
        networks = _count(proof.networks, "unrelated network")
        return f"{node.role}: {networks} dialled back"
    if proof.failures:
        return f"{node.role}: nobody got through in {_count(proof.failures, 'round')}"
    return f"{node.role} until others have proven that they can reach it"


def _address(node: NodeFigures) -> str | None:
    if node.endpoint is None:
        return None
    seen = [endpoint for endpoint in node.observed if endpoint != node.endpoint]
    text = node.endpoint
    if seen:
        text += f", seen by others as {', '.join(seen)}"
    return f"{text}, behind a NAT" if node.behind_nat else text


def _nat(node: NodeFigures) -> str | None:
    """What is in front of the node, unless that is not known, or nothing."""
    nat = node.nat
    if nat is None or nat.kind not in NAT_WORDS:
        return None
    text = NAT_WORDS[nat.kind]
    if node.mapped:
        text += f", forwards {', '.join(node.mapped)}"
    binding = node.presence.binding if node.presence else None
    if binding is not None and binding.survived_s is not None:
        text += f", remembers for {binding.survived_s:.0f} s at least"
    return text


def _callers(node: NodeFigures) -> str | None:
    """Who passes calls on to the node."""
    if not node.introducers:
        return None
    return f"through {', '.join(one.endpoint for one in node.introducers)}"


def _network(node: NodeFigures) -> str | None:
    if node.contacts is None:
        return None
    text = "" if node.joined is None else "joined, " if node.joined else "not joined, "
    text += _count(node.contacts, "contact")
    size = node.dht.network_size
    return text if size is None else f"{text} of about {_count(round(size), 'node')}"


def _records(dht: DhtFigures) -> str | None:
    parts = []
    if dht.records is not None:
        parts.append(f"{dht.records} held here")
    care = dht.holdings
    if care is not None and (care.given or care.put_again):
        parts.append(f"{care.given} given to newcomers, {care.put_again} put again")
    if dht.own_records is not None:
        parts.append(f"{dht.own_records} of its own kept alive")
    if dht.own_failed:
        parts.append(_count(dht.own_failed, "put") + " of them reached nobody")
    if dht.equivocations:
        parts.append(f"{dht.equivocations} with two contents under one number")
    return ", ".join(parts)


def _watching(dht: DhtFigures) -> str | None:
    if not (dht.watchers or dht.watching):
        return None
    return f"{dht.watchers or 0} by others here, {dht.watching or 0} by this node"


def _lookups(dht: DhtFigures) -> str | None:
    if not dht.lookups or dht.queries is None:
        return None
    return f"{dht.lookups}, {dht.queries / dht.lookups:.1f} questions each"


def _refused(dht: DhtFigures, rpc: RpcFigures) -> str | None:
    counts = {
        "malformed datagrams": rpc.malformed,
        "requests beyond the limits": rpc.limited,
        "bad records": dht.bad_records,
    }
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number)


def _for_others(node: NodeFigures) -> str | None:
    """What the node spends on others, and what of it is passed on for strangers."""
    lines = [x for x in node.rpc.traffic if (x.message, x.side) in _FOR_OTHERS]
    if not lines:
        return None
    size_in = size_text(sum(x.bytes_in for x in lines))
    text = f"{size_in} in, {size_text(sum(x.bytes_out for x in lines))} out"
    work = node.introductions
    if work is None or not (work.registered or work.passed):
        return text
    text += f"; {work.registered} registered, {work.passed} introduced"
    if work.desk is None:
        return text
    return f"{text} (limit {size_text(round(work.desk.bytes_per_s))}/s)"


def _lent(budget: Budget | None) -> str | None:
    if budget is None or not budget.packets_per_s_used:
        return None
    return _budget(budget)


def _udp(gateways: Gateways) -> str | None:
    """How datagrams leave where no UDP gets through; nothing is said where it does."""
    if gateways.state == "open":
        return None
    if gateways.held:
        return f"blocked, going by WebSocket: {', '.join(gateways.held)}"
    return f"blocked, and no gateway lets us in: {gateways.last_failure or 'not yet'}"


def _gateway(websocket: WebSocketFigures) -> str:
    """What the operator does for those whose network passes no UDP."""
    text = f"{_count(websocket.clients, 'client')} by WebSocket, "
    return f"{text}{size_text(websocket.bytes)} carried"


def _relaying(relay: RelayFigures) -> str:
    """What the operator gives away to those who find no direct path."""
    text = f"{_count(relay.sessions, 'session')}, {size_text(relay.bytes_relayed)}"
    text += " passed on"
    if relay.bytes_dropped:
        text += f", {size_text(relay.bytes_dropped)} above the limits"
    return text


def _relays_used(use: RelayUseFigures) -> str:
    """By whose relays peers are reached now, and what went wrong."""
    parts = []
    if use.sessions:
        relays = ", ".join(sorted({session.relay for session in use.sessions}))
        parts.append(f"{_count(len(use.sessions), 'session')} by {relays}")
    parts.extend(f"{count} {name}" for name, count in use.failures)
    if use.last_failure:
        parts.append(f"last: {use.last_failure}")
    return ", ".join(parts)


def _turn(turn: TurnFigures) -> str:
    """Each server that was given: what it lends, or why it does not."""
    parts = []
    for server in turn.servers:
        if server.is_in_use and turn.allocation is not None:
            parts.append(f"{server.url} lends {turn.allocation.relayed}")
        elif server.reason:
            parts.append(f"{server.url}: {server.reason}")
        else:
            parts.append(f"{server.url} is spare")
    return ", ".join(parts)


def _budget(budget: Budget) -> str:
    text = (
        f"{budget.packets_per_s_used:.1f} of {budget.packets_per_s:.0f} packets/s, "
        f"{budget.endpoints_per_min_used:.0f} of {budget.endpoints_per_min:.0f} "
        "new addresses/min"
    )
    if budget.is_spent:
        return f"{text}: spent"
    return f"{text}: background waits" if budget.is_short else text


def _depth_line(depth: int, buckets: Sequence[Bucket]) -> str:
    contacts = sum(bucket.contacts for bucket in buckets)
    sure = sum(bucket.sure for bucket in buckets)
    waiting = sum(bucket.replacements for bucket in buckets)
    # Of several buckets at one depth the bar shows the average.
    filled = min(BAR, round(contacts / len(buckets)))
    text = f"{depth:>3} bits {'#' * filled:.<{BAR}} {contacts:>4}"
    if len(buckets) > 1:
        text += f" in {len(buckets)} buckets"
    if sure < contacts:
        text += f", {contacts - sure} unsure"
    return f"{text}, {waiting} waiting" if waiting else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
