"""Who may have datagrams passed on to whom, and how much: the sessions of a relay.

Owns sessions, their two members, the limits and their end (docs/protocols/relay.md).
Refuses to know frames, sockets, tokens, and what is inside the datagrams.
"""

import enum
from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint, site_of
from opnode.core.crypto import constant_time_equal

SESSION_LENGTH: Final = 8
FRAME_PREFIX: Final = 1 + SESSION_LENGTH
"""A frame is the byte 0xD0, the session, and the datagram that is carried."""

_MEMBERS: Final = 2


class RelayEnd(enum.IntEnum):
    """Why nothing more is passed on in a session; the numbers travel."""

    LEFT = 1
    BYTES = 2
    LIFETIME = 3
    ALONE = 4
    STOPPED = 5
    SHARE = 6


class JoinRefusal(enum.Enum):
    """Why somebody may not join."""

    FULL = "as many sessions as this relay holds"
    HOST_FULL = "as many sessions as one host may have"
    SPENT = "all that this relay passes on is in use"
    TAKEN = "two are in this session already"
    RESTING = "these two have used their share here"


class JoinRefused(Exception):  # noqa: N818 - reads as the verdict that it is
    """The relay does not take this member."""

    def __init__(self, reason: JoinRefusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """How much an operator gives away.

    Attributes:
        total_bytes_per_s: of all sessions together; 1 MB/s is a tenth of a common
            server's 100 Mbit/s.
        session_bytes_per_s: of one session, both directions; two of a good video call.
        session_bytes: of one session; a call of an hour, or a film.
        lifetime_s: of one session; whoever talks longer asks again, or elsewhere.
        burst_s: how far above its rate a session may be for a moment. A policer that
            takes no burst costs a window-based sender most of its rate.
        min_burst: bytes of such a burst at least: what leaves a sender in one call.
        max_sessions: 1 kB each.
        sessions_per_host: an office behind one address; no more of the whole.
        alone_s: the other end has heard of the session by then, or never will.
        member_s: a member that did not join again for so long has lost its address,
            which may be somebody else's by now; five keep-alives.
        rest_s: two hosts that used up a session may not have the next one here for so
            long: others' turn, and they find another relay.
        max_resting: such pairs remembered, the oldest is forgotten; 200 B each.
        least_bytes_per_s: what each session has at least when all send: a voice call.
            No new one is taken while that could not be kept.
        spent_s: for so long after the rate of all was used up.
    """

    total_bytes_per_s: float = 1e6
    session_bytes_per_s: float = 512e3
    session_bytes: int = 1 << 30
    lifetime_s: float = 7200.0
    burst_s: float = 0.1
    min_burst: int = 1 << 17
    max_sessions: int = 1024
    sessions_per_host: int = 32
    alone_s: float = 30.0
    member_s: float = 125.0
    rest_s: float = 600.0
    max_resting: int = 1024
    least_bytes_per_s: float = 16e3
    spent_s: float = 5.0


class Terms(NamedTuple):
    """What a member is told when it joined: the limits that are left of its session.

    ``is_news``: it was not there before, so the other end may want to know.
    """

    is_complete: bool
    is_news: bool
    lifetime_s: float
    bytes_per_s: float
    bytes_left: int


class Place(NamedTuple):
    """Where a member is: what its frames come from, and whose share of the limits.

    ``host`` is not the endpoint's where a carrier brings them, as a WebSocket does.
    """

    endpoint: Endpoint
    host: str

    @property
    def site(self) -> bytes:
        """For whom a limit counts: an IPv4 address, or the /64 of an IPv6 one."""
        return site_of(self.host)


class Ended(NamedTuple):
    """A session is over; these are to be told."""

    session: bytes
    reason: RelayEnd
    members: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStatistics:
    """What a relay does and did; bytes are those of whole frames, as they went out."""

    sessions: int
    complete: int
    bytes_relayed: int
    bytes_dropped: int
    opened: int
    ended: tuple[tuple[str, int], ...]
    refused: tuple[tuple[str, int], ...]


class _Member:
    """One end: its secret, where it is, and when it last said so."""

    __slots__ = ("endpoint", "secret", "seen_at", "site")

    def __init__(self, secret: bytes, place: "Place", now: float) -> None:
        self.secret = secret
        self.endpoint, self.site = place.endpoint, place.site
        self.seen_at = now


class _Session:
    """Up to two members and what is left of their limits."""

    __slots__ = (
        "bytes_left",
        "expires_at",
        "fair_at",
        "full_at",
        "members",
        "name",
        "opened_at",
    )

    def __init__(self, name: bytes, config: RelayConfig, now: float) -> None:
        self.name = name
        self.members: list[_Member] = []
        self.bytes_left = config.session_bytes
        self.opened_at = now
        self.expires_at = now + config.lifetime_s
        # When its buckets are full again, as in GCRA: that of its own rate, and that of
        # its share when all send at once.
        self.full_at = self.fair_at = now


class RelaySessions:
    """The sessions of one relay."""

    def __init__(self, config: RelayConfig) -> None:
        self._config = config
        self._sessions: dict[bytes, _Session] = {}
        self._sites: Counter[bytes] = Counter()
        self._resting: dict[frozenset[bytes], float] = {}
        self._ended: list[Ended] = []
        self._ends: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._full_at = float("-inf")
        self._spent_at = float("-inf")
        self._opened = 0
        self._bytes_relayed = self._bytes_dropped = 0
        rate = min(config.session_bytes_per_s, config.total_bytes_per_s)
        self._session_rate = rate
        self._session_burst_s = max(config.burst_s, config.min_burst / rate)
        self._total_burst_s = max(
            config.burst_s, config.min_burst / config.total_bytes_per_s
        )

    def __len__(self) -> int:
        return len(self._sessions)

    # --- members ----------------------------------------------------------------------

    def join(self, name: bytes, secret: bytes, place: Place, now: float) -> Terms:
        """Take in a member, or hear again of one; the address has to be proven.

        Args:
            name: the session, 8 bytes.
            secret: the member's; the same one from a new address moves this end.
            place: where the member is.
            now: seconds.

        Raises:
            JoinRefused: and why.
        """
        session = self._sessions.get(name)
        try:
            if session is None:
                is_news = True
                session = self._open(name, secret, place, now)
            else:
                is_news = self._enter(session, secret, place, now)
        except JoinRefused as refusal:
            self._refusals[refusal.reason.name] += 1
            raise
        return Terms(
            len(session.members) == _MEMBERS,
            is_news,
            max(session.expires_at - now, 0.0),
            self._session_rate,
            session.bytes_left,
        )

    def other_end(self, name: bytes, source: Endpoint) -> Endpoint | None:
        """Where the other member is; None when there is none, or for a stranger."""
        session = self._sessions.get(name)
        if session is None or len(session.members) < _MEMBERS:
            return None
        first, second = session.members
        if source == first.endpoint:
            return second.endpoint
        return first.endpoint if source == second.endpoint else None

    def leave(self, name: bytes, source: Endpoint, now: float) -> bool:
        """A member ends the session; false for anybody else."""
        session = self._sessions.get(name)
        if session is None or all(m.endpoint != source for m in session.members):
            return False
        self._end(session, RelayEnd.LEFT, now, told=source)
        return True

    def stop(self, now: float) -> None:
        """End all sessions, as when the relay goes."""
        for session in tuple(self._sessions.values()):
            self._end(session, RelayEnd.STOPPED, now)

    # --- what passes ------------------------------------------------------------------

    def forward_untrusted(
        self, name: bytes, source: Endpoint, size: int, step: int, now: float
    ) -> tuple[Endpoint, int] | None:
        """Where a run of frames goes, and how many bytes of it; None: nowhere.

        The hot path of a relay: one look-up a run of up to 54 frames.

        Args:
            name: the session that the frames name.
            source: where they came from; only a member's address is heard.
            size: bytes of the run.
            step: bytes of each frame; the last one may be shorter.
            now: seconds.
        """
        destination = self.other_end(name, source)
        if destination is None:
            self._bytes_dropped += size
            return None
        session = self._sessions[name]
        allowed = self._take(session, size, step, now)
        self._bytes_dropped += size - allowed
        if not allowed:
            return None
        self._bytes_relayed += allowed
        return destination, allowed

    # --- time -------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_deadline`` is due; None while there is no session."""
        return min(map(self._ends_at, self._sessions.values()), default=None)

    def handle_deadline(self, now: float) -> None:
        """End what is over by now."""
        config = self._config
        for session in tuple(self._sessions.values()):
            if now >= session.expires_at:
                self._end(session, RelayEnd.LIFETIME, now)
            elif now >= self._ends_at(session):
                self._end(session, RelayEnd.ALONE, now)
        for pair, until in tuple(self._resting.items()):
            if now < until:
                break
            del self._resting[pair]
        assert len(self._resting) <= config.max_resting

    @property
    def has_ended(self) -> bool:
        """Whether ``next_ended`` has one."""
        return bool(self._ended)

    def next_ended(self) -> Ended | None:
        """A session that ended since, whose members are to be told."""
        return self._ended.pop(0) if self._ended else None

    def statistics(self) -> RelayStatistics:
        """Read the counters."""
        sessions = self._sessions.values()
        return RelayStatistics(
            sessions=len(sessions),
            complete=sum(len(s.members) == _MEMBERS for s in sessions),
            bytes_relayed=self._bytes_relayed,
            bytes_dropped=self._bytes_dropped,
            opened=self._opened,
            ended=tuple(sorted(self._ends.items())),
            refused=tuple(sorted(self._refusals.items())),
        )

    # --- helpers ----------------------------------------------------------------------

    def _open(self, name: bytes, secret: bytes, place: Place, now: float) -> _Session:
        config = self._config
        if len(self._sessions) >= config.max_sessions:
            raise JoinRefused(JoinRefusal.FULL)
        share = config.total_bytes_per_s / (len(self._sessions) + 1)
        if now < self._spent_at + config.spent_s and share < config.least_bytes_per_s:
            raise JoinRefused(JoinRefusal.SPENT)
        self._count_site(place.site)
        session = self._sessions[name] = _Session(name, config, now)
        session.members.append(_Member(secret, place, now))
        self._opened += 1
        return session

    def _enter(
        self, session: _Session, secret: bytes, place: Place, now: float
    ) -> bool:
        """Hear of a member; whether it was not there before."""
        known = [m for m in session.members if constant_time_equal(m.secret, secret)]
        others = [member for member in session.members if member not in known]
        # One address is one end: two there would be sent their own frames.
        if any(member.endpoint == place.endpoint for member in others):
            raise JoinRefused(JoinRefusal.TAKEN)
        if known:
            known[0].seen_at = now
            return self._move(known[0], place)
        if len(session.members) == _MEMBERS:
            raise JoinRefused(JoinRefusal.TAKEN)
        pair = frozenset((session.members[0].site, place.site))
        if self._resting.get(pair, now) > now:
            self._end(session, RelayEnd.SHARE, now)
            raise JoinRefused(JoinRefusal.RESTING)
        self._count_site(place.site)
        session.members.append(_Member(secret, place, now))
        return True

    def _move(self, member: _Member, place: Place) -> bool:
        if place.endpoint == member.endpoint:
            return False
        if place.site != member.site:
            self._count_site(place.site)
            self._forget_site(member.site)
        member.endpoint, member.site = place.endpoint, place.site
        return True

    def _count_site(self, site: bytes) -> None:
        if self._sites[site] >= self._config.sessions_per_host:
            raise JoinRefused(JoinRefusal.HOST_FULL)
        self._sites[site] += 1

    def _forget_site(self, site: bytes) -> None:
        self._sites[site] -= 1
        if self._sites[site] <= 0:
            del self._sites[site]

    def _take(self, session: _Session, size: int, step: int, now: float) -> int:
        """How much of a run passes: whole frames, the first ones.

        The second half of the common bucket is for those who are below their share, so
        that whoever sends most loses most, and nobody's call ends for a download.
        """
        total, burst_s = self._config.total_bytes_per_s, self._total_burst_s
        used_s = max(self._full_at - now, 0.0)
        room = (burst_s - used_s) * total
        if size > room - burst_s * total / 2:
            share = total / len(self._sessions)
            fair_s = max(session.fair_at - now, 0.0)
            room = min(room, (self._session_burst_s - fair_s) * share)
            if room < size:
                self._spent_at = now
        own_s = self._session_burst_s - max(session.full_at - now, 0.0)
        room = min(room, own_s * self._session_rate, float(session.bytes_left))
        allowed = size if room >= size else max(int(room) // step * step, 0)
        self._full_at = max(self._full_at, now) + allowed / total
        session.full_at = max(session.full_at, now) + allowed / self._session_rate
        # Nobody pays for long for what was free when it was taken.
        used_share_s = allowed * len(self._sessions) / total
        fair_at = max(session.fair_at, now) + used_share_s
        session.fair_at = min(fair_at, now + self._session_burst_s)
        session.bytes_left -= allowed
        if session.bytes_left < (step if allowed < size else 1):
            # What is left is less than the frame that did not pass.
            self._end(session, RelayEnd.BYTES, now)
        return allowed

    def _ends_at(self, session: _Session) -> float:
        config = self._config
        silent_at = min(m.seen_at for m in session.members) + config.member_s
        at = min(session.expires_at, silent_at)
        if len(session.members) < _MEMBERS:
            at = min(at, session.opened_at + config.alone_s)
        return at

    def _end(
        self,
        session: _Session,
        reason: RelayEnd,
        now: float,
        *,
        told: Endpoint | None = None,
    ) -> None:
        if self._sessions.pop(session.name, None) is None:
            return
        self._ends[reason.name] += 1
        endpoints = [member.endpoint for member in session.members]
        for member in session.members:
            self._forget_site(member.site)
        others = tuple(endpoint for endpoint in endpoints if endpoint != told)
        self._ended.append(Ended(session.name, reason, others))
        if reason in (RelayEnd.BYTES, RelayEnd.LIFETIME):
            self._rest(session, now)

    def _rest(self, session: _Session, now: float) -> None:
        if len(session.members) < _MEMBERS:
            return
        pair = frozenset(member.site for member in session.members)
        self._resting.pop(pair, None)
        self._resting[pair] = now + self._config.rest_s
        if len(self._resting) > self._config.max_resting:
            del self._resting[next(iter(self._resting))]
