"""What the way from others to a node is like: NAT, addresses, who introduces it.

Owns the judgement, one pure function for each thing looked at. Refuses to know where
the facts come from. Where nothing tells, the verdict is "unknown", never a guess.
"""

from types import MappingProxyType
from typing import Final

from opnode.daemon.figures import Attempt, Nat, NodeFigures, PortMapping
from opnode.daemon.judgement import Finding, Health, count
from opnode.drivers.router.port_mapping import MappingState
from opnode.protocols.nat.mapping import MappingKind
from opnode.protocols.nat.odds import NatType, Odds, odds_between, type_of

REPORTERS: Final = 3
"""Nodes of different subnets that must have told, for one of them may lie."""

INTRODUCERS: Final = 3
"""Enough for one to be gone and one to be wrong."""

STRICT_S: Final = 25.0
"""Whoever keeps a mapping for less makes the node send all the time."""

RELAY_ADVICE: Final = (
    "forward the node's UDP port in the router, or switch on UPnP there"
)

SHOWN_ATTEMPTS: Final = 4
"""Of the last searches for a path: a phone, a laptop, and each once more."""

PEER_DIGITS: Final = 12
"""Of a peer id: enough to tell friends apart."""

_NATS: Final = MappingProxyType(
    {
        NatType.OPEN: "none: others see this machine's own address",
        NatType.FULL: "full cone: everybody gets in at one port",
        NatType.PORT: "cone: one port for all; that strangers get in is not proven",
        NatType.SEQUENTIAL: "symmetric: another port for each peer, the next in a row",
        NatType.RANDOM: "symmetric: another port for each peer, drawn at random",
    }
)


def judge_nat(figures: NodeFigures) -> Finding:
    """What kind of NAT others see the node behind."""
    name = "nat"
    nat = figures.nat
    own = _own_type(figures)
    if nat is None or own is None:
        told = count(nat.reporters if nat else 0, "network")
        text = f"not known: {told} told where they see it; {REPORTERS} must agree"
        return Finding(name, Health.UNKNOWN, text)
    if own is NatType.PORT and nat.kind == MappingKind.NONE.value:
        text = "none; that a firewall lets strangers in is not proven"
    else:
        text = _NATS[own]
    text += f" ({_where(nat)})"
    if own is NatType.RANDOM:
        return Finding(name, Health.WARN, text, RELAY_ADVICE)
    return Finding(name, Health.OK, text)


def judge_binding(figures: NodeFigures) -> Finding:
    """For how long whatever is in front of the node lets an answer in."""
    name = "binding"
    binding = figures.presence.binding if figures.presence else None
    if figures.peer_id is None:
        return Finding(name, Health.OK, "not needed: nobody is to be introduced to it")
    if binding is None or binding.survived_s is None:
        every = f"; it sends every {binding.interval_s:.0f} s" if binding else ""
        text = f"not measured yet: that takes minutes of silence{every}"
        return Finding(name, Health.UNKNOWN, text)
    text = f"lasts for {binding.survived_s:.0f} s of silence at least"
    if binding.lost_s is not None:
        text += f", less than {binding.lost_s:.0f} s"
    text += f"; the node sends every {binding.interval_s:.0f} s"
    if binding.interval_s < STRICT_S:
        advice = "raise the router's time-out for UDP: 120 s is the least that is usual"
        return Finding(name, Health.WARN, text, advice)
    return Finding(name, Health.OK, text)


def judge_mapping(figures: NodeFigures) -> Finding:
    """Whether a router forwards a port to the node."""
    name = "mapping"
    if figures.mapped:
        text = f"the router forwards {', '.join(figures.mapped)} to this node"
        return Finding(name, Health.OK, text + _by_whom(figures.mapping))
    if not figures.behind_nat:
        return Finding(name, Health.OK, "not needed: no NAT is known")
    text = _why_unmapped(figures.mapping)
    if _own_type(figures) in (NatType.SEQUENTIAL, NatType.RANDOM):
        return Finding(name, Health.WARN, text, RELAY_ADVICE)
    return Finding(name, Health.OK, text)


def _by_whom(mapping: PortMapping | None) -> str:
    if mapping is None or mapping.method is None:
        return ""
    until = f" for {mapping.lifetime_s:.0f} s at a time" if mapping.lifetime_s else ""
    return f", asked at {mapping.router} by {mapping.method}{until}"


def _why_unmapped(mapping: PortMapping | None) -> str:
    text = "none: no router forwards a port to this node"
    if mapping is None or mapping.state == MappingState.OFF.value:
        return f"{text}; none was asked"
    if mapping.state == MappingState.ASKING.value:
        return f"{text} so far; it is being asked"
    if mapping.state == MappingState.BEHIND_ANOTHER.value:
        return f"{text}: {mapping.router} does, behind another NAT ({mapping.external})"
    return f"{text}: {mapping.reason}" if mapping.reason else text


