"""One path of a connection: an address of the peer and what is known of the way to it.

Owns the proof that the peer is there, the round trip, the losses of probes and what may
be sent before the proof. Refuses to know the other paths and which of them is used.
"""

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint, is_carried
from opnode.protocols.rudp.mtu_search import (
    BASE_SIZE,
    MAX_CARRIED_SIZE,
    MAX_SIZE_IPV6,
    MtuSearch,
)
from opnode.protocols.rudp.rtt import RttEstimator

CARRIED_RANK: Final = 2
"""The rank of a path that somebody else's machine passes on: direct ones have 0."""
MAX_ATTEMPTS: Final = 3
"""Challenges without an answer after which a path has failed, a timeout apart."""
# RFC 9000 §8: what may be sent for each byte that came from an unproven address.
_AMPLIFICATION_LIMIT = 3
# A packet with a challenge and its answers and nothing else; it draws no reply that is
# larger.
_BARE_CHALLENGE = 80
# After its first failure a path of a better kind is tried after twice so long, then the
# double of it, so often: for eleven minutes.
_TRY_AGAIN_S = 5.0
_MAX_TRIES = 6
# Probes that may still be answered; a late answer to an older one is not missed.
_MAX_PROBES = 8
# Challenges of the peer that wait for their answer; more in one flush are a flood.
_MAX_RESPONSES = 4
# A path that loses half of its probes is as good as one that is twice as long. One loss
# alone makes a path a quarter longer, which does not move anybody.
_LOSS_WEIGHT = 2.0
_LOSS_GAIN = 1 / 8


class PathState(enum.Enum):
    """What is known of a path.

    UNVALIDATED: the peer may not be there. VALIDATED: it answered from there.
    FAILED: it answered no challenge, or no longer does.
    """

    UNVALIDATED = "unvalidated"
    VALIDATED = "validated"
    FAILED = "failed"


class Probe(NamedTuple):
    """A challenge under way: when it left, and in a packet of how many bytes."""

    sent_at: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStatistics:
    """What is known of a path.

    Attributes:
        endpoint: Where the peer is on it.
        state: Whether the peer answered from there.
        rtt_s: Smoothed round trip of its probes, None before the first answer.
        loss: Share of its probes that was lost, newer ones weighing more.
        packet_size: The largest packet that may be sent on it.
        bytes_sent: What left for it, probes included.
        bytes_received: Authentic packets that came from it.
    """

    endpoint: Endpoint
    state: PathState
    rtt_s: float | None
    loss: float
    packet_size: int
    bytes_sent: int
    bytes_received: int


