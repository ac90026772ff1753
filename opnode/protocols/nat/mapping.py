"""How the NAT in front of us gives out ports, told from where others see us.

Owns the latest word of each reporter and what they come to. Refuses to know who the
reporters are, whether they may be believed one by one, and what is done about it.

Which ports a NAT gives is its mapping behaviour (RFC 4787 §4). Whom it lets in, its
filtering (§5), cannot be told from here: that takes somebody who dials us unasked.
"""

import enum
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from opnode.core.addresses import Endpoint, is_public

_PORTS: Final = 1 << 16


class MappingKind(enum.Enum):
    """Which port others see us at.

    UNKNOWN: too few told. NONE: our own, there is no NAT. INDEPENDENT: one for all of
    them, so a peer can be told it. SEQUENTIAL: another one for each, the next in a row,
    so it can be predicted. RANDOM: another one for each.
    """

    UNKNOWN = "unknown"
    NONE = "none"
    INDEPENDENT = "independent"
    SEQUENTIAL = "sequential"
    RANDOM = "random"

    @property
    def is_dependent(self) -> bool:
        """Whether each address that we talk to sees us at another port."""
        return self in (MappingKind.SEQUENTIAL, MappingKind.RANDOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingConfig:
    """When the reporters are believed.

    Attributes:
        reporters: so many must have told, each at another site.
        recent: the latest ones that count: mappings of long ago say little.
        proof: so many distances that are all even show a NAT that keeps to even ports.
        max_step: ports that are further apart were not given in a row; a provider's NAT
            serves others between two of our mappings.
    """

    reporters: int = 3
    recent: int = 8
    proof: int = 4
    max_step: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """What is known of the NAT at this moment.

    Attributes:
        kind: how it gives out ports.
        host: the address outside, as most recent reporters see it; None: nobody told.
        port: INDEPENDENT and NONE: the one port. SEQUENTIAL: the one that was given
            last. RANDOM: the one that was told last.
        step: SEQUENTIAL: from one port to the next.
        reporters: how many of the recent ones agree on the host.
    """

    kind: MappingKind = MappingKind.UNKNOWN
    host: str | None = None
    port: int = 0
    step: int = 0
    reporters: int = 0

    @property
    def endpoint(self) -> Endpoint | None:
        """Where we were seen last, with the port that says most."""
        return None if self.host is None else Endpoint(self.host, self.port)


class MappingObserver:
    """The latest word of each reporter on where it sees us."""

    def __init__(self, config: MappingConfig | None = None) -> None:
        self._config = config or MappingConfig()
        self._seen: dict[object, Endpoint] = {}
        self._mapping: Mapping | None = None

    def report(self, reporter: object, observed: Endpoint) -> None:
        """One reporter says where it sees us; its earlier word is forgotten.

        Args:
            reporter: its site, so that one site with many addresses counts once.
            observed: as it said.
        """
        if self._seen.pop(reporter, None) != observed:
            self._mapping = None
        self._seen[reporter] = observed
        while len(self._seen) > self._config.recent:
            del self._seen[next(iter(self._seen))]
            self._mapping = None

    def forget(self) -> None:
        """We are somewhere else: nothing that was told counts any more."""
        self._seen.clear()
        self._mapping = None

    def mapping(self, ours: Collection[Endpoint]) -> Mapping:
        """What the reports come to.

        Args:
            ours: the addresses of our own interfaces with our own port.
        """
        if self._mapping is None:
            self._mapping = _judge(list(self._seen.values()), ours, self._config)
        return self._mapping


def _judge(
    seen: Sequence[Endpoint], ours: Collection[Endpoint], config: MappingConfig
) -> Mapping:
    """What these reports come to, the latest one last."""
    # Neighbours see us from inside; what the world sees is what a peer needs.
    outside = [one for one in seen if is_public(one.host)] or list(seen)
    if not outside:
        return Mapping()
    host, reporters = Counter(one.host for one in outside).most_common(1)[0]
    ports = [one.port for one in outside if one.host == host]
    known = Mapping(host=host, port=ports[-1], reporters=reporters)
    if reporters < config.reporters or 2 * reporters <= len(outside):
        return known
    port, count = Counter(ports).most_common(1)[0]
    if 2 * count > len(ports):
        kind = MappingKind.INDEPENDENT
        if Endpoint(host, port) in ours:
            kind = MappingKind.NONE
        return Mapping(kind=kind, host=host, port=port, reporters=reporters)
    if len(set(ports)) < config.reporters:
        # Two ports in turns: a NAT that changed its mind, or a liar. Time will tell.
        return known
    return _judge_dependent(host, ports, config)


def _judge_dependent(host: str, ports: Sequence[int], config: MappingConfig) -> Mapping:
    """Whether ports that all differ were given in a row.

    Of ports drawn at random, eight are as close together as this once in 10^20 times.
    No NAT is known to count down.
    """
    ordered = _unrolled(set(ports))
    gaps = sorted(after - before for before, after in pairwise(ordered))
    if gaps[len(gaps) // 2] > config.max_step:
        return Mapping(
            kind=MappingKind.RANDOM, host=host, port=ports[-1], reporters=len(ports)
        )
    return Mapping(
        kind=MappingKind.SEQUENTIAL,
        host=host,
        port=ordered[-1] % _PORTS,
        # Whoever did not answer took a port as well, so a gap is any number of steps.
        step=math.gcd(*gaps) if len(gaps) >= config.proof else 1,
        reporters=len(ports),
    )


def _unrolled(ports: Collection[int]) -> list[int]:
    """Ports in order, those after the wrap at 65535 counted on beyond it."""
    ordered = sorted(ports)
    around = ordered[0] + _PORTS - ordered[-1]
    gaps = [after - before for before, after in pairwise(ordered)]
    if not gaps or around >= max(gaps):
        return ordered
    start = gaps.index(max(gaps)) + 1
    return ordered[start:] + [port + _PORTS for port in ordered[:start]]
