"""The packets of each path: their ids, where they go, and what they say of the path.

Joins the table of paths, which knows no packet, to the sealer, which knows no path.
Owns which of our ids are accepted and which id of the peer is used.
"""

from opnode.core.addresses import Endpoint
from opnode.core.crypto import TransportKeys
from opnode.protocols.rudp.connection_ids import ConnectionId, ConnectionIds
from opnode.protocols.rudp.frames import (
    PathChallengeFrame,
    PathResponseFrame,
    encode_path_challenge,
    encode_path_response,
)
from opnode.protocols.rudp.packet import (
    BASE_PACKET_SIZE,
    OVERHEAD,
    PREFIX_SIZE,
    Transmission,
)
from opnode.protocols.rudp.path import Path
from opnode.protocols.rudp.path_table import PathTable
from opnode.protocols.rudp.sealer import PacketSealer

# Path frames of one read that are looked at; more are a flood, and go unanswered.
_MAX_FRAMES = 16


class OwnIds:
    """Our connection ids that packets may bear now.

    Attributes:
        accepted: By prefix; the receiver's view of them.
    """

    __slots__ = ("_all", "_indices", "accepted")

    def __init__(self, keys: TransportKeys, *, initiator: bool) -> None:
        """Start with the first one and the window above it closed."""
        self._all = ConnectionIds(keys, of_initiator=initiator, ours=True)
        self._indices: dict[bytes, int] = {}
        self.accepted: dict[bytes, ConnectionId] = {}

    def update(self, indices: frozenset[int]) -> bool:
        """Accept exactly these; tells whether that is a change."""
        if indices == frozenset(self._indices.values()):
            return False
        self._indices.clear()
        self.accepted.clear()
        for index in sorted(indices):
            connection_id = self._all[index]
            self.accepted[connection_id.prefix] = connection_id
            self._indices[connection_id.prefix] = index
        return True

    def index_of(self, prefix: bytes) -> int:
        """Return the index of an accepted id."""
        return self._indices[prefix]

    @property
    def wire_ids(self) -> tuple[bytes, ...]:
        """The 8 bytes of each, by which the socket routes."""
        return tuple(found.wire_id for found in self.accepted.values())


class PathTraffic:
    """Moves packets between the paths and the sealer."""

    __slots__ = (
        "_frames",
        "_heard_index",
        "_id_index",
        "_peer_ids",
        "_sealer",
        "own_ids",
        "table",
    )

    def __init__(
        self,
        *,
        table: PathTable,
        own_ids: OwnIds,
        peer_ids: ConnectionIds,
        sealer: PacketSealer,
    ) -> None:
        """Start with the first id of each end."""
        self.table = table
        self.own_ids = own_ids
        self._peer_ids = peer_ids
        self._sealer = sealer
        self._id_index = 0
        self._heard_index = 0
        self._frames: list[PathChallengeFrame | PathResponseFrame] = []
        own_ids.update(table.receive_indices)

    def on_frame(self, frame: PathChallengeFrame | PathResponseFrame) -> None:
        """Keep a frame of the read under way until its path is known."""
        if len(self._frames) < _MAX_FRAMES:
            self._frames.append(frame)

    def on_run(
        self, run: memoryview, source: Endpoint, now: float, *, is_newest: bool
    ) -> bool:
        """Packets of a read were authentic; tells whether other ids are accepted now.

        Args:
            run: All of them.
            source: From where.
            now: The present.
            is_newest: See ``PathTable.on_run``.
        """
        table = self.table
        index = self.own_ids.index_of(bytes(run[:PREFIX_SIZE]))
        path = table.on_run(source, index, len(run), now, is_newest=is_newest)
        if self._frames:
            frames, self._frames = self._frames, []
            for frame in frames:
                if isinstance(frame, PathResponseFrame):
                    table.on_response(frame.token, now)
                elif path is not None:
                    table.on_challenge(path, frame.token, now)
        elif path is table.active and index == self._heard_index:
            return False
        self._heard_index = index
        return self.own_ids.update(table.receive_indices)

    def select(self) -> Path | None:
        """Seal for the active path from now on; returns it, None before the first."""
        path = self.table.active
        if path is None:
            return None
        if path.send_index != self._id_index and path.send_index is not None:
            self._id_index = path.send_index
            self._sealer.connection_id = self._peer_ids[self._id_index]
        return path

    def probes(self, now: float, window: int) -> list[Transmission]:
        """Seal the packets that ask and answer on all paths."""
        transmissions: list[Transmission] = []
        active = self.table.active
        if active is None or not (active.mtu.may_probe or self.table.has_packets):
            return transmissions
        sealer = self._sealer
        while (packet := self.table.next_packet(now, window)) is not None:
            path, index, challenge, responses, size = packet
            text = encode_path_challenge(challenge) if challenge else b""
            text += b"".join(map(encode_path_response, responses))
            usual, sealer.connection_id = sealer.connection_id, self._peer_ids[index]
            data = b"".join(sealer.seal(text.ljust(size - OVERHEAD, b"\0")))
            sealer.connection_id = usual
            transmissions.append(Transmission(data, path.endpoint, len(data)))
        return transmissions

    def address(self, data: bytes, segment_size: int, ecn: int) -> list[Transmission]:
        """Send packets on the active path, and copies where the peer may have moved.

        If a NAT gave the peer another address, the old one is dead, but the new one
        is not proven yet: what the limit before the proof allows goes there, too. The
        replay check drops what arrives twice.
        """
        table = self.table
        active, claimant = table.active, table.claimant
        assert active is not None
        active.on_sent(len(data))
        transmissions = [Transmission(data, active.endpoint, segment_size, ecn)]
        if len(data) >= BASE_PACKET_SIZE:
            active.mtu.on_bulk_sent(len(data))
        if claimant is not None:
            room = claimant.budget - claimant.budget % segment_size
            copy = data[: max(room, 0)] if len(data) > claimant.budget else data
            if copy:
                claimant.on_sent(len(copy))
                transmissions.append(
                    Transmission(copy, claimant.endpoint, segment_size, ecn)
                )
        return transmissions
