"""The figures of a node that commands show and judge, read from its plain statistics.

Owns their names and types. A figure that a node of another version does not have is
``None`` or empty here: nothing is made up. Refuses to know how they are shown.
"""

from collections.abc import Mapping

import msgspec


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket of the routing table."""

    depth: int
    contacts: int
    sure: int
    replacements: int = 0


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """What was done so that the records held here outlive their holders."""

    given: int
    put_again: int


class DhtFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of the DHT."""

    records: int | None = None
    own_records: int | None = None
    own_failed: int | None = None
    holdings: Holdings | None = None
    lookups: int | None = None
    queries: int | None = None
    bad_records: int | None = None
    equivocations: int | None = None
    network_size: float | None = None
    alarm: str | None = None
    buckets: tuple[Bucket, ...] = ()
    watchers: int | None = None
    watching: int | None = None


class TrafficLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one type of message brought in and sent out."""

    message: str
    side: str
    datagrams_in: int
    bytes_in: int
    datagrams_out: int
    bytes_out: int


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What our own asking may cost, and what it did in the last minute."""

    packets_per_s: float
    packets_per_s_used: float
    endpoints_per_min: float
    endpoints_per_min_used: float
    is_short: bool = False
    is_spent: bool = False
    waits: int = 0


class RpcFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of requests and replies."""

    requests_sent: int | None = None
    answered: int | None = None
    timed_out: int | None = None
    malformed: int | None = None
    limited: int | None = None
    traffic: tuple[TrafficLine, ...] = ()
    budget: Budget | None = None
    lent: Budget | None = None


class IntroducerDesk(msgspec.Struct, frozen=True, kw_only=True):
    """Of introductions passed on, and what they may cost."""

    offers_passed: int
    bytes_passed: int
    bytes_per_s: float


class Introductions(msgspec.Struct, frozen=True, kw_only=True):
    """What is done for the introductions of others."""

    registered: int
    passed: int
    desk: IntroducerDesk | None = None


class Reachability(msgspec.Struct, frozen=True, kw_only=True):
    """What others proved of the node's port."""

    is_proven: bool
    networks: int
    failures: int


class Nat(msgspec.Struct, frozen=True, kw_only=True):
    """What others' answers tell of the NAT in front of the node."""

    kind: str
    host: str | None = None
    port: int = 0
    step: int = 0
    reporters: int = 0


class Ipv6(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of IPv6."""

    is_carried: bool
    addresses: tuple[str, ...] = ()
    is_seen: bool = False


class PortMapping(msgspec.Struct, frozen=True, kw_only=True):
    """What became of asking the router for a port."""

    state: str
    method: str | None = None
    router: str | None = None
    external: str | None = None
    lifetime_s: float = 0.0
    reason: str = ""


class Introducer(msgspec.Struct, frozen=True, kw_only=True):
    """Who passes calls on to the node."""

    endpoint: str


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """How long a NAT, or a firewall, remembers whom it lets in, as was measured."""

    interval_s: float
    survived_s: float | None = None
    lost_s: float | None = None
    is_settled: bool = False


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Of the way back to the node."""

    binding: Binding | None = None


class RelayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a node passed on for others."""

    sessions: int
    complete: int
    bytes_relayed: int
    bytes_dropped: int = 0


class Gateways(msgspec.Struct, frozen=True, kw_only=True):
    """Whether UDP gets through, and what carries datagrams where it does not."""

    state: str
    held: tuple[str, ...] = ()
    known: int = 0
    blocked: int = 0
    last_failure: str = ""


class WebSocketFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway carries for clients without UDP."""

    clients: int
    served: int = 0
    refused: int = 0
    bytes: int = 0


class AttemptCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """One address of the node's own that was told to a peer."""

    kind: str
    endpoint: str


class AttemptCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One address of the peer, and what became of the checks there."""

    remote: str
    kind: str
    outcome: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One search for a direct path to a peer."""

    peer_id: str = ""
    age_s: float
    cause: str
    local: tuple[AttemptCandidate, ...] = ()
    checks: tuple[AttemptCheck, ...] = ()
    nominated: str | None = None
    is_over: bool = True


class RelaySessionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One session at a relay that is used."""

    relay: str
    state: str


class RelayUseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What others pass on for a node."""

    sessions: tuple[RelaySessionFigures, ...] = ()
    failures: tuple[tuple[str, int], ...] = ()
    last_failure: str = ""


class TurnServerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One TURN server that the user gave, and why it does not serve."""

    url: str
    is_in_use: bool = False
    reason: str | None = None


class TurnAllocation(msgspec.Struct, frozen=True, kw_only=True):
    """Where peers reach the node through a TURN server."""

    relayed: str


class TurnFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What TURN servers do for a node."""

    servers: tuple[TurnServerFigures, ...] = ()
    allocation: TurnAllocation | None = None


class NodeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of a whole node."""

    node_id: str | None = None
    role: str | None = None
    configured_role: str | None = None
    reachability: Reachability | None = None
    endpoint: str | None = None
    observed: tuple[str, ...] = ()
    behind_nat: bool | None = None
    nat: Nat | None = None
    ipv6: Ipv6 | None = None
    mapped: tuple[str, ...] = ()
    mapping: PortMapping | None = None
    peer_id: str | None = None
    introducers: tuple[Introducer, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    presence: Presence | None = None
    joined: bool | None = None
    contacts: int | None = None
    connections: int | None = None
    relay: RelayFigures | None = None
    relay_use: RelayUseFigures | None = None
    turn: TurnFigures | None = None
    gateways: Gateways | None = None
    websocket: WebSocketFigures | None = None
    dht: DhtFigures = DhtFigures()
    rpc: RpcFigures = RpcFigures()
    introductions: Introductions | None = None


def read_figures(plain: Mapping[str, object]) -> NodeFigures:
    """Read the plain statistics of a node.

    Raises:
        msgspec.ValidationError: a figure of another type, as in another version.
    """
    return msgspec.convert(plain, NodeFigures, strict=False)
