"""Where the people that this node talked to were reached last.

Owns the memory that lets two peers find each other again without anybody's help, and
its file. Refuses to know how they are called there.
"""

import base64
import binascii
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, RecordError, StorageError
from opnode.core.ids import NODE_ID_SIZE, NodeId, PeerId
from opnode.core.peerfile import (
    HANDLE_SIZE,
    MAX_INTRODUCERS,
    IntroducerEntry,
    LocationCertificate,
    Presence,
    unpack_certificate_untrusted,
)
from opnode.drivers.clock import WallClock
from opnode.node.data_directory import set_aside, write_atomically

logger = logging.getLogger(__name__)

MAX_ACQUAINTANCES: Final = 256
"""Locations remembered, those met longest ago go first; 1 kB each on disk."""

MAX_ENDPOINTS: Final = 4
"""Addresses of one location: home, work and two more. Each is called at once."""

MAX_FILE: Final = 1024 * 1024
"""Largest file read: 256 locations need about 250 kB."""

SAVE_AFTER_S: Final = 1.0
"""Pause between a change and its write: one write for all that changes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """One location that we had a connection with.

    Attributes:
        certificate: the identity's word for it; public.
        endpoints: where a path led to it, the latest first.
        introducers: whom its presence named last, as far as is known.
        met_at: Unix seconds of the last connection.
    """

    certificate: LocationCertificate
    endpoints: tuple[Endpoint, ...] = ()
    introducers: tuple[IntroducerEntry, ...] = ()
    met_at: float


class _StoredIntroducer(msgspec.Struct, forbid_unknown_fields=True):
    node_id: str
    endpoint: str
    handle: str


class _StoredAcquaintance(msgspec.Struct, forbid_unknown_fields=True):
    certificate: str
    endpoints: list[str]
    introducers: list[_StoredIntroducer]
    met_at: float


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    acquaintances: list[_StoredAcquaintance]


class Acquaintances:
    """The locations met, at most ``MAX_ACQUAINTANCES``."""

    def __init__(self, wall_clock: WallClock, path: Path | None = None) -> None:
        """Read the file, if there is one; a damaged one is set aside."""
        self._wall_clock = wall_clock
        self._path = path
        self._known: dict[bytes, Acquaintance] = {}
        self._near: dict[bytes, tuple[Endpoint, ...]] = {}
        self._changed = trio.Event()
        if path is not None:
            for acquaintance in _load(path):
                self._known[acquaintance.certificate.static_public] = acquaintance

    def __len__(self) -> int:
        return len(self._known)

    def met(self, certificate: LocationCertificate, endpoint: Endpoint | None) -> None:
        """There is a connection to this location, by a path to ``endpoint``."""
        static = certificate.static_public
        before = self._known.pop(static, None)
        endpoints = before.endpoints if before is not None else ()
        if endpoint is not None:
            others = tuple(other for other in endpoints if other != endpoint)
            endpoints = (endpoint, *others)[:MAX_ENDPOINTS]
        # The last one met stands last, so the first one goes.
        self._known[static] = Acquaintance(
            certificate=certificate,
            endpoints=endpoints,
            introducers=before.introducers if before is not None else (),
            met_at=self._wall_clock(),
        )
        if len(self._known) > MAX_ACQUAINTANCES:
            del self._known[next(iter(self._known))]
        self._changed.set()

    def found(self, presences: Iterable[Presence]) -> None:
        """Remember the introducers of those locations that we know."""
        for presence in presences:
            static = presence.certificate.static_public
            known = self._known.get(static)
            if known is not None and known.introducers != presence.introducers:
                self._known[static] = replace(known, introducers=presence.introducers)
                self._changed.set()

    def seen_near(
        self, certificate: LocationCertificate, endpoints: tuple[Endpoint, ...]
    ) -> None:
        """It is on a link of ours, it says; not kept when the node stops."""
        static = certificate.static_public
        self._near.pop(static, None)
        self._near[static] = endpoints[:MAX_ENDPOINTS]
        if len(self._near) > MAX_ACQUAINTANCES:
            del self._near[next(iter(self._near))]

    def endpoints_of(self, static_public: bytes) -> tuple[Endpoint, ...]:
        """Where that location was seen or reached, the latest first."""
        known = self._known.get(static_public)
        reached = known.endpoints if known is not None else ()
        near = self._near.get(static_public, ())
        return (*near, *(one for one in reached if one not in near))

    def presences_of(self, peer_id: PeerId) -> list[Presence]:
        """The peer's locations as they were last, the latest met first.

        Only those that something is known of: who was reached by a relay alone may have
        left no address, and a call that goes nowhere would be waited for in vain.
        """
        now = self._wall_clock()
        return [
            Presence(
                certificate=known.certificate,
                introducers=known.introducers,
                capabilities=0,
            )
            for known in reversed(self._known.values())
            if known.certificate.peer_id == peer_id
            and _is_good(known.certificate, now)
            and (
                known.introducers or self.endpoints_of(known.certificate.static_public)
            )
        ]

    async def run(self) -> None:
        """Write what changed, until cancelled."""
        if self._path is None:
            # Or else what nobody saves would be noticed again every few seconds.
            await trio.sleep_forever()
        while True:
            await self._changed.wait()
            await trio.sleep(SAVE_AFTER_S)
            self.save()

    def save(self) -> None:
        """Write what changed; a disk that refuses is told of and costs the memory."""
        if self._path is None or not self._changed.is_set():
            return
        self._changed = trio.Event()
        stored = _Stored(1, [_pack(known) for known in self._known.values()])
        try:
            data = msgspec.json.format(msgspec.json.encode(stored), indent=1)
            write_atomically(self._path, data)
        except StorageError as error:
            logger.warning("acquaintances are not remembered: %s", error)


def _is_good(certificate: LocationCertificate, wall_now: float) -> bool:
    try:
        certificate.verify(wall_now)
    except RecordError:
        return False
    return True


def _load(path: Path) -> list[Acquaintance]:
    """Read the file; a damaged one is set aside and counts as empty."""
    try:
        with path.open("rb") as file:
            # A larger file is cut off and thereby not valid any more.
            data = file.read(MAX_FILE)
        stored = msgspec.json.decode(data, type=_Stored)
        return [_unpack(entry) for entry in stored.acquaintances[-MAX_ACQUAINTANCES:]]
    except FileNotFoundError:
        return []
    except _DAMAGED as error:
        set_aside(path, error)
        return []


_DAMAGED: Final = (
    *(msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError),
    *(ConfigError, RecordError, OSError),
)
"""What reading a file that somebody or something changed may raise."""


def _pack(known: Acquaintance) -> _StoredAcquaintance:
    return _StoredAcquaintance(
        certificate=base64.b64encode(known.certificate.pack()).decode(),
        endpoints=[str(endpoint) for endpoint in known.endpoints],
        introducers=[
            _StoredIntroducer(
                entry.node_id.hex(), str(entry.endpoint), entry.handle.hex()
            )
            for entry in known.introducers
        ],
        met_at=known.met_at,
    )


def _unpack(stored: _StoredAcquaintance) -> Acquaintance:
    packed = base64.b64decode(stored.certificate, validate=True)
    return Acquaintance(
        certificate=unpack_certificate_untrusted(packed),
        endpoints=tuple(
            Endpoint.parse(text, field="acquaintances.json: endpoint")
            for text in stored.endpoints[:MAX_ENDPOINTS]
        ),
        introducers=tuple(
            IntroducerEntry(
                node_id=NodeId(_bytes_of(entry.node_id, NODE_ID_SIZE)),
                endpoint=Endpoint.parse(
                    entry.endpoint, field="acquaintances.json: introducer"
                ),
                handle=_bytes_of(entry.handle, HANDLE_SIZE),
            )
            for entry in stored.introducers[:MAX_INTRODUCERS]
        ),
        met_at=stored.met_at,
    )


def _bytes_of(text: str, size: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != size:
        raise ValueError(f"found {len(data)} bytes, expected {size}")
    return data
