"""One ICE connection: aioice's checks on the hub, at our pace, with our randomness.

Owns what is overridden of `aioice` (transactions, pacing, consent, errors to strangers)
and the limits on what a peer can make us do; `docs/protocols/ice.md` gives the reasons.
Refuses to know other sessions and how STUN finds its way to this one.
"""

import base64
import enum
import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio
from aioice import Candidate as AioiceCandidate
from aioice import stun
from aioice.ice import CandidatePair, Connection, StunProtocol

from opnode.core.addresses import Candidate, Endpoint, IceHalf, is_carried
from opnode.drivers.asyncio_island import OneShot, island_sleep, start_island_task
from opnode.drivers.ice.candidates import COMPONENT, CandidateConfig
from opnode.drivers.socket_hub import SocketHub

_log = logging.getLogger(__name__)

_ROLE_CONFLICT = 487
# RFC 8445 §5.3 asks for 128 bits; 18 bytes are 144.
_PASSWORD_BYTES = 18
_TIE_BREAKER_BYTES = 8
_TRANSACTION_ID_BYTES = 12
_MAX_PORT = 65_535
_INSTANT_S = 1e-6
# Pairs that may work besides the nominated one; the first success ends the checks.
_ALTERNATIVES = (CandidatePair.State.SUCCEEDED, CandidatePair.State.IN_PROGRESS)

RandomBytes = Callable[[int], bytes]


class CheckOutcome(enum.Enum):
    """What became of the check of one pair."""

    NOT_TRIED = "not tried"
    UNDER_WAY = "no answer yet"
    ANSWERED = "answered"
    FAILED = "no answer"


@dataclass(frozen=True, slots=True)
class CheckView:
    """One of the peer's addresses, and whether a check there came back.

    ``kind`` is the candidate's; "prflx" was in no offer, its checks told it.
    """

    remote: Endpoint
    kind: str
    outcome: CheckOutcome


