"""Checks of paths that go through a TURN server: is the peer at their other end?

Owns one STUN exchange a path, signed with the ICE credentials of the two, and answers
to the peer's. Refuses to know which paths there are and what uses them.

ICE itself does not know these paths. It nominates the first pair that answers, which
may be one through a server that is near although the peer is nearer, and its consent
checks would go through somebody's server for as long as a call lasts. So a path is only
proven here, once: then the connection keeps it by its own challenges, as all others.
"""

from collections.abc import Callable
from typing import Final

import trio
from aioice import stun

from opnode.core.addresses import Endpoint, IceHalf
from opnode.core.errors import IceFailed
from opnode.drivers.asyncio_island import Island
from opnode.drivers.ice.connection import IceContext, Transaction

_SUFFIX: Final = "+turn"
"""Tells these checks from those of ICE; ice-chars (RFC 8839 §5.4)."""

_MAX_CHECKS: Final = 10
_UNHEARD_CHECKS: Final = 1
_MAX_WAIT_S: Final = 1.0
"""Ten requests take 8 s, as long as ICE's. Who answered an offer sends one (ICE-11): it
opens our NAT for what it hopes to hear, and hits whoever was named only once."""

_TRANSACTION_ID_BYTES: Final = 12


class RelayedChecks:
    """Both directions of the checks between two ends who know each other's half.

    Attributes:
        local_username: the fragment by which requests find their way here.
    """

    def __init__(
        self,
        island: Island,
        context: IceContext,
        *,
        local: IceHalf,
        remote: IceHalf,
        is_initiator: bool,
        on_heard: Callable[[Endpoint], None],
    ) -> None:
        """Begin to know the two halves.

        Args:
            island: where aioice's parts run.
            context: what the node's ICE sessions share.
            local: our half.
            remote: the peer's half.
            is_initiator: whether we made the offer; who answered one is told by its
                author whom to send to, and insists only when that author is there.
            on_heard: gets the address that a signed request of the peer came from.
        """
        self.local_username = local.ufrag + _SUFFIX
        self._island = island
        self._context = context
        self._local_key = local.password.encode()
        self._remote_key = remote.password.encode()
        self._usernames = f"{remote.ufrag}{_SUFFIX}:{self.local_username}"
        self._on_heard = on_heard
        self._may_insist = is_initiator

    def receive_request_untrusted(
        self, message: stun.Message, source: Endpoint
    ) -> None:
        """Answer a request if the peer signed it; nothing else is answered."""
        if not message.check_message_integrity(self._local_key):
            self._context.unauthenticated += 1
            return
        response = stun.Message(
            stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id
        )
        # The name of a carrier is ours; the peer is told where we see it.
        seen_at = self._context.hub.shown(source)
        response.attributes["XOR-MAPPED-ADDRESS"] = tuple(seen_at)
        response.add_message_integrity(self._local_key)
        self._context.hub.send(bytes(response), source)
        self._may_insist = True
        self._on_heard(source)

    def trust(self) -> None:
        """The peer has proven that it is there: repeat our requests."""
        self._may_insist = True

    async def prove(self, endpoint: Endpoint, rto_s: float) -> float:
        """Ask until the peer answers from there; returns the round trip in seconds.

        Args:
            endpoint: an address, or a name of the hub's.
            rto_s: the first repetition.

        Raises:
            IceFailed: it did not.
        """
        rtt_s = await self._island.run(self._ask(endpoint, rto_s))
        if rtt_s is None:
            where = self._context.hub.shown(endpoint)
            raise IceFailed(f"no check came back through TURN from {where}")
        return rtt_s

    async def _ask(self, endpoint: Endpoint, rto_s: float) -> float | None:
        context = self._context
        request = stun.Message(
            stun.Method.BINDING,
            stun.Class.REQUEST,
            context.random_bytes(_TRANSACTION_ID_BYTES),
        )
        request.attributes["USERNAME"] = self._usernames
        request.add_message_integrity(self._remote_key)
        transaction = Transaction(request, self._remote_key, context)
        context.transactions[transaction.transaction_id] = transaction
        wait_s = rto_s
        try:
            for sent in range(_MAX_CHECKS):
                if sent >= _UNHEARD_CHECKS and not self._may_insist:
                    return None
                sent_at = trio.current_time()
                context.hub.send(bytes(request), endpoint)
                answer = await transaction.answer.wait(wait_s)
                wait_s = min(2 * wait_s, _MAX_WAIT_S)
                if answer is not None:
                    # RFC 8445 §7.2.5.2.1: an answer from elsewhere proves nothing.
                    is_there = answer[1] == endpoint
                    return trio.current_time() - sent_at if is_there else None
        finally:
            del context.transactions[transaction.transaction_id]
        return None
