"""Limits and counters of one node's RPC."""

from dataclasses import dataclass, field
from typing import Final

from opnode.protocols.rpc.budget import BudgetConfig, BudgetView
from opnode.protocols.rpc.limits import LimitConfig
from opnode.protocols.rpc.messages import MAIN_NETWORK
from opnode.protocols.rpc.served import ServedConfig
from opnode.protocols.rpc.surroundings import SurroundingsConfig
from opnode.protocols.rpc.tokens import TokenConfig
from opnode.protocols.rpc.traffic import TrafficLine
from opnode.protocols.rpc.transactions import TransactionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcConfig:
    """Limits of one node's RPC.

    Attributes:
        network: 8 bytes; others' datagrams are not ours to read.
        proofs_per_s: a signature takes 50 µs, so proofs cost 1 % of a core at most, and
            as much again for askers with a token.
    """

    network: bytes = MAIN_NETWORK
    proofs_per_s: float = 200.0
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)
    served: ServedConfig = field(default_factory=ServedConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    tokens: TokenConfig = field(default_factory=TokenConfig)
    transactions: TransactionConfig = field(default_factory=TransactionConfig)


COUNTERS: Final = (
    *("requests_sent", "retransmitted", "answered", "refused", "timed_out"),
    *("served", "duplicates", "malformed", "unexpected", "other_network", "too_large"),
    "limited",
)
"""The counters that the Rpc keeps; the rest of the statistics is of the instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcStatistics:
    """Counters since the start; ``pending``, ``deferred``, the budgets are of now.

    ``budget`` is for our own asking, ``lent`` for what others have us ask.
    """

    requests_sent: int
    retransmitted: int
    answered: int
    refused: int
    timed_out: int
    served: int
    duplicates: int
    malformed: int
    unexpected: int
    other_network: int
    too_large: int
    limited: int
    pending: int
    deferred: int
    traffic: tuple[TrafficLine, ...]
    budget: BudgetView
    lent: BudgetView
