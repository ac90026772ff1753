"""Whether others can reach this node: what counts as evidence, and for how long.

Owns the nonces under way, the evidence of one round, and when the next one is due.
Refuses to know who is asked, how datagrams travel, and what is done about a change.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint, is_public, network_of
from opnode.core.crypto import constant_time_equal

_IPV4_SIZE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachabilityConfig:
    """Limits and periods of the proof.

    Attributes:
        needed: unrelated networks that must have reached us: one may be in front of
            the same NAT, and one may lie.
        asked: helpers asked in one round; two may be busy or know nobody else.
        settle_s: a node that has just started is not worth an entry in others' tables:
            many are only tried out.
        round_s: how long a round waits; two hops with repetitions need two seconds.
        again_s: the pause after a round that failed, eight times as long after each
            other, up to ``longest_s``: a round is 4.4 kB.
        check_s: a proof is renewed after it; tables live on nodes that are reachable.
        longest_s: who is behind a NAT stays there; another address begins anew.
        failures: rounds in a row that fail until a server is a leaf again.
    """

    needed: int = 3
    asked: int = 5
    settle_s: float = 30.0
    round_s: float = 10.0
    again_s: float = 60.0
    check_s: float = 3600.0
    longest_s: float = 14_400.0
    failures: int = 2


class Standing(enum.Enum):
    """What is known of our port: nothing yet, or that strangers reach it."""

    UNPROVEN = enum.auto()
    PROVEN = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachabilityStatistics:
    """What is known of our port at this instant.

    Attributes:
        is_proven: strangers reached us.
        networks: unrelated ones that did, in the last round that succeeded.
        failures: rounds in a row that did not succeed since.
    """

    is_proven: bool
    networks: int
    failures: int


class Question(NamedTuple):
    """One helper to ask, and the secret that whoever dials us has to bring."""

    helper: Endpoint
    nonce: bytes


class Reachability:
    """The proof of one node's port, again and again.

    UNPROVEN → PROVEN when enough unrelated networks dialled; PROVEN → UNPROVEN when
    that failed twice in a row. A proof is of one address: another one is proven anew.
    """

    def __init__(
        self,
        draw_nonce: Callable[[], bytes],
        now: float,
        config: ReachabilityConfig | None = None,
    ) -> None:
        """``draw_nonce`` gives 16 secret bytes, others at every call."""
        self._config = config or ReachabilityConfig()
        self._draw_nonce = draw_nonce
        self._standing = Standing.UNPROVEN
        self._address: Endpoint | None = None
        # The network of whoever was asked, by the nonce that was given to it.
        self._open: dict[bytes, bytes] = {}
        self._networks: set[bytes] = set()
        self._needed = self._config.needed
        self._ends_at: float | None = None
        self._next_at = now + self._config.settle_s
        self._failures = 0
        self._proven_by = 0

    @property
    def standing(self) -> Standing:
        """Whether our port is proven."""
        return self._standing

    @property
    def is_asking(self) -> bool:
        """Whether a round is under way."""
        return self._ends_at is not None

    def statistics(self) -> ReachabilityStatistics:
        """The evidence."""
        is_proven = self._standing is Standing.PROVEN
        return ReachabilityStatistics(
            is_proven=is_proven,
            networks=self._proven_by if is_proven else 0,
            failures=self._failures,
        )

    def next_deadline(self) -> float:
        """When ``handle_deadline`` or a new round is due."""
        return self._next_at if self._ends_at is None else self._ends_at

    def moved(self, address: Endpoint, now: float) -> None:
        """Others see us at this address now: a proof of another one is worth little."""
        if address == self._address:
            return
        is_first = self._address is None
        self._address = address
        if not is_first:
            self._end()
            self._failures = 0
            self._next_at = min(self._next_at, now)

    def retry(self, now: float) -> None:
        """Something was done for our port: ask soon, however often it failed."""
        self._failures = 0
        self._next_at = min(self._next_at, now + self._config.settle_s)

    def begin(self, helpers: Iterable[Endpoint], now: float) -> list[Question]:
        """Whom to ask now, one of each network; nobody to ask counts as a failure.

        Args:
            helpers: servers that we know, in the order of our liking.
            now: seconds.
        """
        assert not self.is_asking
        chosen: dict[bytes, Endpoint] = {}
        for helper in helpers:
            chosen.setdefault(network_of(helper.host), helper)
        self._needed = self._networks_needed(len(chosen))
        self._ends_at = now + self._config.round_s
        questions = []
        for network, helper in list(chosen.items())[: self._config.asked]:
            nonce = self._draw_nonce()
            self._open[nonce] = network
            questions.append(Question(helper, nonce))
        return questions

    def dialled_untrusted(
        self, nonce: bytes, source: Endpoint, now: float, *, is_stranger: bool
    ) -> bool:
        """Somebody reached us; whether it brought a nonce that is under way.

        Args:
            nonce: what it brought.
            source: where it came from.
            now: seconds.
            is_stranger: we did not talk to that address lately, so no NAT lets it in
                on our account. Others prove nothing.
        """
        known = next((n for n in self._open if constant_time_equal(n, nonce)), None)
        if known is None:
            return False
        # One proof for each helper: who is asked cannot answer for others.
        del self._open[known]
        if is_stranger:
            self._networks.add(network_of(source.host))
        if len(self._networks) >= self._needed:
            self._succeed(now)
        return True

    def handle_deadline(self, now: float) -> None:
        """End a round whose time is over."""
        if self._ends_at is not None and now >= self._ends_at:
            self._fail(now)

    def _networks_needed(self, known: int) -> int:
        """How many networks: in a private one, all that there are may be enough.

        A public node that is not told its role waits until there are three others.
        """
        address = self._address
        if address is None or is_public(address.host):
            return self._config.needed
        return max(1, min(self._config.needed, known))

    def _succeed(self, now: float) -> None:
        self._standing = Standing.PROVEN
        self._proven_by = len(self._networks)
        self._failures = 0
        self._end()
        self._next_at = now + self._config.check_s

    def _fail(self, now: float) -> None:
        self._failures += 1
        if self._failures >= self._config.failures:
            self._standing = Standing.UNPROVEN
        self._end()
        pause_s = self._config.again_s * 8.0 ** min(self._failures - 1, 8)
        self._next_at = now + min(pause_s, self._config.longest_s)

    def _end(self) -> None:
        self._open.clear()
        self._networks.clear()
        self._ends_at = None
