"""One contact of the routing table, and whether its id may be used at its address."""

import math
from functools import lru_cache

from kademlia.node import Node

from opnode.core.addresses import pack, public_subnet
from opnode.core.ids import Contact, fits_address


class TableEntry(Node):
    """A contact in a bucket, with what decides about its staying.

    Attributes:
        contact: id and address.
        packed: the contact as replies name it: id, address, port.
        group: its /24 or /48; None where no cap applies.
        known_at: since when it has been there: the senior stay.
        heard_at: when it answered or asked with a valid token.
        answered_at: when it answered us.
        failures: requests in a row that it left unanswered.
        is_sure: it answered the last time that it was asked, and not before it waited
            for a place: it may be named to others.
        is_waiting: it has no place, but waits for one.
    """

    __slots__ = (
        *("id", "ip", "long_id", "port"),
        *("answered_at", "contact", "failures", "group", "heard_at"),
        *("is_sure", "is_waiting", "known_at", "packed"),
    )

    def __init__(self, contact: Contact, now: float = -math.inf) -> None:
        # The library parses hexadecimal text here, at five times the cost.
        self.id = contact.node_id
        self.ip, self.port = contact.endpoint
        self.long_id = int.from_bytes(contact.node_id, "big")
        self.contact = contact
        self.packed = contact.node_id + pack(contact.endpoint)
        self.group = public_subnet(contact.endpoint.host)
        self.known_at = self.heard_at = self.answered_at = now
        self.failures = 0
        self.is_sure = True
        self.is_waiting = False


@lru_cache(maxsize=4096)
def fits(contact: Contact) -> bool:
    """Whether the id may be used at the address (BEP 42)."""
    return fits_address(contact.node_id, contact.endpoint.host)
