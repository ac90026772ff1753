"""The direct way of a meeting: rounds of ICE, a new one when the path or a host moved.

Owns the generations of ICE credentials of one connection, what starts another round,
and consent. Refuses to know other ways, and how the other end is told.

The numbered rules (W-…) are those of ``docs/protocols/ice.md``.
"""

import enum
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from opnode.core.addresses import Candidate, IceHalf
from opnode.core.errors import IceFailed
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connections import Connection
from opnode.drivers.ice.connection import CheckView
from opnode.drivers.ice.ice import IceSession
from opnode.protocols.introductions.messages import MAX_CANDIDATES
from opnode.protocols.introductions.signals import MAX_GENERATION
from opnode.protocols.rudp.path import PathState

CODE_NO_PATH: Final = 2
CLOSE_S: Final = 2.0
"""Seconds that closing an ICE session may take: its tasks are cancelled and awaited."""

_MAX_WARM_PATHS: Final = 2
"""Other pairs that are kept open: each costs two small packets a keep-alive."""


class Cause(enum.Enum):
    """Why a round of checks began."""

    INTRODUCTION = "introduction"
    PEER = "the peer began anew"
    NETWORK = "our network changed"
    MAPPING = "our NAT shows us elsewhere"
    SILENCE = "the path fell silent"
    CONSENT = "consent checks came back unanswered"
    UPGRADE = "a direct path would be better"
    LATE = "the peer told another address"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectConfig:
    """Times of the rounds.

    ``trickle_s``: for so long checks go on without hope, as candidates may come late:
    a router that maps a port takes up to 4 s.
    ``checks_s``: after so long checks that were not answered hardly will be.
    ``min_interval_s``: between rounds that we begin because of silence: one has to be
    given the time to work, and the other end's signal may be on its way.
    ``first_retry_s``, ``longest_retry_s``: after a round that failed, and while a relay
    carries; they double. A relay is somebody's money, but each round is 60 packets.
    """

    trickle_s: float = 6.0
    checks_s: float = 8.0
    min_interval_s: float = 2.0
    first_retry_s: float = 5.0
    longest_retry_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One round of checks, for people who want to know what went wrong.

    ``began_s`` is on the clock of trio; ``nominated`` is None while it is under way and
    after it failed.
    """

    began_s: float
    cause: Cause
    generation: int
    local: tuple[Candidate, ...]
    checks: tuple[CheckView, ...]
    nominated: Path | None
    is_over: bool


class _Round:
    """One generation of credentials, and the checks under them."""

    def __init__(self, generation: int, session: IceSession, cause: Cause) -> None:
        self.generation = generation
        self.session = session
        self.cause = cause
        self.began_at = trio.current_time()
        self.scope = trio.CancelScope()
        self.remote: IceHalf | None = None
        self.remote_known = trio.Event()
        self.watch = trio.CancelScope()
        self.nominated: Path | None = None
        self.failure = IceFailed("the checks were given up")
        self.is_over = False

    def learn(self, remote: IceHalf) -> None:
        self.remote = remote
        self.remote_known.set()

    def attempt(self) -> Attempt:
        return Attempt(
            began_s=self.began_at,
            cause=self.cause,
            generation=self.generation,
            local=self.session.local.candidates,
            checks=self.session.checks,
            nominated=self.nominated,
            is_over=self.is_over,
        )


class _Wanted(NamedTuple):
    """The round that comes next; ``remote`` when the other end began it."""

    cause: Cause
    generation: int
    remote: IceHalf | None


NewSession = Callable[[Sequence[str]], Awaitable[IceSession]]
"""Begins a session with fresh credentials; takes the peer's hosts as far as known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectLinks:
    """What the direct way needs around it.

    ``add_path``: told of each address that carried a check; the flag says whether data
    shall go there as soon as it answers.
    ``tell``: called when our half of the present generation is another one.
    ``note``: called when a round begins; what it returns later is its outcome.
    """

    connection: Connection
    new_session: NewSession
    add_path: Callable[[Path, float | None, bool], None]
    tell: Callable[[], None]
    note: Callable[[Callable[[], Attempt]], None]


