"""The checkers, told what happens on the real backend.

Owns what is looked at, and how often. Refuses to know what a violation is. Reads are
judged one by one; queues, tables and records held are looked at once a minute on some
nodes, drawn by a generator of its own so that a run is the same with and without it.
"""

import random
from collections.abc import Sequence
from typing import Final

import trio

from opnode.core.records import SignedRecord
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.store.config import StoreConfig
from opnode.protocols.rpc.served import ServedConfig
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from simulations.checkers.bounds import BoundChecker
from simulations.checkers.records import ForgeryChecker, SequenceChecker

_EVERY_S: Final = 60.0
_NODES: Final = 20
_KEYS: Final = 5
"""Nodes and keys looked at: a millisecond, below 1 % of a minute of a hundred nodes."""
_MAX_PENDING: Final = RpcConfig().transactions.max_pending
_MAX_DEFERRED: Final = ServedConfig().max_deferred
_MAX_RECORDS: Final = StoreConfig().max_records


class DhtChecks:
    """Judges what nodes of a DHT accept and how full they are."""

    def __init__(self, network: DhtNetwork, seed: int) -> None:
        self.bounds = BoundChecker()
        self._forgery = ForgeryChecker()
        self._sequence = SequenceChecker()
        self._network = network
        self._rng = random.Random(seed)
        self._keys: list[bytes] = []
        self._known: set[bytes] = set()

    def signed(self, key: bytes, record: SignedRecord) -> None:
        """See `DhtAudit.signed`."""
        self._forgery.signed(record.wire)
        if key not in self._known:
            self._known.add(key)
            self._keys.append(key)

    def read(
        self,
        reader: DhtNode,
        key: bytes,
        records: Sequence[SignedRecord],
        *,
        is_complete: bool,
    ) -> None:
        """See `DhtAudit.read`.

        Raises:
            ViolationError: nobody signed one, or the reader has seen a newer one.
        """
        now, who = trio.current_time(), str(reader.hub.local)
        for record in records:
            self._forgery.accepted(now, who, record.wire)
        if is_complete and records:
            self._sequence.seen(now, who, key, max(r.seq for r in records))

    async def watch(self) -> None:
        """Look at some nodes once a minute, until cancelled.

        Raises:
            ViolationError: one holds a forgery, or has more of something than it may.
        """
        while True:
            await trio.sleep(_EVERY_S)
            nodes = self._network.nodes
            for node in self._rng.sample(nodes, min(_NODES, len(nodes))):
                self.look_at(node)

    def look_at(self, node: DhtNode) -> None:
        """Compare one node with its bounds, and some of its records with the signed.

        Raises:
            ViolationError: see `watch`.
        """
        now, who = trio.current_time(), str(node.hub.local)
        rpc = node.rpc.statistics()
        sizes = (
            ("requests under way", rpc.pending, _MAX_PENDING),
            ("requests being worked on", rpc.deferred, _MAX_DEFERRED),
            ("records held", node.store.statistics().records, _MAX_RECORDS),
        )
        for what, size, bound in sizes:
            self.bounds.measured(now, who, what, size=size, bound=bound)
        for key in self._rng.sample(self._keys, min(_KEYS, len(self._keys))):
            for record in node.store.records(key, node.wall_clock()):
                self._forgery.accepted(now, who, record.wire)
