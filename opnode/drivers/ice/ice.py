"""ICE on the node's one socket: finds the pair of addresses that carries packets.

Owns the sessions, their credentials and candidates, the way of each STUN datagram to
its session, and consent (RFC 7675). The checks themselves are `aioice`'s, on the
asyncio island; `docs/protocols/ice.md` says how it rides here and what is overridden.
Refuses to know how the other side's half got here and what will use the path.
"""

import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio
from aioice import stun

from opnode.core.addresses import Candidate, Endpoint, IceHalf, is_loopback, is_public
from opnode.core.crypto import random_bytes as system_random_bytes
from opnode.core.errors import IceFailed
from opnode.drivers.asyncio_island import Island
from opnode.drivers.ice.candidates import LocalCandidates
from opnode.drivers.ice.connection import (
    CheckView,
    IceConfig,
    IceConnection,
    IceContext,
    RandomBytes,
    Transaction,
    ice_text,
    is_dialable,
)
from opnode.drivers.network.network import Network
from opnode.drivers.socket_hub import SocketHub

_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_USERNAME = 0x0006
_CLASS_MASK = 0x0110
_RESPONSE, _ERROR = 0x0100, 0x0110
_BINDING_REQUEST = 0x0001

# RFC 8445 §5.3 asks for 24 bits; 48, because fragments must not collide on the one
# socket. The lengths are those that RFC 8839 §5.4 allows, with a lower end.
_UFRAG_BYTES = 6
_ICE_TEXT = re.compile(r"[A-Za-z0-9+/]+")
_UFRAG_LENGTHS = range(4, 33)
_PASSWORD_LENGTHS = range(22, 129)
_MAX_PRIORITY = 2**31 - 1
# Remembered of one peer, so that what it tells again is not taken for news.
_MAX_KNOWN = 32
# Relayed candidates are for `relayed_checks.py`: aggressive nomination would prefer
# a server that answers first.
_KINDS = frozenset({"host", "srflx"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IceStatistics:
    """What the agent has seen."""

    sessions: int
    transactions: int
    malformed: int
    unknown: int
    unauthenticated: int
    connected: int
    failed: int
    lost: int


class Answerer(Protocol):
    """Who answers the requests for one user name fragment."""

    @property
    def local_username(self) -> str:
        """The fragment."""
        ...

    def receive_request_untrusted(
        self, message: stun.Message, source: Endpoint
    ) -> None:
        """Take a request; its signature is not verified yet."""
        ...


class IceAgent:
    """All ICE sessions of a node, on its one socket.

    Attributes:
        candidates: what we may tell of ourselves; entered by whoever learns it.
        hold_s: how long the one check that a callee sends to each address waits.

    Args:
        hub: where STUN comes from and goes to; its `stun_handler` is taken.
        island: where aioice runs.
        network: tells the interface addresses when the socket is on a wildcard.
        config: limits and times.
        random_bytes: source of credentials and transaction ids.
    """

    def __init__(
        self,
        hub: SocketHub,
        island: Island,
        network: Network,
        *,
        config: IceConfig | None = None,
        random_bytes: RandomBytes = system_random_bytes,
    ) -> None:
        self.context = IceContext(
            hub=hub, config=config or IceConfig(), random_bytes=random_bytes
        )
        self.island = island
        self.candidates = LocalCandidates(
            hub.local, network, self.context.config.candidates
        )
        self.hold_s: Callable[[], float] = _at_once
        self._connections: dict[str, IceConnection] = {}
        self._answerers: dict[str, Answerer] = {}
        self._malformed = self._unknown = 0
        self._connected = self._failed = self._lost = 0
        hub.stun_handler = self._receive_untrusted

    def new_session(
        self,
        *,
        controlling: bool,
        predicted: Sequence[Endpoint] = (),
        near: Sequence[str] = (),
    ) -> "IceSession":
        """Start a session; it answers checks from now on, until it is closed.

        Args:
            controlling: whether we are the caller.
            predicted: where our NAT is expected to show us to this peer.
            near: the peer's addresses, where it has told them already.

        Raises:
            IceFailed: there are too many sessions.
        """
        if len(self._connections) >= self.context.config.max_sessions:
            raise IceFailed(f"{len(self._connections)} ICE sessions are open already")
        local = self.candidates.candidates(predicted, near)
        is_foretold = bool(predicted)
        return IceSession(self, local, controlling=controlling, is_foretold=is_foretold)

    def statistics(self) -> IceStatistics:
        """Read the counters."""
        return IceStatistics(
            sessions=len(self._connections),
            transactions=len(self.context.transactions),
            malformed=self._malformed,
            unknown=self._unknown,
            unauthenticated=self.context.unauthenticated,
            connected=self._connected,
            failed=self._failed,
            lost=self._lost,
        )

    def new_ufrag(self) -> str:
        """A user name fragment that no open session has."""
        while (
            ufrag := ice_text(self.context.random_bytes(_UFRAG_BYTES))
        ) in self._connections:
            pass
        return ufrag

    def enter(self, connection: IceConnection) -> None:
        """Route requests for this connection's fragment to it."""
        self._connections[connection.local_username] = connection

    def leave(self, connection: IceConnection) -> None:
        """Stop routing; nothing happens when it is unknown."""
        self._connections.pop(connection.local_username, None)

    def add_answerer(self, answerer: Answerer) -> None:
        """Route requests for a fragment that is no session's own."""
        self._answerers[answerer.local_username] = answerer

    def remove_answerer(self, answerer: Answerer) -> None:
        """Stop routing; nothing happens when it is unknown."""
        self._answerers.pop(answerer.local_username, None)

    def count_outcome(self, *, connected: bool) -> None:
        """Count the end of a `connect`."""
        if connected:
            self._connected += 1
        else:
            self._failed += 1

    def count_lost(self) -> None:
        """Count a consent that expired."""
        self._lost += 1

    def _receive_untrusted(self, data: bytes, source: Endpoint) -> None:
        """Take STUN from the hub: cheap look-ups first, full parse for ours only."""
        message_type, _, _, transaction_id = _HEADER.unpack_from(data)
        kind = message_type & _CLASS_MASK
        transaction: Transaction | None = None
        connection: Answerer | None = None
        if kind in (_RESPONSE, _ERROR):
            transaction = self.context.transactions.get(transaction_id)
        elif message_type == _BINDING_REQUEST:
            name = _username_untrusted(data).partition(b":")[0]
            ufrag = name.decode("ascii", "replace")
            connection = self._connections.get(ufrag) or self._answerers.get(ufrag)
        if transaction is None and connection is None:
            self._unknown += 1
            return
        message = _parse_untrusted(data)
        if message is None:
            self._malformed += 1
        elif transaction is not None:
            self.island.call(transaction.receive_untrusted, message, source)
        elif connection is not None:
            self.island.call(connection.receive_request_untrusted, message, source)


class IceSession:
    """One attempt to reach one peer, and the consent to go on sending afterwards.

    Attributes:
        local: our half, to be sent to the peer.
        lost: set when the peer no longer answers consent checks.
        doubtful: set when two consent checks in a row came back unanswered.
        is_foretold: our NAT opens the next port with each address we check, and the
            peer is told which ones.
    """

    def __init__(
        self,
        agent: IceAgent,
        candidates: tuple[Candidate, ...],
        *,
        controlling: bool,
        is_foretold: bool = False,
    ) -> None:
        self.lost = trio.Event()
        self.doubtful = trio.Event()
        self._agent = agent
        self._used = False
        self._closed = False
        self.is_foretold = is_foretold
        self._is_caller = controlling
        self._remote: IceHalf | None = None
        self._connection = agent.island.call(
            partial(
                IceConnection,
                agent.context,
                agent.new_ufrag(),
                candidates,
                controlling=controlling,
            )
        )
        self._connection.on_closed = self._on_connection_closed
        self._connection.on_doubt = self.doubtful.set
        agent.enter(self._connection)
        self.local = IceHalf(
            self._connection.local_username,
            self._connection.local_password,
            candidates,
        )

    async def connect(
        self, remote: IceHalf, check_rto_s: float, *, trickle_s: float = 0.0
    ) -> Endpoint:
        """Check pairs until one is nominated; once per session.

        Args:
            remote: the peer's half, as it came; unusable candidates are left out.
            check_rto_s: first retransmission of a check after this many seconds; the
                round trip of the introduction is a good figure.
            trickle_s: for so long more candidates may come by `add_remote`, so that
                all checks failing is no end.

        Returns:
            The peer's endpoint of the nominated pair.

        Raises:
            IceFailed: no pair carried a check, or the half is unusable.
        """
        assert not self._used, "a session connects once; make a new one"
        self._used = True
        agent, connection = self._agent, self._connection
        config = agent.context.config
        usable = self._usable(remote)
        rto_s = min(max(check_rto_s, config.min_check_rto_s), config.max_check_rto_s)
        agent.island.call(partial(connection.begin, remote, usable, rto_s=rto_s))
        self._remote = remote
        trickled_at = trio.current_time() + trickle_s
        with trio.move_on_after(self._hold_s(usable)):
            await connection.finished.wait()
        while not connection.finished.is_set():
            if trio.current_time() >= trickled_at:
                agent.island.call(connection.end_candidates)
            agent.island.call(connection.start_next_check)
            with trio.move_on_after(config.pacing_s):
                await connection.finished.wait()
            if not connection.has_waiting_pairs:
                await self._wait_stirred(trickled_at)
        found = agent.island.call(connection.conclude)
        agent.count_outcome(connected=found is not None)
        if found is None:
            peer = ", ".join(str(check.remote) for check in connection.checks)
            raise IceFailed(f"no check came back from {peer or 'any address'}")
        await trio.lowlevel.checkpoint()
        return found

    def add_remote(self, late: Sequence[Candidate]) -> None:
        """Check addresses that the peer tells only now; of no use after the checks."""
        remote = self._remote
        if remote is None or self._connection.finished.is_set():
            return
        known = {candidate.endpoint for candidate in remote.candidates}
        fresh = tuple(c for c in late if c.endpoint not in known)
        self._remote = IceHalf(
            remote.ufrag, remote.password, (*remote.candidates, *fresh)[:_MAX_KNOWN]
        )
        usable = self._usable(IceHalf(remote.ufrag, remote.password, fresh))
        self._agent.island.call(self._connection.add, usable)

    def trust(self) -> None:
        """The peer has proven that the offer was its own: check without restraint."""
        self._connection.trust()

    @property
    def checks(self) -> tuple[CheckView, ...]:
        """Which of the peer's addresses were checked, and what became of it."""
        return self._connection.checks

    @property
    def alternatives(self) -> tuple[Endpoint, ...]:
        """Where else the peer may be, best first: no check there has failed."""
        return self._connection.alternatives

    @property
    def round_trip_s(self) -> float | None:
        """Of the nominated pair, in seconds; None where its check was repeated.

        An answer does not tell to which copy, and a guess that is too long by seconds
        delays for as long whatever is lost first.
        """
        return self._connection.round_trip_s

    async def _wait_stirred(self, trickled_at: float) -> None:
        """Wait for the end of the checks, new addresses, or the end of those."""
        connection = self._connection
        deadline = trickled_at if trio.current_time() < trickled_at else math.inf
        with trio.move_on_at(deadline):
            await connection.stirred.wait()
        if not connection.finished.is_set():
            connection.stirred = trio.Event()

    def _usable(self, remote: IceHalf) -> list[Candidate]:
        limit = self._agent.context.config.max_remote_candidates
        return self._in_order(_usable_candidates_untrusted(remote, limit))

    def _hold_s(self, remote: Sequence[Candidate]) -> float:
        """How long to wait before the first check, which a callee cannot repeat.

        Behind a NAT with a random port for each address no check of the caller gets in:
        ours has to, and where the caller's NAT lets in only hosts that it sent
        something to, the caller has to have begun. In our network, or at a public
        address of its own, it needs no such thing.
        """
        own = self._agent.candidates
        if self._is_caller or any(
            own.is_on_link(c.endpoint.host)
            or (c.kind == "host" and is_public(c.endpoint.host))
            for c in remote
        ):
            return 0.0
        return self._agent.hold_s()

    def _in_order(self, remote: Sequence[Candidate]) -> list[Candidate]:
        """The peer's addresses that may be it, in the order in which to check them.

        First what is in a network of ours. Behind a NAT that gives each address its own
        port, then what is public: a check of the peer's private addresses takes a port
        as well, and we have told it which ones come next.
        """
        own = self._agent.candidates
        if not any(is_loopback(c.endpoint.host) for c in self.local.candidates):
            # A peer on another machine cannot mean ours by its loopback address.
            remote = [c for c in remote if not is_loopback(c.endpoint.host)]
        return sorted(
            (c for c in remote if not own.is_ours(c.endpoint)),
            key=lambda c: (
                not own.is_on_link(c.endpoint.host),
                self.is_foretold and not is_public(c.endpoint.host),
                -c.priority,
            ),
        )

    async def close(self) -> None:
        """Stop checks, consent and answers; idempotent."""
        self._closed = True
        self._agent.leave(self._connection)
        await self._agent.island.run(self._connection.close())

    def _on_connection_closed(self) -> None:
        """Called from the island, by us closing or by consent expiring."""
        self._agent.leave(self._connection)
        if not self._closed:
            self._agent.count_lost()
            self.doubtful.set()
            self.lost.set()


def _at_once() -> float:
    return 0.0


def _usable_candidates_untrusted(remote: IceHalf, limit: int) -> tuple[Candidate, ...]:
    """The candidates we may dial; the peer wrote them.

    Raises:
        IceFailed: the credentials cannot be used.
    """
    for what, text, lengths in (
        ("user name fragment", remote.ufrag, _UFRAG_LENGTHS),
        ("password", remote.password, _PASSWORD_LENGTHS),
    ):
        if len(text) not in lengths or not _ICE_TEXT.fullmatch(text):
            raise IceFailed(
                f"the peer's ICE {what} has {len(text)} characters, expected "
                f"{lengths[0]} to {lengths[-1]} of A-Z a-z 0-9 + /"
            )
    return tuple(
        candidate
        for candidate in remote.candidates[:limit]
        if candidate.kind in _KINDS
        and 0 < candidate.priority <= _MAX_PRIORITY
        and is_dialable(candidate.endpoint)
    )


def _username_untrusted(data: bytes) -> bytes:
    """The USERNAME of a STUN message, or nothing; looks at attribute heads only."""
    position = _HEADER.size
    while position + _ATTRIBUTE.size <= len(data):
        kind, length = _ATTRIBUTE.unpack_from(data, position)
        position += _ATTRIBUTE.size
        if kind == _USERNAME:
            return data[position : position + length]
        position += length + (-length % 4)
    return b""


def _parse_untrusted(data: bytes) -> stun.Message | None:
    """Aioice's parser, which is strict but raises much on junk."""
    try:
        return stun.parse_message(data)
    except (ValueError, LookupError, struct.error, OverflowError):
        return None
