"""The asking half of the Rpc: our requests, their timers and the replies to them.

Owns when a request is sent again, has failed or is answered. Refuses to know what is
asked and what others ask of us.
"""

import math
from typing import Final

import trio

from opnode.core.addresses import Endpoint, is_carried
from opnode.core.errors import RefusalCode, RequestRefused, RequestTimeout
from opnode.core.ids import Contact
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.detour import Detour, unwrap_untrusted, wrap
from opnode.drivers.rpc.exchange import Answer, Exchange
from opnode.drivers.rpc.station import Station
from opnode.protocols.rpc.budget import Budget
from opnode.protocols.rpc.datagrams import (
    ReplyDatagram,
    decode_reply_untrusted,
    encode_request,
    largest_reply,
)
from opnode.protocols.rpc.messages import (
    TOKEN_LENGTH,
    Changed,
    Delegate,
    Dial,
    DialBack,
    Dialled,
    Failure,
    FailureCode,
    Forward,
    Introduce,
    Offer,
    Ping,
    Register,
    RelayEnded,
)
from opnode.protocols.rpc.silence import Silence
from opnode.protocols.rpc.surroundings import Surroundings
from opnode.protocols.rpc.transactions import Pending, Transactions

# The answer comes from a node or a person behind the one that is asked.
_RELAYED: Final = frozenset({Introduce, Offer, Delegate, Forward})
# What they make the asked node send is paid for, token or not.
_PADDED: Final = frozenset({Ping, DialBack, Dial})
# Whoever gets these asked for them, as for a reply: a crowd of such takes no place in
# our memory of nodes, is no witness of our address and no cost of our own asking.
_INVITED: Final = frozenset({Changed})
# Somebody else chose to whom these go: whoever answers wins no place in our table by
# that, or a stranger could name all those who are to have one.
_SENT_FOR_OTHERS: Final = frozenset({Changed, Dialled, Offer, RelayEnded})
# What a question for another shows where we hold no token: it is refused with a fresh
# one (rpc §3.3) and asked again, so nothing large goes to where only somebody named.
# DIAL_BACK does as well: it is refused without one, however large it is.
_NO_TOKEN_YET: Final = bytes(TOKEN_LENGTH)
# There is nobody else to ask.
_PATIENT: Final = frozenset({Introduce, Offer, Register})


