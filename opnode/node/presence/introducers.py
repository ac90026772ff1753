"""The introducers that this node holds: chosen, registered with, kept, replaced.

Owns the registrations and when each introducer is written to. Refuses to know what is
published of them, and what they pass on.
"""

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import network_of, public_subnet
from opnode.core.crypto import SigningKey
from opnode.core.errors import NetworkError, RefusalCode, RequestRefused
from opnode.core.ids import Contact
from opnode.core.peerfile import IntroducerEntry
from opnode.drivers.introductions import Introductions
from opnode.node.presence.knocker import Knock, Knocker
from opnode.protocols.binding_lifetime import BindingLifetime, BindingLifetimeView
from opnode.protocols.introductions.introducer import Standing
from opnode.protocols.rpc.messages import handle_of

logger = logging.getLogger(__name__)

INTRODUCERS: Final = 3
"""Two may vanish at once before anybody notices."""

OPEN_INTERVAL_S: Final = 75.0
"""Whoever everybody reaches needs no mapping kept: one of three is asked each 25 s
whether it lives."""

MAX_ASKED: Final = 24
"""Nodes asked in one search for introducers: the nearest 20, and some others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldIntroducer:
    """One introducer, for people to look at.

    Attributes:
        entry: as the presence names it.
        silence_s: since we heard of it.
        registered_s: for how long it promised to keep us.
    """

    entry: IntroducerEntry
    silence_s: float
    registered_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroducersStatistics:
    """The introducers at one instant; counters since the start.

    Attributes:
        held: who introduces us.
        binding: how long a NAT keeps the way to us open, as far as it was measured.
        replaced: introducers that fell silent or forgot us.
        busy: nodes that had no room for us.
        knocks: outcomes of knocks at our own door.
    """

    held: tuple[HeldIntroducer, ...]
    binding: BindingLifetimeView
    replaced: int
    busy: int
    knocks: dict[Knock, int]


class _Held:
    """What is remembered of one introducer: moments in seconds of trio's clock."""

    __slots__ = ("expires_at", "heard_at", "renew_at")

    def __init__(self, granted_s: float) -> None:
        self.heard_at = trio.current_time()
        self.renew_at = self.heard_at + granted_s / 2
        self.expires_at = self.heard_at + granted_s


