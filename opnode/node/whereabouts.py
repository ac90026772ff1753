"""Where the world sees the node, and who of its parts has to know.

Owns telling them: offers, the proof of the port, the place in the DHT, the count of a
NAT's ports. Refuses to judge what others say of our address.
"""

from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import node_id_of
from opnode.node.assembly import Parts
from opnode.protocols.nat.mapping import MappingKind

HOLD_S: Final = 0.1
"""A round trip to an introducer that has not been measured."""

HOLD_SLACK_S: Final = 0.02
"""What introducer and caller take to pass an answer on, and to begin their checks."""

HOLD_MOST_S: Final = 0.5
"""Longer ways are rare, and callers behind full cones wait for nothing."""


class Whereabouts:
    """Takes what other nodes say of our address, once it is wired."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seen_at: Endpoint | None = None
        self._reflexive: tuple[Endpoint, ...] = ()

    def wire(self) -> None:
        """Hear of every answer, and be asked by whoever makes an offer."""
        parts, connector = self._parts, self._parts.connector
        parts.rpc.on_observed = self._on_observed
        parts.rpc.prover.may_be_ours = parts.observed.may_be_ours
        if connector is None:
            return
        connector.foresee = parts.forecast.foresee
        connector.ice.hold_s = self.hold_s
        parts.forecast.is_inside = connector.ice.candidates.is_on_link
        parts.hub.on_send = parts.forecast.sent
        parts.network_watch.subscribe(connector.ice.candidates.look_again)

    def hold_s(self) -> float:
        """How long an answer takes to its caller at most, if our checks are to wait.

        By way of the introducer it is farther to the caller than straight, by the way
        to the introducer and back at most.
        """
        parts = self._parts
        if parts.connector is None or not self._may_have_random_ports():
            return 0.0
        introducers = parts.connector.own_introducers()
        known = map(parts.rpc.round_trip_to, introducers)
        measured = [trip_s for trip_s in known if trip_s is not None]
        return min(max(measured, default=HOLD_S) + HOLD_SLACK_S, HOLD_MOST_S)

    def _may_have_random_ports(self) -> bool:
        """Behind a NAT that only one server has seen nobody can tell (ICE-12)."""
        observed = self._parts.observed
        is_unknown = observed.nat.kind is MappingKind.UNKNOWN and observed.behind_nat
        return is_unknown or observed.nat.kind is MappingKind.RANDOM

    def _on_observed(self, reporter: Endpoint, observed: Endpoint) -> None:
        parts = self._parts
        parts.observed.report(reporter, observed, trio.current_time())
        # As after nearly every reply: nothing of the following would change.
        if observed not in self._reflexive:
            self._adopt_addresses()
        if parts.hub.on_send is not None:
            parts.forecast.seen(reporter, observed)
            self._follow_ports()

    def _follow_ports(self) -> None:
        """Count who takes a port, while the NAT may give them in a row."""
        parts = self._parts
        kind = parts.observed.nat.kind
        is_open = bool(parts.observed.agreed) and not parts.observed.behind_nat
        if is_open or kind not in (MappingKind.SEQUENTIAL, MappingKind.UNKNOWN):
            parts.hub.on_send = None
        elif parts.hub.on_send is None:
            parts.forecast.forget()
            parts.hub.on_send = parts.forecast.sent

    def _adopt_addresses(self) -> None:
        """Have every part use the addresses that others see us at now."""
        parts = self._parts
        known, self._reflexive = self._reflexive, parts.observed.reflexive
        if parts.connector is not None:
            offered = parts.connector.ice.candidates
            for endpoint in known:
                if endpoint not in self._reflexive:
                    offered.forget_observed(endpoint)
            for endpoint in self._reflexive:
                offered.add_observed(endpoint)
            self._follow_ports()
        seen_at = self._reflexive[0] if self._reflexive else None
        is_dependent = parts.observed.nat.kind.is_dependent
        if seen_at is not None and is_dependent:
            # Of what each node sees, only the host is an address of ours.
            seen_at = seen_at._replace(port=parts.hub.local.port)
        if seen_at is None or seen_at == self._seen_at:
            return
        if self._seen_at is not None and not (
            is_dependent and seen_at.host == self._seen_at.host
        ):
            parts.network_watch.seen_elsewhere()
        self._seen_at = seen_at
        parts.roles.moved(seen_at)
        # The id is bound to a public address, which only others can tell (BEP 42).
        parts.dht.adopt_node_id(node_id_of(parts.keys.node.public, seen_at.host))