def judge_ipv6(figures: NodeFigures) -> Finding:
    """Whether peers can be met over IPv6, where no NAT is in the way."""
    name = "ipv6"
    ipv6 = figures.ipv6
    if ipv6 is None:
        return Finding(name, Health.UNKNOWN, "not known")
    if not ipv6.is_carried:
        text = "not used: the node listens on IPv4 alone"
        if not ipv6.addresses:
            return Finding(name, Health.OK, text)
        return Finding(name, Health.WARN, text, "drop --listen, or say --listen [::]:0")
    if not ipv6.addresses:
        return Finding(name, Health.OK, "this machine has no public address of it")
    text = f"offered to peers: {', '.join(ipv6.addresses)}"
    return Finding(name, Health.OK, text + ("; others see it" if ipv6.is_seen else ""))


def judge_introducers(figures: NodeFigures) -> Finding:
    """Who passes calls on to the node."""
    name = "introducers"
    if figures.peer_id is None:
        return Finding(name, Health.OK, "none needed: this node has no identity")
    names = ", ".join(one.endpoint for one in figures.introducers)
    text = f"{count(len(figures.introducers), 'node')} {names}".strip()
    if not figures.introducers:
        advice = "nobody can call this node; see joined and table"
        return Finding(name, Health.BAD, "nobody passes calls on to it", advice)
    servers = figures.contacts or 0
    # A server may be called directly, and is then its own introducer.
    is_leaf = figures.role != "server"
    if is_leaf and len(figures.introducers) < min(INTRODUCERS, servers):
        advice = "one more that goes away may leave it unreachable; it looks for others"
        return Finding(name, Health.WARN, text, advice)
    return Finding(name, Health.OK, text)


def judge_odds(figures: NodeFigures) -> Finding:
    """How connections are to be expected, by the NAT that a peer is behind."""
    name = "odds"
    own = _own_type(figures)
    if own is None:
        return Finding(name, Health.UNKNOWN, "not known before the NAT is")
    facts = {peer.value: odds_between(own, peer).value for peer in NatType}
    parts = []
    for odds in Odds:
        peers = [peer for peer, found in facts.items() if found == odds.value]
        if peers:
            parts.append(f"{odds.value}: {'; '.join(peers)}")
    return Finding(name, Health.OK, ". ".join(parts), facts=facts)


def judge_attempts(figures: NodeFigures) -> tuple[Finding, ...]:
    """What became of the last searches for a direct path, the newest first."""
    name = "attempt"
    if figures.peer_id is None:
        return ()
    newest = sorted(figures.attempts, key=lambda one: one.age_s)[:SHOWN_ATTEMPTS]
    if not newest:
        return (Finding(name, Health.OK, "none yet: nobody was called, nobody called"),)
    return tuple(_judge_attempt(name, attempt) for attempt in newest)


def _judge_attempt(name: str, attempt: Attempt) -> Finding:
    peer = f"{attempt.peer_id[:PEER_DIGITS]}…, " if attempt.peer_id else ""
    text = f"{peer}{attempt.age_s:.0f} s ago ({attempt.cause}): "
    offered = ", ".join(f"{one.kind} {one.endpoint}" for one in attempt.local)
    checks = ", ".join(
        f"{one.kind} {one.remote} {one.outcome}" for one in attempt.checks
    )
    facts = {f"{one.kind} {one.remote}": one.outcome for one in attempt.checks}
    told = f"; told it {offered or 'nothing'}; checks: {checks or 'none'}"
    if attempt.nominated is not None:
        text += f"direct to {attempt.nominated}{told}"
        return Finding(name, Health.OK, text, facts=facts)
    if not attempt.is_over:
        return Finding(name, Health.UNKNOWN, f"{text}under way{told}", facts=facts)
    advice = (
        "where odds says relay, no check can come back; else ask for the peer's nat"
    )
    return Finding(name, Health.WARN, f"{text}no direct path{told}", advice, facts)


def _own_type(figures: NodeFigures) -> NatType | None:
    if figures.nat is None:
        return None
    kinds = {kind.value: kind for kind in MappingKind}
    # A node of another version may know kinds that we do not.
    kind = kinds.get(figures.nat.kind, MappingKind.UNKNOWN)
    proof = figures.reachability
    is_reached = proof is not None and proof.is_proven
    if is_reached and figures.behind_nat is False:
        # Too few networks told for a verdict on ports, but these got in.
        return NatType.OPEN
    return type_of(kind, is_reached=is_reached)


def _where(nat: Nat) -> str:
    seen = f"seen at {nat.host}, by {count(nat.reporters, 'network')}"
    if nat.kind == MappingKind.SEQUENTIAL.value:
        return f"{seen}, in steps of {nat.step}"
    return seen