class Asker:
    """Our requests under way.

    Attributes:
        budget: what they cost the router in front of us.
        lent: the same for what others have us ask, so that it ends no work of ours.
        surroundings: where those are that answer.
        detour: who asks others for us while no UDP gets through.
        silence: whether anybody answers by UDP.
    """

    def __init__(self, station: Station, secret: bytes, config: RpcConfig) -> None:
        """``secret``: 32 bytes that nobody else knows, for transaction ids."""
        self.budget = Budget(config.budget)
        self.lent = Budget(config.budget)
        self.surroundings = Surroundings(config.surroundings)
        self.detour = Detour()
        self.silence = Silence()
        self._station = station
        self._transactions: Transactions[Exchange] = Transactions(
            secret, config.transactions
        )
        self._timer: trio.CancelScope | None = None
        self._wakes_at = math.inf

    def __len__(self) -> int:
        return len(self._transactions)

    async def run(self) -> None:
        """Retransmit and give up in time, until cancelled."""
        while True:
            due_at = self._transactions.next_deadline()
            self._wakes_at = math.inf if due_at is None else due_at
            with trio.CancelScope(deadline=self._wakes_at) as self._timer:
                await trio.sleep_forever()
            due_at = self._transactions.next_deadline()
            if due_at is None or due_at > trio.current_time():
                # Answered meanwhile, as nearly all are.
                continue
            # A busy machine is no dead node: first hear who answered meanwhile.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            self.handle_deadline(trio.current_time())

    def start(self, destination: Endpoint, exchange: Exchange) -> None:
        """See `Rpc.start`."""
        self._send(destination, exchange)

    def cancel(self, exchange: Exchange) -> None:
        """See `Rpc.cancel`."""
        if exchange.pending is not None:
            self._transactions.forget(exchange.pending)
            exchange.pending = None

    def token_for(self, endpoint: Endpoint) -> bytes:
        """See `Rpc.token_for`."""
        return self._transactions.token_for(endpoint, trio.current_time(), is_sure=True)

    def forget_peer(self, endpoint: Endpoint) -> None:
        """See `Rpc.forget_peer`."""
        self._transactions.forget_peer(endpoint)

    def round_trip_to(self, endpoint: Endpoint) -> float | None:
        """See `Rpc.round_trip_to`."""
        return self._transactions.round_trip_to(endpoint)

    def last_heard(self, endpoint: Endpoint) -> float | None:
        """See `Rpc.last_heard`."""
        return self._transactions.last_heard(endpoint)

    def observed_by(self, endpoint: Endpoint) -> Endpoint | None:
        """Our address as that node last saw it."""
        return self._transactions.observed_by(endpoint)

    def handle_deadline(self, now: float) -> None:
        """Send again, tell listeners who is slow, give up."""
        overdue = self._transactions.handle_deadline(now)
        for pending in overdue.resend:
            self._station.counts["retransmitted"] += 1
            self._emit(pending, now)
        for pending in overdue.turned_slow:
            if self.detour.gateways and pending.destination in self.detour.gateways:
                self.detour.on_slow(pending.destination)
            if pending.context.pending is pending:
                pending.context.listener.slow()
        for pending in overdue.given_up:
            if pending.context.pending is pending:
                self._give_up(pending)

    def take_reply_untrusted(self, data: bytes, source: Endpoint) -> None:
        """Match a reply to its request and tell the listener.

        Raises:
            RemoteProtocolError: it does not parse, or is another network's.
        """
        station = self._station
        reply = decode_reply_untrusted(data, station.sender.network)
        now = trio.current_time()
        pending = self._transactions.accept_untrusted(reply.transaction_id, source, now)
        if self._wakes_at != math.inf and not self._transactions:
            # A wake-up for nothing costs ten times as much, and an idle machine sleep.
            self._rest()
        if pending is None or pending.context.pending is not pending:
            station.counts["unexpected"] += 1
            station.traffic.other.datagrams_in += 1
            station.traffic.other.bytes_in += len(data)
            return
        exchange = pending.context
        if station.hub.carrier_of(source) is None:
            self.silence.heard(now)
        tally = station.traffic.asked[type(exchange.body)]
        tally.datagrams_in += 1
        tally.bytes_in += len(data)
        exchange.pending = None
        body = reply.body
        if type(body) is Failure and body.code == FailureCode.OTHER_NETWORK:
            # No node of ours, so no contact of ours either.
            exchange.listener.failed(_refusal(body))
            return
        observed = reply.observed
        asked = exchange.body
        is_invited = type(asked) in _INVITED
        if not is_invited:
            self._transactions.heard(source, reply.token, observed, now)
            self.surroundings.heard(station.hub.shown(source).host, now)
        rtt_s = now - pending.sent_at
        if exchange.forwarded_to is not None:
            self._take_forwarded(exchange, reply, source, rtt_s)
            return
        contact = Contact(reply.sender, source)
        answer = Answer(body, contact, rtt_s, observed, reply.leaf, reply.services)
        # Whoever was asked for a proof is believed after it was found good, not before.
        is_proof = type(asked) is Ping and asked.prove
        is_for_another = type(asked) in _SENT_FOR_OTHERS or exchange.is_for_another
        if not (is_proof or is_for_another):
            self._report(answer, source)
        self._settle(exchange, answer, source)

    def _rest(self) -> None:
        """Nothing is under way: no timer is needed until something is."""
        self._wakes_at = math.inf
        if self._timer is not None:
            self._timer.deadline = math.inf

    def _settle(self, exchange: Exchange, answer: Answer, source: Endpoint) -> None:
        body = answer.body
        if type(body) is not Failure:
            self._station.counts["answered"] += 1
            exchange.listener.answered(answer)
        else:
            self._take_failure(exchange, body, source)

    def _take_forwarded(
        self, exchange: Exchange, reply: ReplyDatagram, source: Endpoint, rtt_s: float
    ) -> None:
        """Hear what a gateway brings of whoever we had it ask."""
        asked = exchange.forwarded_to
        assert asked is not None
        answer = unwrap_untrusted(reply, asked, rtt_s)
        if type(answer) is Answer:
            station = self._station
            if station.on_answered is not None and not exchange.is_for_another:
                station.on_answered(answer)
            self._settle(exchange, answer, asked)
            return
        assert type(answer) is Failure
        if answer.code == FailureCode.TOKEN_NEEDED:
            self._take_failure(exchange, answer, source)
            return
        if answer.code == RefusalCode.UNKNOWN_TARGET:
            self._fail_at(asked, exchange)
        detail = f"{asked} was not reached by the gateway: {answer.detail}"
        exchange.listener.failed(RequestTimeout(detail))

    def _report(self, answer: Answer, source: Endpoint) -> None:
        """Tell who answered, and where it sees us, unless a carrier brought that.

        Who answers by a carrier sees the carrier's address, which is not ours; and a
        name of this node for a carrier's other end is no contact.
        """
        station = self._station
        if station.on_answered is not None and not is_carried(source.host):
            station.on_answered(answer)
            if answer.services and not answer.leaf and station.on_offered is not None:
                station.on_offered(answer.contact, answer.services)
        if station.on_observed is not None and station.hub.carrier_of(source) is None:
            station.on_observed(source, answer.observed)

    def _take_failure(
        self, exchange: Exchange, failure: Failure, source: Endpoint
    ) -> None:
        if failure.code == FailureCode.TOKEN_NEEDED and not exchange.is_retried:
            # The refusal brought a fresh token; ask once more with it.
            exchange.is_retried = True
            # Somebody is there who speaks our language: no victim of a lie.
            exchange.is_single = False
            self._send(exchange.forwarded_to or source, exchange)
            return
        self._station.counts["refused"] += 1
        exchange.listener.failed(_refusal(failure))

    def _send(self, destination: Endpoint, exchange: Exchange) -> None:
        body = exchange.body
        via = None
        if self.detour.gateways and not exchange.is_by_socket:
            via = self.detour.of(destination, body)
        exchange.forwarded_to = None
        if via is not None:
            exchange.forwarded_to = destination
            body, destination = wrap(destination, body), via
        kind = type(body)
        now = trio.current_time()
        transactions = self._transactions
        pending = transactions.open(destination, exchange)
        exchange.pending = pending
        is_ping = kind is Ping
        token = transactions.token_for(destination, now, is_sure=not is_ping)
        is_first = not token and (exchange.is_for_another or kind is DialBack)
        if is_first:
            token = _NO_TOKEN_YET
        # A PING may show an old token, so it has room for its answer anyway.
        # An unpadded PING would be too short for its answer: nobody would hear it.
        is_short = not is_ping if is_first else token and kind not in _PADDED
        size = 0 if is_short else largest_reply(body, destination)
        pending.datagram = encode_request(
            self._station.sender, pending.transaction_id, token, body, size
        )
        due_at = transactions.sent(
            pending,
            is_patient=exchange.is_patient or kind in _PATIENT,
            is_relayed=kind in _RELAYED,
            is_single=exchange.is_single,
            now=now,
        )
        if kind in _SENT_FOR_OTHERS:
            pending.is_measured = False
        self._station.counts["requests_sent"] += 1
        # The timer is only ever brought forward: waking once for nothing costs less
        # than moving it for each of the 50 requests of a lookup (3 µs each).
        if due_at < self._wakes_at and self._timer is not None:
            self._wakes_at = self._timer.deadline = due_at
        self._emit(pending, now)

    def _emit(self, pending: Pending[Exchange], now: float) -> None:
        datagram, destination = pending.datagram, pending.destination
        tally = self._station.traffic.asked[type(pending.context.body)]
        tally.datagrams_out += 1
        tally.bytes_out += len(datagram)
        kind = type(pending.context.body)
        if kind not in _INVITED:
            is_lent = pending.context.is_for_another or kind in _SENT_FOR_OTHERS
            (self.lent if is_lent else self.budget).spend(destination, now)
        if destination in self._station.written_at:
            self._station.written_at[destination] = now
        # A full kernel buffer is a loss like any other: the timer repairs it.
        hub = self._station.hub
        send = hub.send_by_socket if pending.context.is_by_socket else hub.send
        send(datagram, destination)

    def _give_up(self, pending: Pending[Exchange]) -> None:
        self._station.counts["timed_out"] += 1
        exchange = pending.context
        exchange.pending = None
        kind = type(exchange.body)
        # Silence about a relayed request says little about the node that relays.
        is_told = not (exchange.is_by_socket or exchange.forwarded_to)
        if is_told and kind not in _RELAYED:
            self._fail_at(pending.destination, exchange)
        exchange.listener.failed(
            RequestTimeout(f"{pending.destination} does not answer {kind.__name__}")
        )

    def _fail_at(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """Nobody answers there, unless it is our own UDP that does not get there."""
        is_by_udp = self._station.hub.carrier_of(endpoint) is None
        if is_by_udp and exchange.forwarded_to is None:
            self.silence.failed(trio.current_time())
            if self.detour.gateways:
                return
        if self._station.on_failure is not None:
            self._station.on_failure(endpoint)


def _refusal(failure: Failure) -> RequestRefused:
    return RequestRefused(failure.code, failure.detail, failure.alternates)
