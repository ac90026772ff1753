"""The connection ids of both ends, one for each path; knows no path itself.

Nobody else can tell that two ids, or the packet numbers that travel with them, belong
to one connection (RFC 9000 §9.5): both are derived from a secret of the handshake, and
both ends know all of them without exchanging any.
"""

from typing import Final, NamedTuple

from opnode.core.crypto import TransportKeys, expand
from opnode.protocols.rudp.packet import (
    CONNECTION_ID_SIZE,
    MAX_NUMBER_OFFSET,
    PACKET_TYPE,
)

MAX_IDS: Final = 1 << 16
"""Ids that one end may use in the whole life of a connection."""
_LABELS = {True: b"opnode rudp id initiator ", False: b"opnode rudp id responder "}
_OFFSET_SIZE = 8
# The low half of an id is part of the nonce.
_NONCE_PART = CONNECTION_ID_SIZE // 2


class ConnectionId(NamedTuple):
    """One id on the wire.

    Attributes:
        prefix: Type byte and id, 9 bytes: the start of every packet that bears it.
        offset: What is added to packet numbers that travel under it.
    """

    prefix: bytes
    offset: int

    @property
    def wire_id(self) -> bytes:
        """The 8 bytes by which a socket routes."""
        return self.prefix[1:]


class ConnectionIds:
    """The ids that one end owns, that is those in packets towards it."""

    __slots__ = ("_found", "_label", "_secret", "_used")

    def __init__(self, keys: TransportKeys, *, of_initiator: bool, ours: bool) -> None:
        """Name the end.

        Args:
            keys: What the handshake left.
            of_initiator: Whether the owner began the handshake.
            ours: Whether we are the owner.
        """
        # The owner's receiving key is the other end's sending key: both know it.
        key = keys.receive if ours else keys.send
        self._secret = expand(key, b"opnode rudp ids", 32)
        self._label = _LABELS[of_initiator]
        self._found: list[ConnectionId] = []
        # Side by side: most connections use few, and a set takes 500 bytes for five.
        self._used = b""

    def __getitem__(self, index: int) -> ConnectionId:
        """Return the id with an index, 0 for the first path.

        Raises:
            IndexError: Not within 0 to 65535.
        """
        if not 0 <= index < MAX_IDS:
            raise IndexError(f"connection ids have indices below {MAX_IDS}")
        while index >= len(self._found):
            self._derive()
        return self._found[index]

    def _derive(self) -> None:
        """Find the next id whose part in the nonce is a new one.

        Two ids that share it could make one nonce of two packets.
        """
        attempt = len(self._found)
        while True:
            label = self._label + attempt.to_bytes(4, "big")
            found = expand(self._secret, label, CONNECTION_ID_SIZE + _OFFSET_SIZE)
            wire_id, offset = found[:CONNECTION_ID_SIZE], found[CONNECTION_ID_SIZE:]
            if not self._is_used(wire_id[_NONCE_PART:]):
                break
            attempt += MAX_IDS
        self._used += wire_id[_NONCE_PART:]
        self._found.append(
            ConnectionId(
                bytes([PACKET_TYPE]) + wire_id,
                int.from_bytes(offset, "big") & MAX_NUMBER_OFFSET,
            )
        )

    def _is_used(self, part: bytes) -> bool:
        at = self._used.find(part)
        while at % len(part) and at >= 0:
            at = self._used.find(part, at + 1)
        return at >= 0
