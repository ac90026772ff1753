"""The verb `trace`: a lookup in the running node, told hop by hop.

Owns reading the target and turning a lookup's steps into events. Refuses to know how
the lookup chooses its way.
"""

import string
from typing import Final, Protocol

import trio

from opnode.core.errors import ConfigError
from opnode.core.ids import STORAGE_KEY_SIZE, StorageKey, peer_key
from opnode.daemon import control_messages as messages
from opnode.daemon.address_book import PEER_ID_PREFIX, AddressBook
from opnode.daemon.control_messages import Event
from opnode.protocols.lookup.trace import LookupTrace, StepOutcome, TraceStep

TRACE_S: Final = 60.0
"""A lookup has its own, shorter deadline; this one only guards against a bug in it."""

HEX_DIGITS: Final = 2 * STORAGE_KEY_SIZE


class TracedTable(Protocol):
    """What is needed of ``Dht``."""

    async def trace(self, key: bytes) -> LookupTrace:
        """Look for records and tell the way."""

    async def trace_nodes(self, key: bytes) -> LookupTrace:
        """Look for the closest nodes and tell the way."""


class Listener(Protocol):
    """Whom the events are for."""

    async def send(self, event: Event) -> None:
        """Report an event."""


def target_key(target: str, book: AddressBook) -> StorageKey:
    """Read a peer id, a petname or the digits of a key.

    Raises:
        ConfigError: it is none of these.
    """
    text = target.strip()
    if len(text) == HEX_DIGITS and set(text) <= set(string.hexdigits):
        return StorageKey(bytes.fromhex(text))
    try:
        return peer_key(book.resolve(target))
    except ConfigError as error:
        if text.lower().startswith(PEER_ID_PREFIX):
            # The digits of a peer id were mistyped: which, is told already.
            raise
        expected = f"{error.expected}, or {HEX_DIGITS} hexadecimal digits"
        raise ConfigError("key", error.found, expected) from None


async def run_trace(
    table: TracedTable, key: StorageKey, listener: Listener, *, nodes: bool
) -> None:
    """Run one lookup and report its hops, then its end.

    Raises:
        trio.TooSlowError: it did not end.
    """
    with trio.fail_after(TRACE_S):
        found = await (table.trace_nodes(key) if nodes else table.trace(key))
    for number, step in enumerate(found.steps):
        await listener.send(_hop(number, step))
    await listener.send(_end(found, nodes=nodes))


def _hop(number: int, step: TraceStep) -> messages.Hop:
    return messages.Hop(
        number=number,
        named_by=step.parent,
        node_id=step.contact.node_id.hex(),
        endpoint=str(step.contact.endpoint),
        path=step.path,
        shared_bits=step.shared_bits,
        in_region=step.is_inside,
        outcome=step.outcome.value,
        asked_at_ms=_ms(step.asked_at_s),
        rtt_ms=None if step.rtt_s is None else _ms(step.rtt_s),
        new=step.named,
        records=step.records,
    )


def _end(found: LookupTrace, *, nodes: bool) -> messages.Traced:
    answered = [s for s in found.steps if s.outcome is StepOutcome.ANSWERED]
    holders = [step for step in answered if step.records]
    times = [s.asked_at_s + s.rtt_s for s in holders if s.rtt_s is not None]
    return messages.Traced(
        target=found.target.hex(),
        nodes=nodes,
        took_ms=_ms(found.took_s),
        complete=found.is_complete,
        records=found.records,
        holders=len(holders),
        asked=len(found.steps),
        answered=len(answered),
        paths=len({step.path for step in found.steps}),
        first_record_ms=_ms(min(times)) if times else None,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
