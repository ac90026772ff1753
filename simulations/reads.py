"""Records published and read again: whether the right one came, and how soon.

Owns the judgement of what a read returned. Refuses to know the network and its liars.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import trio

from opnode.core.errors import RecordNotFound
from opnode.core.ids import StorageKey, peer_key
from opnode.core.peerfile import Identity, build_peer_file
from opnode.core.records import SignedRecord
from opnode.drivers.dht.dht import Dht
from opnode.testing.dht_nodes import DhtAudit, DhtNetwork, DhtNode
from opnode.testing.keys import seeded_signing_key
from simulations.quantiles import quantile

_HOUR_OF_LOOKUPS: Final = 8
"""One for each bucket of a table of a thousand nodes."""


class Publication(NamedTuple):
    """The versions of one peer file, oldest first; the audit judges every read."""

    key: StorageKey
    versions: tuple[SignedRecord, ...]
    audit: DhtAudit | None = None

    def up_to(self, version: int) -> "Publication":
        """The same owner before later versions were made."""
        return self._replace(versions=self.versions[: version + 1])


Read = Callable[[Dht, Publication], Awaitable[list[SignedRecord]]]
"""One way of reading; returns what the reader accepts."""


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What many reads brought; times are virtual seconds, of all reads.

    Attributes:
        found: reads that brought the newest version.
        older: reads that brought a version that was replaced before.
        forged: reads that brought what its owner never signed.
    """

    gets: int
    found: int
    success: float
    older: int
    forged: int
    s_median: float
    s_p90: float
    s_p99: float
    s_max: float


class Judged(NamedTuple):
    """One read: how long it took, and whether it brought what `Reads` counts."""

    seconds: float
    found: bool
    older: bool
    forged: bool


def draft(network: DhtNetwork, label: str, versions: int = 1) -> Publication:
    """Sign a peer file of an owner of its own, so many times; nothing is stored."""
    identity = Identity(seeded_signing_key(label))
    now = network.wall_clock()
    publication = Publication(
        peer_key(identity.peer_id),
        tuple(
            build_peer_file(identity, wall_now=now + seq, seq=seq)
            for seq in range(1, versions + 1)
        ),
        network.audit,
    )
    if network.audit is not None:
        for version in publication.versions:
            network.audit.signed(publication.key, version)
    return publication


async def publish(
    network: DhtNetwork,
    writers: Sequence[DhtNode],
    publications: Sequence[Publication],
    version: int = 0,
) -> int:
    """Put one version of each from a random writer; returns how many puts got through.

    A put that no node acknowledged did not.
    """
    through = 0
    for publication in publications:
        writer = network.rng.choice(writers)
        through += await writer.dht.put(publication.versions[version]) > 0
    return through


async def settle(network: DhtNetwork, askers: Sequence[DhtNode]) -> None:
    """Let these nodes run as many lookups as refreshing does in their first hour."""
    for asker in askers:
        for _ in range(_HOUR_OF_LOOKUPS):
            await asker.dht.closest_nodes(network.rng.randbytes(20))


async def read_first(
    dht: Dht,
    publication: Publication,
    on_newer: Callable[[SignedRecord], None] | None = None,
) -> list[SignedRecord]:
    """The first read that a node offers: any version of the owner's will do."""
    key, owner = publication.key, publication.versions[0].owner
    try:
        return await dht.find_first(key, lambda r: r.owner == owner, on_newer)
    except RecordNotFound:
        return []


async def read_newest(dht: Dht, publication: Publication) -> list[SignedRecord]:
    """A first read by somebody who knows of the newest version, as after a change."""
    newest = publication.versions[-1]
    try:
        found = await dht.find_first(
            publication.key,
            lambda r: r.owner == newest.owner and r.seq >= newest.seq,
        )
    except RecordNotFound:
        return []
    return [record for record in found if record.seq >= newest.seq]


async def read_latest(dht: Dht, publication: Publication) -> list[SignedRecord]:
    """The read of the whole region."""
    return await dht.find_all(publication.key)


async def read_many(
    network: DhtNetwork,
    askers: Sequence[DhtNode],
    publications: Sequence[Publication],
    read: Read,
    gets: int,
) -> Reads:
    """Read so many times, each from a random asker, the records in turn."""
    judged = []
    for number in range(gets):
        publication = publications[number % len(publications)]
        asker = network.rng.choice(askers)
        judged.append(await read_once(asker, publication, read))
    return summary(judged)


async def read_once(asker: DhtNode, publication: Publication, read: Read) -> Judged:
    """Read, and judge what came."""
    started_at = trio.current_time()
    records = await read(asker.dht, publication)
    if (audit := publication.audit) is not None:
        is_complete = read is read_latest
        audit.read(asker, publication.key, records, is_complete=is_complete)
    wires = {record.wire for record in records}
    genuine = [version.wire for version in publication.versions]
    return Judged(
        seconds=trio.current_time() - started_at,
        found=genuine[-1] in wires,
        older=not wires.isdisjoint(genuine[:-1]),
        forged=not wires.issubset(genuine),
    )


def summary(judged: Sequence[Judged]) -> Reads:
    """What many reads brought, at least one."""
    return reads_of(
        [one.seconds for one in judged],
        sum(one.found for one in judged),
        older=sum(one.older for one in judged),
        forged=sum(one.forged for one in judged),
    )


def reads_of(
    seconds: Sequence[float], found: int, *, older: int = 0, forged: int = 0
) -> Reads:
    """What so many reads brought, at least one."""
    return Reads(
        gets=len(seconds),
        found=found,
        success=found / len(seconds),
        older=older,
        forged=forged,
        s_median=quantile(seconds, 0.5),
        s_p90=quantile(seconds, 0.9),
        s_p99=quantile(seconds, 0.99),
        s_max=quantile(seconds, 1.0),
    )