class Introducers:
    """Up to three nodes that pass us introductions.

    Attributes:
        is_filtered: asked whether something in front of us forgets whom to let in.
        candidates: finds nodes worth asking, the best first.
    """

    def __init__(
        self,
        introductions: Introductions,
        knocker: Knocker,
        signing: SigningKey,
        *,
        registration_lifetime_s: int,
        binding: BindingLifetime | None = None,
        rng: random.Random,
    ) -> None:
        self.is_filtered: Callable[[], bool] = _filtered
        self._introductions = introductions
        self._knocker = knocker
        self._signing = signing
        self._lifetime_s = registration_lifetime_s
        self._rng = rng
        self._held: dict[Contact, _Held] = {}
        self._binding = binding or BindingLifetime()
        self._named: list[Contact] = []
        self._is_restricted = False
        self._replaced = self._busy = 0
        self._knocks: dict[Knock, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def adopt(self, signing: SigningKey) -> None:
        """Register with this key from the next time on."""
        self._signing = signing

    @property
    def entries(self) -> tuple[IntroducerEntry, ...]:
        """Who introduces us, as a presence names them."""
        return tuple(self._entry(contact) for contact in sorted(self._held, key=_by_id))

    def moved(self) -> None:
        """We are in another network: what was measured is of the old one."""
        self._binding.restart()

    def restrict(self, allowed: Sequence[Contact]) -> None:
        """Hold these alone, as they alone reach us; with none, whoever is held stays.

        Nothing is learned of a NAT by whom we reach without UDP.
        """
        self._is_restricted = bool(allowed)
        if allowed:
            self._held = {c: held for c, held in self._held.items() if c in allowed}

    async def register_again(self) -> None:
        """Register with all that we hold, at once; those that are silent go."""
        async with trio.open_nursery() as nursery:
            for contact in list(self._held):
                nursery.start_soon(self._register, contact)

    async def fill(self, candidates: Sequence[Contact]) -> None:
        """Ask others until three have agreed: the first candidates first.

        Of one /24 or /48 only one is asked, and of one /16 or /32, as long as there are
        others. Those that busy nodes name instead of themselves are asked as well.
        """
        asked: set[Contact] = set(self._held)
        self._named = []
        while len(self._held) < INTRODUCERS and len(asked) < MAX_ASKED:
            fresh = [c for c in (*candidates, *self._named) if c not in asked]
            chosen = diverse(self._held, fresh, INTRODUCERS - len(self._held))
            if not chosen:
                return
            asked.update(chosen)
            async with trio.open_nursery() as nursery:
                for contact in chosen:
                    nursery.start_soon(self._try, contact)

    async def _try(self, contact: Contact) -> None:
        if contact in self._named and not await self._introductions.is_alive(contact):
            return
        await self._register(contact)

    async def keep_next(self) -> bool:
        """Write to the one that we did not hear for longest; whether all is well.

        Before that, it may be looked whether it still gets through to us.
        """
        if not self._held:
            await trio.lowlevel.checkpoint()
            return False
        contact = min(self._held, key=lambda c: self._held[c].heard_at)
        held = self._held[contact]
        now = trio.current_time()
        # Lookups and the like write to it as well, and that opens the NAT, too.
        silence_s = self._introductions.silence_s(contact)
        # And so does what is written to the others, where one mapping is for all.
        quiet_s = min(map(self._introductions.silence_s, self._held))
        outcome = Knock.UNKNOWN
        is_measured = self.is_filtered() and not self._is_restricted
        if is_measured and self._binding.is_probe_due(silence_s, now):
            outcome = await self._knock(contact, silence_s)
        if outcome is Knock.LOST:
            # The others were left in silence for longer than we now know to be good.
            before = len(self._held)
            await self.register_again()
            return len(self._held) == before
        if outcome is Knock.FORGOTTEN or trio.current_time() >= held.renew_at:
            await self._register(contact)
            return contact in self._held
        standing = await self._introductions.standing(contact)
        if standing is Standing.MOVED and is_measured:
            # The mapping ended, however long each of them may be left in silence:
            # they take turns, so that is a third of the interval.
            self._binding.lost(quiet_s * len(self._held), trio.current_time())
        if standing is not Standing.KEPT:
            return False
        held.heard_at = trio.current_time()
        return True

    @property
    def pause_s(self) -> float:
        """Until the next one is written to: they take turns."""
        interval_s = OPEN_INTERVAL_S
        if self.is_filtered():
            interval_s = self._binding.interval_s
        return interval_s / max(1, len(self._held))

    @property
    def silence_s(self) -> float:
        """For how long whoever may write to us can be left in silence."""
        return self._binding.safe_s

    async def leave(self) -> None:
        """Tell all of them that we go."""
        async with trio.open_nursery() as nursery:
            for contact in list(self._held):
                nursery.start_soon(self._unregister, contact)

    def statistics(self) -> IntroducersStatistics:
        """Read the counters."""
        now = trio.current_time()
        return IntroducersStatistics(
            held=tuple(
                HeldIntroducer(
                    entry=self._entry(contact),
                    silence_s=now - held.heard_at,
                    registered_s=held.expires_at - now,
                )
                for contact, held in self._held.items()
            ),
            binding=self._binding.view(),
            replaced=self._replaced,
            busy=self._busy,
            knocks=dict(self._knocks),
        )

    async def _knock(self, contact: Contact, silence_s: float) -> Knock:
        outcome = await self._knocker.knock(contact, handle_of(self._signing.public))
        self._knocks[outcome] = self._knocks.get(outcome, 0) + 1
        now = trio.current_time()
        if outcome is Knock.HEARD:
            self._binding.survived(silence_s, now)
        elif outcome is Knock.LOST:
            logger.info("%s got not in after %.0f s", contact.endpoint, silence_s)
            self._binding.lost(silence_s, now)
        return outcome

    async def _register(self, contact: Contact) -> None:
        try:
            granted_s = await self._introductions.register(
                contact, self._signing, self._lifetime_s
            )
        except NetworkError as error:
            logger.info("introducer %s: %s", contact.endpoint, error)
            self._replaced += self._held.pop(contact, None) is not None
            if isinstance(error, RequestRefused) and error.code == RefusalCode.BUSY:
                self._busy += 1
                self._named += self._introductions.alternates_of(contact, error)
            return
        self._held[contact] = _Held(granted_s)

    async def _unregister(self, contact: Contact) -> None:
        try:
            await self._introductions.register(contact, self._signing, 0)
        except NetworkError as error:
            logger.debug("introducer %s: %s", contact.endpoint, error)

    def _entry(self, contact: Contact) -> IntroducerEntry:
        return IntroducerEntry(
            node_id=contact.node_id,
            endpoint=contact.endpoint,
            handle=handle_of(self._signing.public),
        )


def diverse(
    held: Iterable[Contact], candidates: Sequence[Contact], count: int
) -> list[Contact]:
    """The first so many candidates that share the least with each other and ``held``.

    Rather of other networks (/16, /32), else of other subnets (/24, /48), else any: a
    single introducer is worse than two in one place. In a private network every host
    is its own.
    """
    chosen: list[Contact] = []
    for share in (_network, _subnet, None):
        for candidate in candidates:
            taken = [*held, *chosen]
            if len(chosen) == count:
                return chosen
            if candidate in taken:
                continue
            if share is None or share(candidate) not in map(share, taken):
                chosen.append(candidate)
    return chosen


def _network(contact: Contact) -> object:
    return network_of(contact.endpoint.host) if _is_public(contact) else contact


def _subnet(contact: Contact) -> object:
    return public_subnet(contact.endpoint.host) or contact


def _is_public(contact: Contact) -> bool:
    return public_subnet(contact.endpoint.host) is not None


def _by_id(contact: Contact) -> bytes:
    return contact.node_id


def _filtered() -> bool:
    return True