class Path:
    """A remote endpoint, its proof and its figures."""

    __slots__ = (
        "_attempts",
        "_check_began_at",
        "_min_pto_s",
        "_probes",
        "_shortest",
        "answered_at",
        "budget",
        "bytes_received",
        "bytes_sent",
        "challenge_is_due",
        "endpoint",
        "failures",
        "heard_at",
        "is_gone",
        "is_local_choice",
        "is_refused",
        "is_silent",
        "loss",
        "mtu",
        "mtu_probe_until",
        "rank",
        "receive_index",
        "responses",
        "retry_at",
        "rtt",
        "send_index",
        "state",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        rtt_s: float,
        min_pto_s: float,
        max_packet_size: int,
    ) -> None:
        """Start unvalidated, with nothing allowed.

        Args:
            endpoint: Where the peer is on this path.
            rtt_s: The round trip to assume at first.
            min_pto_s: The shortest time to wait for an answer.
            max_packet_size: The largest packet to try for, in bytes.
        """
        self.endpoint = endpoint
        self.state = PathState.UNVALIDATED
        # The index of the peer's id that we use on it; None before the first packet.
        self.send_index: int | None = None
        # The index of our id that the peer uses on it; None before it was heard.
        self.receive_index: int | None = None
        self.rtt = RttEstimator(rtt_s)
        self.loss = 0.0
        # Lower ones are used whenever they work, whatever the round trips.
        self.rank = 0
        if is_carried(endpoint.host):
            # What carries it needs room of its own, over IPv6 at the worst.
            max_packet_size = min(max_packet_size, MAX_CARRIED_SIZE)
        elif ":" in endpoint.host:
            max_packet_size = min(max_packet_size, MAX_SIZE_IPV6)
        self.mtu = MtuSearch(max_packet_size)
        self.mtu_probe_until: float | None = None
        self.budget = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.heard_at = float("-inf")
        self.answered_at = float("-inf")
        self.challenge_is_due = False
        self.retry_at: float | None = None
        self.responses: list[bytes] = []
        self.failures = 0
        # Whether we named it, rather than the peer by sending from there.
        self.is_local_choice = False
        # Whether the peer proved to be elsewhere although packets came from here.
        self.is_refused = False
        # Whether it leads nowhere any more, and is only kept for want of another.
        self.is_gone = False
        # Whether it was left because it answered nothing, and nothing came on it since.
        self.is_silent = False
        self._attempts = 0
        self._check_began_at = 0.0
        self._min_pto_s = min_pto_s
        self._probes: dict[bytes, Probe] = {}
        # The last round trips, to see the path below its queue.
        self._shortest: tuple[float, ...] = ()

    @property
    def is_validated(self) -> bool:
        """Whether the peer proved to be there, and did not fall silent since."""
        return self.state is PathState.VALIDATED

    @property
    def timeout_s(self) -> float:
        """How long to wait for the answer to a challenge."""
        return max(self.rtt.probe_timeout_s, self._min_pto_s)

    def cost_s(self, known_s: float | None = None) -> float | None:
        """Its shortest round trip, more if probes are lost; None unmeasured.

        Args:
            known_s: A shorter one that data measured, if any. Under load the last
                probes waited in our own queue, which is not the path's fault.
        """
        measured = self._shortest if known_s is None else (*self._shortest, known_s)
        if not measured:
            return None
        return min(measured) * (1 + _LOSS_WEIGHT * self.loss)

    # --- the limit before the proof ---------------------------------------------------

    def on_received(self, size: int, now: float) -> None:
        """Authentic packets of this many bytes came from the endpoint."""
        self.bytes_received += size
        self.heard_at = now
        self.is_silent = False
        if self.state is not PathState.VALIDATED:
            self.budget += _AMPLIFICATION_LIMIT * size

    def on_sent(self, size: int) -> None:
        """So many bytes left for the endpoint."""
        self.bytes_sent += size
        if self.state is not PathState.VALIDATED:
            self.budget -= size

    def may_send(self, size: int) -> bool:
        """Whether so many bytes may leave (RFC 9000 §8).

        To an address that we chose ourselves, as ICE's, a bare challenge always may.
        """
        if self.is_validated or size <= self.budget:
            return True
        return self.is_local_choice and size <= _BARE_CHALLENGE

    # --- the proof ----------------------------------------------------------------

    def validate(self, now: float) -> None:
        """The peer is there: by its answer, or because the driver knows."""
        self.state = PathState.VALIDATED
        self.answered_at = now
        self.failures = 0
        self._attempts = 0
        self.retry_at = None
        self.challenge_is_due = False

    def is_worth_asking(self, active: "Path | None", now: float) -> bool:
        """Whether a probe beside data is worth its bytes.

        One that failed is asked again, ever more rarely, if it would be a better kind.
        """
        if self.is_validated:
            return True
        if active is None or self.rank >= active.rank or not self.is_local_choice:
            return False
        wait_s = _TRY_AGAIN_S * 2**self.failures
        return self.failures <= _MAX_TRIES and now >= self._check_began_at + wait_s

    def start_check(self, now: float) -> None:
        """Ask the peer for a sign of life; one check at a time."""
        if self.challenge_is_due or self.retry_at is not None:
            return
        self._attempts = 0
        self._check_began_at = now
        self.challenge_is_due = True

    def on_challenge_sent(
        self, token: bytes, size: int, now: float, timeout_s: float
    ) -> None:
        """A challenge of the check left in a packet of `size` bytes."""
        self.challenge_is_due = False
        self._attempts += 1
        self.retry_at = now + timeout_s
        self._remember(token, size, now)

    def on_deadline(self, now: float) -> None:
        """Challenge again, or give the path up, if an answer is overdue."""
        if self.mtu_probe_until is not None and now >= self.mtu_probe_until:
            self.mtu_probe_until = None
            self.mtu.on_probe_lost(now)
        if self.retry_at is None or now < self.retry_at:
            return
        self.retry_at = None
        self.loss += (1.0 - self.loss) * _LOSS_GAIN
        if self._attempts < MAX_ATTEMPTS:
            self.challenge_is_due = True
        elif not (self.is_validated and self.heard_at > self._check_began_at):
            self.state = PathState.FAILED
            self.failures += 1

    def on_mtu_probe_sent(
        self, token: bytes, size: int, now: float, timeout_s: float
    ) -> None:
        """A padded challenge left that asks for the size alone."""
        self.mtu.on_probe_sent(size)
        self.mtu_probe_until = now + timeout_s
        self._remember(token, size, now)

    def on_response(self, token: bytes, now: float) -> Probe | None:
        """Take in an answer; None when it is to none of our questions on this path.

        Losses are counted by checks alone: a large probe is lost for its size.
        """
        probe = self._probes.pop(token, None)
        if probe is None:
            return None
        rtt_s = now - probe.sent_at
        self.rtt.add(rtt_s, 0.0)
        self._shortest = (*self._shortest[-3:], rtt_s)
        self.loss -= self.loss * _LOSS_GAIN
        if probe.size > BASE_SIZE:
            self.mtu_probe_until = None
            self.mtu.on_probe_answered(probe.size, now)
        self.validate(now)
        return probe

    def add_response(self, token: bytes) -> None:
        """The peer challenged us on this path; a flood is answered in part."""
        if len(self.responses) < _MAX_RESPONSES:
            self.responses.append(token)

    @property
    def deadline(self) -> float | None:
        """When ``on_deadline`` is due."""
        if self.retry_at is None:
            return self.mtu_probe_until
        if self.mtu_probe_until is None:
            return self.retry_at
        return min(self.retry_at, self.mtu_probe_until)

    def statistics(self) -> PathStatistics:
        """Return the figures of this moment."""
        measured = self.rtt.latest is not None
        return PathStatistics(
            endpoint=self.endpoint,
            state=self.state,
            rtt_s=self.rtt.smoothed if measured else None,
            loss=self.loss,
            packet_size=self.mtu.size,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
        )

    def _remember(self, token: bytes, size: int, now: float) -> None:
        if len(self._probes) >= _MAX_PROBES:
            del self._probes[next(iter(self._probes))]
        self._probes[token] = Probe(now, size)


class PathPacket(NamedTuple):
    """A packet for one path that carries no data.

    Attributes:
        path: Where it goes.
        id_index: The index of the peer's connection id that it bears.
        challenge: The token to be answered, or empty.
        responses: Tokens that are answered.
        size: Its size; what the frames do not fill is padding.
    """

    path: Path
    id_index: int
    challenge: bytes
    responses: tuple[bytes, ...]
    size: int