_OUTCOMES = {
    CandidatePair.State.FROZEN: CheckOutcome.NOT_TRIED,
    CandidatePair.State.WAITING: CheckOutcome.NOT_TRIED,
    CandidatePair.State.IN_PROGRESS: CheckOutcome.UNDER_WAY,
    CandidatePair.State.SUCCEEDED: CheckOutcome.ANSWERED,
    CandidatePair.State.FAILED: CheckOutcome.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IceConfig:
    """Limits and times of ICE."""

    # A session takes about 10 kB; a node with more connections than this is a service.
    max_sessions: int = 4096
    # What one introduction may carry; each is one address we send checks to.
    max_remote_candidates: int = 8
    # Beyond the offered ones, addresses that authenticated checks come from.
    max_learned_candidates: int = 8
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    # RFC 8445 §14.2 allows no less than 5 ms between the starts of checks.
    pacing_s: float = 0.005
    # Retransmission of checks: the caller's figure, kept within these. Below 50 ms a
    # busy host would repeat every check; half a second is the RFC's own.
    min_check_rto_s: float = 0.05
    max_check_rto_s: float = 0.5
    # Repeated this often, 7 to 8 s in all. RFC 8489 §6.2.1 sends seven times, doubling
    # the wait each time: where 30 % of the datagrams are lost each way, that fails one
    # check in a hundred. The wait doubles up to the longest above, and stays there.
    check_retransmissions: int = 15
    # RFC 7675 §5.1: consent ends 30 s after the last check that was answered.
    consent_interval_s: float = 5.0
    consent_lifetime_s: float = 30.0
    # Lost checks in a row after which the path is in doubt: one of them is nothing.
    consent_doubts: int = 2
    # A peer that answers "role conflict" again and again would keep us busy for ever.
    max_role_conflicts: int = 4


@dataclass(slots=True, kw_only=True)
class IceContext:
    """What all connections of a node share.

    Attributes:
        hub: where STUN goes to.
        config: limits and times.
        random_bytes: source of credentials and transaction ids.
        transactions: our requests that wait for their answers, by transaction id.
        unauthenticated: count of messages for us that were refused in silence: not
            signed, incomplete, or from more addresses than a peer may have.
    """

    hub: SocketHub
    config: IceConfig
    random_bytes: RandomBytes
    transactions: dict[bytes, "Transaction"] = field(default_factory=dict)
    unauthenticated: int = 0


class _Transport:
    """What aioice takes for its UDP socket: the hub. Duck-typed, as asyncio allows."""

    def __init__(self, hub: SocketHub, protocol: "_Protocol") -> None:
        self._hub = hub
        self._protocol = protocol
        self._is_closed = False

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        """Send; a full kernel buffer counts as loss, checks are repeated anyway."""
        if not self._is_closed:
            self._hub.send(data, Endpoint(address[0], address[1]))

    def close(self) -> None:
        """Tell the protocol that its socket is gone; the hub's stays."""
        if not self._is_closed:
            self._is_closed = True
            self._protocol.connection_lost(None)


class Transaction:
    """One STUN request of ours and its answer."""

    def __init__(self, request: stun.Message, key: bytes, context: IceContext) -> None:
        self.transaction_id = request.transaction_id
        self.answer: OneShot[tuple[stun.Message, Endpoint]] = OneShot()
        self._key = key
        self._context = context

    def receive_untrusted(self, message: stun.Message, source: Endpoint) -> None:
        """Take an answer if the peer signed it (RFC 8489 §9.1.4)."""
        if message.check_message_integrity(self._key):
            self.answer.set((message, source))
        else:
            self._context.unauthenticated += 1


class _Protocol(StunProtocol):
    """aioice's STUN end point, with our own transactions."""

    def __init__(self, connection: "IceConnection", context: IceContext) -> None:
        super().__init__(connection)
        self._context = context
        self.rto_s = context.config.max_check_rto_s
        # An answer to a consent check counts until the next check: a path that is full
        # of our own data answers late, not never.
        self.consent_wait_s = context.config.consent_interval_s

    async def request(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, tuple[str, int]]:
        """Send a request until it is answered (RFC 8489 §6.2.1, with our own times)."""
        assert integrity_key is not None, "ICE signs all its requests"
        request.add_message_integrity(integrity_key)
        config = self._context.config
        wait_s = self.rto_s if retransmissions is None else self.consent_wait_s
        if retransmissions is None:
            retransmissions = config.check_retransmissions
        transaction = Transaction(request, integrity_key, self._context)
        self._context.transactions[transaction.transaction_id] = transaction
        try:
            for repetition in range(retransmissions + 1):
                if not self._connection.may_send_to(addr):
                    raise stun.TransactionTimeout
                sent_at = trio.current_time()
                self.send_stun(request, addr)
                answer = await transaction.answer.wait(wait_s)
                if answer is not None:
                    if not repetition:
                        # RFC 6298 §3: later, nobody knows which copy is answered.
                        self._connection.measured(addr, trio.current_time() - sent_at)
                    break
                wait_s = min(2 * wait_s, config.max_check_rto_s)
            else:
                raise stun.TransactionTimeout
        finally:
            del self._context.transactions[transaction.transaction_id]
        if answer[0].message_class == stun.Class.ERROR:
            raise stun.TransactionFailed(answer[0])
        return answer

    @property
    def _connection(self) -> "IceConnection":
        connection = self.receiver
        assert isinstance(connection, IceConnection)
        return connection


class IceConnection(Connection):
    """aioice's checks, driven by us: on the hub, at our pace, with our randomness."""

    def __init__(
        self,
        context: IceContext,
        ufrag: str,
        candidates: tuple[Candidate, ...],
        *,
        controlling: bool,
    ) -> None:
        super().__init__(
            controlling,
            local_username=ufrag,
            local_password=ice_text(context.random_bytes(_PASSWORD_BYTES)),
        )
        self.finished = trio.Event()
        self.stirred = trio.Event()
        self.on_closed: Callable[[], None] | None = None
        self.on_doubt: Callable[[], None] | None = None
        self.has_heard_peer = False
        # Roles may be swapped; who trusts whom is not.
        self._is_caller = controlling
        # Addresses that authenticated checks came from, and those that had our one
        # check before. As many as a session has remote candidates.
        self._heard: set[tuple[str, int]] = set()
        self._tried: set[tuple[str, int]] = set()
        # Where else the peer may be: it answered a check, or one was under way.
        self.alternatives: tuple[Endpoint, ...] = ()
        # Of the nominated pair, in seconds; None where its check was repeated.
        self.round_trip_s: float | None = None
        # As many as addresses are checked.
        self._round_trips: dict[tuple[str, int], float] = {}
        self._context = context
        self._ended_checks: tuple[CheckView, ...] = ()
        self._role_conflicts = 0
        self._tie_breaker = int.from_bytes(context.random_bytes(_TIE_BREAKER_BYTES))
        self._order: dict[tuple[str, int], int] = {}
        # One of each IP version, by whether it is IPv6; aioice pairs like with like.
        self._by_version: dict[bool, _Protocol] = {}
        for candidate in candidates:
            is_v6 = ":" in candidate.endpoint.host
            if candidate.kind == "host" and is_v6 not in self._by_version:
                self._by_version[is_v6] = self._add_protocol(candidate)
        self._local_candidates = [to_aioice(candidate) for candidate in candidates]
        self._local_candidates_end = True

    @property
    def has_waiting_pairs(self) -> bool:
        """Whether there are pairs whose check has not begun."""
        waiting = (CandidatePair.State.WAITING, CandidatePair.State.FROZEN)
        return any(
            pair.state in waiting and pair.task is None for pair in self._check_list
        )

    @property
    def checks(self) -> tuple[CheckView, ...]:
        """Each pair as it stands now, or stood when the checks ended."""
        return self._ended_checks or tuple(map(_view, self._check_list))

    def begin(
        self, remote: IceHalf, usable: Sequence[Candidate], *, rto_s: float
    ) -> None:
        """Form the pairs and take the checks that came early (RFC 8445 §6.1.2).

        ``usable`` is in the order in which the checks are to begin. More may come by
        `add` until `end_candidates`; before it the checks do not fail.
        """
        if self._closing:
            self._finish()
            return
        self.remote_username = remote.ufrag
        self.remote_password = remote.password
        for one in self._by_version.values():
            one.rto_s = rto_s
        self._order = {
            (c.endpoint.host, c.endpoint.port): n for n, c in enumerate(usable)
        }
        for candidate in usable:
            self._add_remote_candidate(to_aioice(candidate), candidate.endpoint.host)
        self.sort_check_list()
        self._unfreeze_initial()
        early, self._early_checks_done = list(self._early_checks), True
        self._early_checks.clear()
        for message, source, protocol in early:
            self.check_incoming(message, source, protocol)

    def add(self, late: Sequence[Candidate]) -> None:
        """Check these addresses, too (RFC 8838 §11); they take their turn."""
        limit = self._context.config.max_remote_candidates
        limit += self._context.config.max_learned_candidates
        for candidate in late:
            if len(self._remote_candidates) < limit and not self._remote_candidates_end:
                host = candidate.endpoint.host
                self._add_remote_candidate(to_aioice(candidate), host)
        for pair in self._check_list:
            if pair.state is CandidatePair.State.FROZEN:
                self.check_state(pair, CandidatePair.State.WAITING)
        self.stirred.set()

    def end_candidates(self) -> None:
        """No more will come: from now on the checks may fail."""
        if self._remote_candidates_end or self._closing:
            return
        self._remote_candidates_end = True
        if not self._check_list:
            self._finish()
        self._check_list_maybe_fail()

    def trust(self) -> None:
        """The peer has shown otherwise that it is there: check like a caller."""
        self.has_heard_peer = True

    def start_next_check(self) -> None:
        """Start the check of the best pair that waits."""
        self._check_periodic()

    def conclude(self) -> Endpoint | None:
        """End the other checks; start consent when a pair was nominated."""
        states = [(pair, pair.state) for pair in self._check_list]
        self._ended_checks = tuple(map(_view, self._check_list))
        for pair in self._check_list:
            if pair.task is not None:
                pair.task.cancel()
        nominated = self._nominated.get(COMPONENT)
        if nominated is None or self._closing:
            return None
        self.alternatives = tuple(
            Endpoint(*pair.remote_addr)
            for wanted in _ALTERNATIVES
            for pair, state in states
            if state is wanted and pair.remote_addr != nominated.remote_addr
        )
        self.round_trip_s = self._round_trips.get(nominated.remote_addr)
        self._query_consent_task = start_island_task(self.query_consent())
        host, port = nominated.remote_addr
        return Endpoint(host, port)

    def receive_request_untrusted(
        self, message: stun.Message, source: Endpoint
    ) -> None:
        """Take a check for our fragment; aioice goes on to verify its signature."""
        config = self._context.config
        limit = config.max_remote_candidates + config.max_learned_candidates
        is_known = any(
            source == (candidate.host, candidate.port)
            for candidate in self._remote_candidates
        )
        if (
            "PRIORITY" not in message.attributes
            or not is_dialable(source)
            or (not is_known and len(self._remote_candidates) >= limit)
        ):
            self._context.unauthenticated += 1
            return
        protocols = self._by_version
        protocol = protocols.get(":" in source.host) or next(iter(protocols.values()))
        self.request_received(message, source, protocol)

    def _finish(self) -> None:
        self.finished.set()
        self.stirred.set()

    def _add_protocol(self, host: Candidate) -> _Protocol:
        protocol = _Protocol(self, self._context)
        protocol.transport = _Transport(self._context.hub, protocol)  # type: ignore[assignment] # duck-typed on purpose
        protocol.local_candidate = to_aioice(host)
        self._protocols.append(protocol)
        return protocol

    def may_send_to(self, addr: tuple[str, int]) -> bool:
        """Whether one more check may go there, which is then counted.

        Whoever makes an offer chooses the addresses, and anybody's may be among them:
        each gets one check, which opens our NAT for it. A second one goes only to where
        a check of the peer came from. Who called has chosen whom to believe.
        """
        if self._is_caller or addr in self._heard:
            return True
        is_first = addr not in self._tried
        self._tried.add(addr)
        return is_first

    def measured(self, addr: tuple[str, int], round_trip_s: float) -> None:
        """The answer to a request that went there once came after so long."""
        self._round_trips[addr] = round_trip_s

    # aioice calls the following ones; the names are its own.

    def sort_check_list(self) -> None:
        """By priority as aioice does, but first in the order that `begin` was given.

        Who was not in it has reached us: it is as good as the first.
        """
        super().sort_check_list()
        self._check_list.sort(key=lambda pair: self._order.get(pair.remote_addr, 0))

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        """As aioice does with a check that verified; the peer is there."""
        self.has_heard_peer = True
        self._heard.add(addr)
        super().check_incoming(message, addr, protocol)

    def build_request(self, pair: CandidatePair, nominate: bool) -> stun.Message:
        """As aioice does, with a transaction id from our randomness."""
        request = super().build_request(pair, nominate)
        request.transaction_id = self._context.random_bytes(_TRANSACTION_ID_BYTES)
        return request

    def respond_error(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        protocol: StunProtocol,
        error_code: tuple[int, str],
    ) -> None:
        """Only tell role conflicts: other errors are answers to strangers."""
        if error_code[0] == _ROLE_CONFLICT:
            super().respond_error(request, addr, protocol, error_code)
        else:
            self._context.unauthenticated += 1

    def switch_role(self, ice_controlling: bool) -> None:
        """Bounded: a peer that never settles on a role fails the session."""
        self._role_conflicts += 1
        if self._role_conflicts > self._context.config.max_role_conflicts:
            self._check_list_done = True
            self._finish()
            return
        super().switch_role(ice_controlling)

    def _check_list_maybe_complete(self) -> bool:
        complete = super()._check_list_maybe_complete()
        if self._check_list_done:
            self._finish()
        return complete

    def _check_list_maybe_fail(self) -> None:
        if not (self._is_caller or self.has_heard_peer):
            # Our answer may still be on its way to the peer: its checks make us try
            # again. Whoever answered an offer sets a deadline.
            return
        super()._check_list_maybe_fail()
        if self._check_list_done:
            self._finish()

    async def query_consent(self) -> None:
        """Ask for consent until none was given for 30 s (RFC 7675 §5.1)."""
        config = self._context.config
        assert self.remote_password is not None
        pair = self._nominated[COMPONENT]
        protocol = pair.protocol
        assert isinstance(protocol, _Protocol)
        doubts = 0
        expires_at = trio.current_time() + config.consent_lifetime_s
        # A time is reached a rounding error early sometimes, and then never passes.
        while (asked_at := trio.current_time()) < expires_at - _INSTANT_S:
            # RFC 7675 §5.1: between 0.8 and 1.2 of the interval, drawn each time.
            jitter = 0.8 + 0.4 * self._context.random_bytes(1)[0] / 255
            next_at = min(asked_at + config.consent_interval_s * jitter, expires_at)
            protocol.consent_wait_s = next_at - asked_at
            try:
                await protocol.request(
                    self.build_request(pair, nominate=False),
                    pair.remote_addr,
                    integrity_key=self.remote_password.encode(),
                    retransmissions=0,
                )
                doubts = 0
                expires_at = trio.current_time() + config.consent_lifetime_s
            except stun.TransactionError:
                doubts += 1
                if doubts == config.consent_doubts and self.on_doubt is not None:
                    self.on_doubt()
            await island_sleep(max(next_at - trio.current_time(), 0.0))
        _log.info("consent to send to %s expired", pair.remote_addr)
        self._query_consent_task = None
        await self.close()

    async def close(self) -> None:
        """As aioice does, then tell the session."""
        await super().close()
        self._finish()
        if self.on_closed is not None:
            on_closed, self.on_closed = self.on_closed, None
            on_closed()


def _view(pair: CandidatePair) -> CheckView:
    remote = Endpoint(*pair.remote_addr)
    return CheckView(remote, pair.remote_candidate.type, _OUTCOMES[pair.state])


def ice_text(data: bytes) -> str:
    """Bytes, a multiple of three, as ice-chars (RFC 8839 §5.4)."""
    return base64.b64encode(data).decode()


def to_aioice(candidate: Candidate) -> AioiceCandidate:
    """Our candidate as aioice has them."""
    related = candidate.related
    return AioiceCandidate(
        foundation=candidate.foundation,
        component=COMPONENT,
        transport="udp",
        priority=candidate.priority,
        host=candidate.endpoint.host,
        port=candidate.endpoint.port,
        type=candidate.kind,
        related_address=related.host if related else None,
        related_port=related.port if related else None,
    )


def is_dialable(endpoint: Endpoint) -> bool:
    """Never dial nobody, everybody, a name, or what other ways carry."""
    if is_carried(endpoint.host):
        return False
    try:
        address = ipaddress.ip_address(endpoint.host)
    except ValueError:
        return False
    if address.is_multicast or address.is_unspecified:
        return False
    if address == ipaddress.IPv4Address("255.255.255.255"):
        return False
    return 0 < endpoint.port <= _MAX_PORT
