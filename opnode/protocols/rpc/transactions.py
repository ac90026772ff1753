"""Requests under way and what is known of the nodes they went to.

Owns transaction ids, round-trip estimates (RFC 6298), retransmission and giving up,
and the tokens that others gave us. Refuses to know sockets and what is asked.
"""

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from opnode.core.addresses import Endpoint
from opnode.core.crypto import keyed_digest
from opnode.core.errors import RequestTimeout

Context = TypeVar("Context")

# Gains of RFC 6298 §2: alpha = 1/8, beta = 1/4, K = 4.
_ALPHA = 0.125
_BETA = 0.25
_K = 4.0
_ID_SIZE = 8
# One digest makes eight ids: 0.3 instead of 1.5 µs for each.
_IDS_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionConfig:
    """Limits and timers of requests.

    Attributes:
        initial_timeout_s: before anything was measured; covers two thirds of a second
            across the globe with the one retransmission.
        floor_s: below it a busy scheduler looks like loss.
        cap_s: a node that needs longer is no use to a lookup.
        patience_s: a request is not given up earlier than this, so that one pause of
            a loaded machine does not make a live node look dead.
        relayed_patience_s: the same where the answer comes from a second node behind:
            longer than the four seconds after which the first one gives up on it.
        retransmissions: a lookup has other nodes to ask.
        patient_retransmissions: a registration, or a lookup of a node that knows few
            others, has only this way.
        relayed_retransmissions: an introduction crosses two lossy paths twice; at 5 %
            loss on each, three repetitions fail once in 10^4. As many as fit into the
            five seconds of its patience.
        steady_s: a request that may be repeated several times has no other way, so it
            is repeated at this pace, or at the round trip's if that is slower: eight
            tries in the four seconds that a target has; doubling would leave three.
        warm_up: round trips seen before the distribution replaces the initial timeout.
        max_pending: requests under way; 1 kB each.
        peers: nodes whose round trip and token are remembered, least recent dropped.
        token_use_s: tokens are valid for 5 min at least (BEP 5).
        token_try_s: ... and for 10 min at most; worth a try where a refusal is cheap.
    """

    initial_timeout_s: float = 0.5
    floor_s: float = 0.02
    cap_s: float = 2.0
    patience_s: float = 0.5
    relayed_patience_s: float = 5.0
    retransmissions: int = 1
    patient_retransmissions: int = 3
    relayed_retransmissions: int = 9
    steady_s: float = 0.5
    warm_up: int = 8
    max_pending: int = 2048
    peers: int = 4096
    token_use_s: float = 290.0
    token_try_s: float = 590.0


class RoundTrip:
    """Smoothed round-trip time and its variation (RFC 6298 §2)."""

    __slots__ = ("count", "smoothed_s", "variation_s")

    def __init__(self) -> None:
        self.count = 0
        self.smoothed_s = 0.0
        self.variation_s = 0.0

    def add(self, sample_s: float) -> None:
        """Take one measurement."""
        self.count += 1
        if self.count == 1:
            self.smoothed_s, self.variation_s = sample_s, sample_s / 2
            return
        deviation = abs(self.smoothed_s - sample_s)
        self.variation_s += _BETA * (deviation - self.variation_s)
        self.smoothed_s += _ALPHA * (sample_s - self.smoothed_s)

    def timeout_s(self) -> float:
        """How long to wait; still to be bounded."""
        return self.smoothed_s + _K * self.variation_s


class Peer:
    """What is remembered of one address that answered."""

    __slots__ = ("observed", "round_trip", "token", "token_at")

    def __init__(self) -> None:
        self.round_trip = RoundTrip()
        self.token = b""
        self.token_at = -math.inf
        self.observed: Endpoint | None = None


class Pending(Generic[Context]):
    """One request under way."""

    __slots__ = (
        "context",
        "datagram",
        "destination",
        "due_at",
        "is_measured",
        "is_slow",
        "is_steady",
        "patience_s",
        "retransmissions",
        "sent_at",
        "timeout_s",
        "transaction_id",
    )

    def __init__(
        self, transaction_id: bytes, destination: Endpoint, context: Context
    ) -> None:
        self.transaction_id = transaction_id
        self.destination = destination
        self.context = context
        self.datagram = b""
        self.sent_at = self.due_at = self.timeout_s = self.patience_s = 0.0
        self.retransmissions = 0
        # Whether its answer measures the path; not once it was sent twice (Karn).
        self.is_measured = True
        self.is_slow = False
        # Whether it is repeated at a steady pace instead of a doubling one.
        self.is_steady = False


