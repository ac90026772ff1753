"""Proofs of a node's key: what is signed, who is given one and how many.

Owns the signed statement and the ration. Refuses to know sockets and what addresses
the node has; it is told whether an address may be its own.
"""

from collections.abc import Callable
from typing import NamedTuple

from opnode.core.addresses import Endpoint, is_wildcard
from opnode.core.crypto import KEY_SIZE, SigningKey, verify
from opnode.core.errors import RefusalCode, RemoteProtocolError
from opnode.core.ids import NodeId
from opnode.protocols.rpc.datagrams import (
    Sender,
)
from opnode.protocols.rpc.messages import (
    FailureCode,
    Ping,
    Pong,
    Refuse,
    Reply,
    pack_endpoint,
    unpack_endpoint_untrusted,
)


class ProofTerms(NamedTuple):
    """What both sides of a proof have to agree on.

    Attributes:
        network: the network id.
        prover: node id of the node that proves itself.
        asked: the address at which the asker believes to talk to it.
        observed: the asker's address as the prover sees it.
        nonce: the asker's, so that no proof is shown twice.
    """

    network: bytes
    prover: NodeId
    asked: Endpoint
    observed: Endpoint
    nonce: bytes

    def statement(self) -> bytes:
        """The bytes that the node key signs."""
        return b"".join(
            (
                b"opnode pong\x00",
                self.network,
                self.prover,
                pack_endpoint(self.asked).rjust(18, b"\0"),
                pack_endpoint(self.observed).rjust(18, b"\0"),
                self.nonce,
            )
        )


def proven_key_untrusted(reply: Reply, terms: ProofTerms) -> bytes | None:
    """The key that signed the terms, or None when the reply proves nothing."""
    if not isinstance(reply, Pong) or len(reply.node_public_key) != KEY_SIZE:
        return None
    if not verify(reply.node_public_key, terms.statement(), reply.signature):
        return None
    return reply.node_public_key


class Prover:
    """Signs proofs with the node key: for the node's own addresses, so many a second.

    Attributes:
        may_be_ours: whether who dials an address may reach this node, as far as is
            known. By default the bound address is the only one, any for a wildcard.
    """

    may_be_ours: Callable[[Endpoint], bool]

    def __init__(
        self, signing_key: SigningKey | None, local: Endpoint, proofs_per_s: float
    ) -> None:
        self.may_be_ours = self._is_local
        self._signing_key = signing_key
        self._local = local
        self._pause_s = 1.0 / proofs_per_s
        # Without a token and with one: a flood of forged sources, answered "busy", must
        # not keep those out who come back with the token that this answer brought.
        self._next_at = {False: 0.0, True: 0.0}

    def prove_untrusted(
        self,
        ping: Ping,
        prover: Sender,
        source: Endpoint,
        now: float,
        *,
        verified: bool = False,
    ) -> Pong:
        """Prove the key to whoever asked; ``verified`` if it showed a valid token.

        Raises:
            Refuse: no key; no address named, or one that is not ours; or a second's
                worth of proofs is spent already.
        """
        if self._signing_key is None:
            raise Refuse(FailureCode.NOT_SERVED, "no proofs")
        try:
            asked = unpack_endpoint_untrusted(ping.asked)
        except RemoteProtocolError as error:
            raise Refuse(RefusalCode.MALFORMED, "a proof names an address") from error
        if not self.may_be_ours(asked):
            # Somebody else is there, who passed the question on to pass for us.
            raise Refuse(FailureCode.OTHER_ADDRESS, f"{asked} is not my address")
        next_at = self._next_at[verified]
        if next_at > now + 1.0:
            raise Refuse(RefusalCode.BUSY, "too many proofs")
        self._next_at[verified] = max(next_at, now) + self._pause_s
        terms = ProofTerms(prover.network, prover.node_id, asked, source, ping.prove)
        signature = self._signing_key.sign(terms.statement())
        return Pong(self._signing_key.public, signature)

    def _is_local(self, asked: Endpoint) -> bool:
        return is_wildcard(self._local.host) or asked == self._local