class DirectWay:
    """Finds the direct path, and finds it again.

    Attributes:
        generation: of the credentials that are checked with.
        half: ours of that generation, with what became known since.
    """

    def __init__(
        self,
        session: IceSession,
        remote: IceHalf,
        check_rto_s: float,
        links: DirectLinks,
        config: DirectConfig | None = None,
    ) -> None:
        self._links = links
        self._config = config or DirectConfig()
        self._check_rto_s = check_rto_s
        self._round = _Round(0, session, Cause.INTRODUCTION)
        self._round.learn(remote)
        # The round whose pair carries, or carried, with its consent.
        self._standing: _Round | None = None
        self._late: tuple[Candidate, ...] = ()
        self._retry_s = self._config.first_retry_s
        self._began_at = -math.inf
        self._wanted: _Wanted | None = None

    @property
    def generation(self) -> int:
        """Of the credentials that are checked with."""
        return self._round.generation

    @property
    def half(self) -> IceHalf:
        """Ours of the present generation, with what became known since."""
        local = self._round.session.local
        return IceHalf(local.ufrag, local.password, (*local.candidates, *self._late))

    # --- what is heard and said ---

    def learn(self, generation: int, remote: IceHalf) -> None:
        """Take the other end's half; one of a newer generation begins a round (W-1)."""
        current, wanted = self._round, self._wanted
        if generation > max(current.generation, wanted.generation if wanted else 0):
            self._want(_Wanted(Cause.PEER, generation, remote))
        elif wanted is not None and generation == wanted.generation:
            self._wanted = wanted._replace(remote=remote)
        elif generation == current.generation:
            self._learn_more(current, remote)

    def add_local(self, candidates: Sequence[Candidate]) -> None:
        """Tell the other end what became known of ourselves, while that may help."""
        known = {candidate.endpoint for candidate in self.half.candidates}
        fresh = tuple(c for c in candidates if c.endpoint not in known)
        if fresh and not (self._round.is_over and self.is_direct):
            self._late = (*self._late, *fresh)[-MAX_CANDIDATES:]
            self._links.tell()

    def begin(self, cause: Cause) -> None:
        """Begin another round, unless the present one may still help (W-2)."""
        current, now = self._round, trio.current_time()
        is_early = now < self._began_at + self._config.min_interval_s
        checked_until = current.began_at + self._config.checks_s
        is_busy = is_early or (not current.is_over and now < checked_until)
        if self._wanted is not None or (is_busy and cause is not Cause.NETWORK):
            return
        if current.generation < MAX_GENERATION:
            self._began_at = now
            self._want(_Wanted(cause, current.generation + 1, None))

    def trust(self) -> None:
        """The other end has proven that it is there: check without restraint."""
        self._round.session.trust()

    @property
    def is_direct(self) -> bool:
        """Whether data takes a direct path that is not in doubt."""
        path, standing = self._links.connection.path, self._standing
        if path is None or path.kind is not PathKind.DIRECT or standing is None:
            return False
        return not (
            standing.session.doubtful.is_set() or standing.session.lost.is_set()
        )

    def _learn_more(self, current: _Round, remote: IceHalf) -> None:
        known = current.remote
        if known is None:
            current.learn(remote)
            return
        before = {candidate.endpoint for candidate in known.candidates}
        if remote.ufrag != known.ufrag or before.issuperset(
            candidate.endpoint for candidate in remote.candidates
        ):
            return
        current.remote = remote
        if not current.is_over:
            current.session.add_remote(remote.candidates)
        elif not self.is_direct:
            self.begin(Cause.LATE)

    def _want(self, wanted: "_Wanted") -> None:
        self._wanted = wanted
        self._round.scope.cancel()

    # --- the rounds ---

    async def run(self) -> None:
        """Go round after round until cancelled.

        Raises:
            IceFailed: the first round led nowhere, and no other way carries.
        """
        failure: IceFailed | None = None
        try:
            async with trio.open_nursery() as nursery:
                while failure is None:
                    failure = await self._run_round(nursery)
                nursery.cancel_scope.cancel()
        finally:
            for one in {self._round, self._standing} - {None}:
                assert one is not None
                with trio.move_on_after(CLOSE_S, shield=True):
                    await one.session.close()

        raise failure

    async def _run_round(self, nursery: trio.Nursery) -> IceFailed | None:
        """Check, and wait for the next round; what failed when all is over."""
        current = self._round
        self._links.note(current.attempt)
        with current.scope:
            if await self._check(current):
                await self._replace_standing(current)
                nursery.start_soon(self._watch, current)
            elif current.generation == 0 and self._is_nowhere():
                return current.failure
            await self._wait_retry()
        await self._next_round()
        return None

    async def _check(self, current: _Round) -> bool:
        """Check pairs until one is nominated; the first packet leaves at once."""
        await current.remote_known.wait()
        assert current.remote is not None
        session = current.session
        try:
            endpoint = await session.connect(
                current.remote, self._check_rto_s, trickle_s=self._config.trickle_s
            )
        except IceFailed as failure:
            current.failure = failure
            return False
        finally:
            current.is_over = True
        current.nominated = Path(PathKind.DIRECT, endpoint)
        self._links.add_path(current.nominated, session.round_trip_s, True)
        for other in session.alternatives[:_MAX_WARM_PATHS]:
            self._links.add_path(Path(PathKind.DIRECT, other), None, False)
        self._retry_s = self._config.first_retry_s
        return True

    async def _replace_standing(self, current: _Round) -> None:
        before, self._standing = self._standing, current
        if before is not None:
            before.watch.cancel()
            await before.session.close()

    async def _watch(self, current: _Round) -> None:
        """Follow the consent of the pair that carries; other rounds go on beside."""
        session = current.session
        with current.watch:
            await session.doubtful.wait()
            self.begin(Cause.CONSENT)
            await session.lost.wait()
            self._on_lost(current)

    def _on_lost(self, current: _Round) -> None:
        """W-4: consent that ended on one pair is nothing to another path."""
        connection = self._links.connection
        others = connection.paths()[1:]
        is_elsewhere = connection.path != current.nominated
        if is_elsewhere or any(p.state is PathState.VALIDATED for p in others):
            return
        connection.close(CODE_NO_PATH, "the peer no longer consents to this path")

    async def _wait_retry(self) -> None:
        """Later and later: whoever has no direct path now seldom gets one soon."""
        while True:
            await trio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, self._config.longest_retry_s)
            if not self.is_direct:
                self.begin(Cause.UPGRADE)

    async def _next_round(self) -> None:
        current = self._round
        if current is not self._standing:
            await current.session.close()
        known = current.remote.candidates if current.remote else ()
        session = await self._links.new_session([c.endpoint.host for c in known])
        # What was learned while we waited counts, too.
        assert self._wanted is not None
        cause, generation, remote = self._wanted
        self._wanted, self._late = None, ()
        self._round = _Round(generation, session, cause)
        # W-3: who has our keys need not be checked sparingly.
        session.trust()
        if remote is not None:
            self._round.learn(remote)
        self._links.tell()

    def _is_nowhere(self) -> bool:
        return self._links.connection.path is None