class Overdue(NamedTuple, Generic[Context]):
    """What became of requests whose time was up."""

    resend: list[Pending[Context]]
    turned_slow: list[Pending[Context]]
    given_up: list[Pending[Context]]


class Transactions(Generic[Context]):
    """The requests of one node."""

    def __init__(self, key: bytes, config: TransactionConfig) -> None:
        """``key``: 32 secret bytes, from which transaction ids are derived."""
        self._key = key
        self._config = config
        self._pending: dict[bytes, Pending[Context]] = {}
        self._due: list[tuple[float, int, Pending[Context]]] = []
        self._count = 0
        self._ids: list[bytes] = []
        self._everyone = RoundTrip()
        self._observed: Endpoint | None = None
        self._peers: OrderedDict[Endpoint, Peer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def open(self, destination: Endpoint, context: Context) -> Pending[Context]:
        """A new request with its own unguessable transaction id.

        Raises:
            RequestTimeout: too many are under way already.
        """
        if len(self._pending) >= self._config.max_pending:
            raise RequestTimeout(
                f"{len(self._pending)} requests are under way, that is the limit"
            )
        if not self._ids:
            self._draw_ids()
        transaction_id = self._ids.pop()
        pending = Pending(transaction_id, destination, context)
        self._pending[transaction_id] = pending
        return pending

    def sent(
        self,
        pending: Pending[Context],
        *,
        is_patient: bool,
        is_relayed: bool,
        now: float,
        is_single: bool = False,
    ) -> float:
        """Start the timer of a request just sent; returns when it is due.

        Args:
            pending: from ``open``.
            is_patient: there is nobody else to ask, so it is repeated more often.
            is_relayed: the answer comes from a second node behind the first, so one
                more unknown round trip is granted and nothing is measured.
            now: seconds.
            is_single: never repeated, and waited for as long as for a relayed one.
        """
        config = self._config
        timeout_s = self.timeout_for(pending.destination)
        pending.patience_s = config.patience_s
        pending.retransmissions = config.retransmissions
        if is_patient:
            pending.retransmissions = config.patient_retransmissions
        if is_relayed:
            pending.patience_s = config.relayed_patience_s
            pending.retransmissions = config.relayed_retransmissions
            relayed_s = timeout_s + self._first_timeout_s()
            timeout_s = min(relayed_s, max(timeout_s, config.steady_s))
            pending.is_measured = False
        if is_single:
            pending.patience_s = config.relayed_patience_s
            pending.retransmissions = 0
        pending.sent_at = now
        pending.timeout_s = timeout_s
        pending.is_steady = is_patient or is_relayed
        return self._schedule(pending, now + timeout_s)

    def accept_untrusted(
        self, transaction_id: bytes, source: Endpoint, now: float
    ) -> Pending[Context] | None:
        """Match a reply to its request; None when nobody there was asked this."""
        pending = self._pending.get(transaction_id)
        if pending is None or pending.destination != source:
            return None
        del self._pending[transaction_id]
        if not self._pending:
            # All entries are of answered requests, and hold their datagrams.
            self._due.clear()
        if pending.is_measured:
            sample_s = now - pending.sent_at
            self._everyone.add(sample_s)
            self._peer(source).round_trip.add(sample_s)
        return pending

    def forget(self, pending: Pending[Context]) -> None:
        """Drop a request that nobody waits for; its reply will be unexpected."""
        self._pending.pop(pending.transaction_id, None)

    def next_deadline(self) -> float | None:
        """When ``handle_deadline`` has something to do, or None."""
        due = self._due
        while due and not self._is_current(due[0]):
            heapq.heappop(due)
        return due[0][0] if due else None

    def handle_deadline(self, now: float) -> Overdue[Context]:
        """Retransmit with doubled timeouts, then give up (RFC 6298 §5).

        Where a request has no other way, the pace is steady instead: at most ten
        datagrams in five seconds congest nothing.
        """
        overdue: Overdue[Context] = Overdue([], [], [])
        while (due_at := self.next_deadline()) is not None and due_at <= now:
            pending = heapq.heappop(self._due)[2]
            if not pending.is_slow:
                pending.is_slow = True
                overdue.turned_slow.append(pending)
            if pending.retransmissions > 0:
                pending.retransmissions -= 1
                pending.is_measured = False
                pending.timeout_s = self._next_timeout_s(pending)
                overdue.resend.append(pending)
                self._schedule(pending, now + pending.timeout_s)
            elif now < pending.sent_at + pending.patience_s:
                self._schedule(pending, pending.sent_at + pending.patience_s)
            else:
                del self._pending[pending.transaction_id]
                overdue.given_up.append(pending)
        return overdue

    def timeout_for(self, destination: Endpoint) -> float:
        """Seconds until a request to this address counts as slow."""
        peer = self._peers.get(destination)
        if peer is None or not peer.round_trip.count:
            return self._first_timeout_s()
        measured = peer.round_trip
        timeout_s = measured.smoothed_s + _K * measured.variation_s
        # Written out, as nearly every request passes here.
        if timeout_s < self._config.floor_s:
            return self._config.floor_s
        return timeout_s if timeout_s < self._config.cap_s else self._config.cap_s

    def heard(
        self, source: Endpoint, token: bytes, observed: Endpoint, now: float
    ) -> None:
        """Remember the token and the address that an accepted reply told us."""
        peer = self._peer(source)
        if observed != self._observed:
            self._observed = observed
        # Nearly all see the same address: one value for all of them.
        peer.observed = self._observed
        if token:
            peer.token, peer.token_at = token, now

    def token_for(self, destination: Endpoint, now: float, *, is_sure: bool) -> bytes:
        """The token to show there, or nothing.

        Args:
            destination: whom we ask.
            now: seconds.
            is_sure: only a token that must still be valid; else one that may be.
        """
        peer = self._peers.get(destination)
        if peer is None:
            return b""
        limit = self._config.token_use_s if is_sure else self._config.token_try_s
        return peer.token if now - peer.token_at < limit else b""

    def forget_peer(self, endpoint: Endpoint) -> None:
        """Forget the token and all else of an address; nothing if it is unknown."""
        self._peers.pop(endpoint, None)

    def round_trip_to(self, endpoint: Endpoint) -> float | None:
        """Seconds to this address and back, smoothed; None if nothing was measured."""
        peer = self._peers.get(endpoint)
        if peer is None or not peer.round_trip.count:
            return None
        return peer.round_trip.smoothed_s

    def last_heard(self, endpoint: Endpoint) -> float | None:
        """When this address last answered us; None if it never did, or long ago."""
        peer = self._peers.get(endpoint)
        return peer.token_at if peer is not None else None

    def observed_by(self, endpoint: Endpoint) -> Endpoint | None:
        """Our address as that node last saw it."""
        peer = self._peers.get(endpoint)
        return peer.observed if peer is not None else None

    def _draw_ids(self) -> None:
        self._count += 1
        drawn = keyed_digest(self._key, self._count.to_bytes(8, "big"), size=_IDS_SIZE)
        starts = range(0, _IDS_SIZE, _ID_SIZE)
        self._ids = [drawn[at : at + _ID_SIZE] for at in starts]

    def _peer(self, endpoint: Endpoint) -> Peer:
        peer = self._peers.get(endpoint)
        if peer is None:
            if len(self._peers) >= self._config.peers:
                self._peers.popitem(last=False)
            peer = self._peers[endpoint] = Peer()
        else:
            self._peers.move_to_end(endpoint)
        return peer

    def _next_timeout_s(self, pending: Pending[Context]) -> float:
        doubled_s = 2 * pending.timeout_s
        if not pending.is_steady:
            return doubled_s
        return min(doubled_s, max(pending.timeout_s, self._config.steady_s))

    def _first_timeout_s(self) -> float:
        if self._everyone.count < self._config.warm_up:
            return self._config.initial_timeout_s
        return self._bounded(self._everyone.timeout_s())

    def _bounded(self, timeout_s: float) -> float:
        return min(self._config.cap_s, max(self._config.floor_s, timeout_s))

    def _schedule(self, pending: Pending[Context], due_at: float) -> float:
        pending.due_at = due_at
        due = self._due
        if len(due) > 2 * len(self._pending) + 64:
            # Answered requests leave their entry behind; this bounds them.
            self._due = due = [entry for entry in due if self._is_current(entry)]
            heapq.heapify(due)
        self._count += 1
        heapq.heappush(due, (due_at, self._count, pending))
        return due_at

    def _is_current(self, entry: tuple[float, int, Pending[Context]]) -> bool:
        due_at, _, pending = entry
        held = self._pending.get(pending.transaction_id)
        return held is pending and pending.due_at == due_at
