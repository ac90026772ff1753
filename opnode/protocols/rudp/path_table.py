"""All paths of a connection: which one carries data, and when it is another one.

Owns the choice, the following of a peer that moved, and the leaving of a dead path
(RFC 9000 §8, §9). Refuses to know packets: it names what should leave, and is told what
came. Every move is make-before-break: data goes to an address that has answered.
"""

import random
from collections.abc import Callable
from typing import Protocol

from opnode.core.addresses import Endpoint, is_carried
from opnode.core.crypto import keyed_digest
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.mtu_search import BASE_SIZE
from opnode.protocols.rudp.path import CARRIED_RANK, Path, PathPacket, PathState
from opnode.protocols.rudp.path_choice import PathChoice, best_of
from opnode.protocols.rudp.path_ids import PathIds
from opnode.protocols.rudp.path_watch import PathWatch, Silence
from opnode.protocols.rudp.sent_run import SentRun

_SECRET_SIZE = 32
# A packet without frames, and the frame of a challenge or its answer.
_EMPTY_SIZE = 34
_FRAME_SIZE = 9
# For so many timeouts after a move of ours the peer may not have heard of it yet, and
# after a move of the peer's the path that was left may prove it wrong.
_MOVE_TIMEOUTS = 3
# The timeout of a path whose round trip is assumed, not measured, in round trips.
_TIMEOUT_ROUND_TRIPS = 3
# A path that failed so often, a keep-alive apart, is forgotten.
_MAX_FAILURES = 4


class ProbeTimer(Protocol):
    """Measures the path that carries data."""

    @property
    def probe_timeout_s(self) -> float:
        """How long an answer may take."""
        ...

    @property
    def shortest_rtt_s(self) -> float | None:
        """The shortest round trip on it, None before the first."""
        ...


class PathTable:
    """The paths by endpoint, and the one that carries data.

    Attributes:
        active: Where data goes; None before the first ``set_path``.
        claimant: An address that the peer seems to have moved to, while it is checked.
        moved_at: When ``active`` changed: what was sent before says nothing about it.
        watch: Whether ``active`` still carries packets.
    """

    __slots__ = (
        "_choice",
        "_claim_served",
        "_claimed_at",
        "_config",
        "_ids",
        "_initiator",
        "_is_move_unconfirmed",
        "_left",
        "_next_round_at",
        "_on_moved",
        "_paths",
        "_preferred",
        "_secret",
        "_suspect_at",
        "_timer",
        "_tokens",
        "active",
        "claimant",
        "moved_at",
        "watch",
    )

    def __init__(
        self,
        config: RudpConfig,
        rng: random.Random,
        timer: ProbeTimer,
        on_moved: Callable[[Path, Path, float], None],
        *,
        initiator: bool,
    ) -> None:
        """Start without a path.

        Args:
            config: Limits and times.
            rng: Seeds the tokens, which nobody may guess.
            timer: Knows the active path from the data that it carries.
            on_moved: Called with the path that was left, the one that is taken, and
                the time.
            initiator: Whether we began the handshake: then we choose by round trips.
        """
        self.active: Path | None = None
        self.claimant: Path | None = None
        self.moved_at = float("-inf")
        self._config = config
        self._initiator = initiator
        self._timer = timer
        self._on_moved = on_moved
        self._paths: dict[Endpoint, Path] = {}
        self._secret = rng.randbytes(_SECRET_SIZE)
        self._tokens = 0
        self.watch = PathWatch()
        self._ids = PathIds(initiator=initiator)
        # Where the driver wants data to go, as soon as it answers.
        self._preferred: Path | None = None
        self._claimed_at = 0.0
        self._claim_served = 0
        # The path left by the last move, and whether the move was ours and the peer
        # has not followed yet.
        self._left: Path | None = None
        self._is_move_unconfirmed = False
        self._suspect_at = 0.0
        self._next_round_at = float("-inf")
        self._choice = PathChoice()

    # --- what the driver says ---------------------------------------------------------

    def set_path(self, endpoint: Endpoint, now: float, rtt_s: float | None) -> None:
        """Use an endpoint: the first one at once, another one as soon as it answers.

        The first was proven by ICE's checks.
        """
        path = self.add(endpoint, now, rtt_s)
        if path is None or path is self.active:
            return
        if self.active is None:
            path.send_index = 0
            path.validate(now)
            self.active = path
            return
        self._preferred = path
        if path.is_validated:
            self._move(path, now, is_ours=True)
        else:
            path.start_check(now)

    def add(self, endpoint: Endpoint, now: float, rtt_s: float | None) -> Path | None:
        """Try an endpoint, and keep it warm if it answers; None: there is no room."""
        path = self._paths.get(endpoint) or self._enter(endpoint)
        if path is None:
            return None
        path.is_local_choice = True
        path.is_refused = path.is_gone = False
        if rtt_s is not None:
            path.rtt.suggest(rtt_s)
        if self.active is not None and not path.is_validated:
            path.start_check(now)
        return path

    def set_rank(self, endpoint: Endpoint, rank: int) -> None:
        """Paths of a lower rank are used whenever they work, whatever the times."""
        path = self._paths.get(endpoint)
        if path is not None:
            path.rank = rank

    def remove(self, endpoint: Endpoint, now: float) -> None:
        """Nothing passes there any more: take another path, or the next to answer."""
        path = self._paths.get(endpoint)
        if path is None:
            return
        if path is self.active:
            best = self._best_other(now)
            if best is None:
                path.is_gone = True
                return
            self._move(best, now, is_ours=True)
        self._forget(path)

    def paths(self) -> tuple[Path, ...]:
        """All that are known, the active one first."""
        others = tuple(p for p in self._paths.values() if p is not self.active)
        return others if self.active is None else (self.active, *others)

    @property
    def receive_indices(self) -> frozenset[int]:
        """Indices of our ids that packets may bear now."""
        return self._ids.accepted(self._paths.values())

    # --- what came --------------------------------------------------------------------

    def on_run(
        self, source: Endpoint, index: int, size: int, now: float, *, is_newest: bool
    ) -> Path | None:
        """Authentic packets came.

        Args:
            source: From where.
            index: The index of our id that they bear.
            size: Bytes of all of them.
            now: The present.
            is_newest: One of them has the highest number so far and is no mere probe:
                it tells where the peer sends from (RFC 9000 §9.3).

        Returns:
            The path that they came on, None when it is a new one without room.
        """
        active = self.active
        if active is not None and source == active.endpoint:
            path: Path | None = active
            self.watch.on_heard(size, now)
            if is_newest:
                self._is_move_unconfirmed = False
        else:
            path = self._paths.get(source) or self._meet(source, index)
        if path is None:
            return None
        path.on_received(size, now)
        if index != path.receive_index:
            self._ids.on_heard(path, index)
        if is_newest and active is not None and path is not active:
            self._on_claim(path, active, now)
        return path

    def takes_claim(self) -> bool:
        """Whether to repeat what the peer may lack, as copies may go to a claimant.

        Once when the claim begins, and once when what came from there allows a packet.
        """
        claimant = self.claimant
        if claimant is None:
            return False
        served = 2 if claimant.budget >= BASE_SIZE else 1
        if served <= self._claim_served:
            return False
        self._claim_served = served
        return True

    def on_challenge(self, path: Path, token: bytes, now: float) -> None:
        """The peer wants to know whether we are on this path; so do we."""
        path.add_response(token)
        if not path.is_validated and not path.is_refused and self.active is not None:
            path.start_check(now)

    def on_response(self, token: bytes, now: float) -> None:
        """An answer came; it proves the path on which the question went.

        From where it came proves nothing (RFC 9000 §8.2.3): a copy may have been
        faster, so that the answer itself was dropped as a duplicate.
        """
        active = self.active
        for path in self._paths.values():
            probe = path.on_response(token, now)
            if probe is None or active is None:
                continue
            self._ids.on_answered(path)
            if path is not active:
                self._on_other_answered(path, active, now)
                return
            self.watch.on_heard(0, now)
            if probe.sent_at >= self._claimed_at:
                self._refuse_claim(active)
            return

    def _on_other_answered(self, path: Path, active: Path, now: float) -> None:
        if self._proves_claim_wrong(path, active, now):
            # The peer is where it was: somebody else sent copies of its packets.
            self._move(path, now, is_ours=False)
            active.is_refused = True
        elif path is self.claimant:
            self._move(path, now, is_ours=False)
        elif self._is_wanted(path, active):
            self._move(path, now, is_ours=True)

    def _is_wanted(self, path: Path, active: Path) -> bool:
        """Whether data should go on a path that just answered."""
        if path is self._preferred or active.is_gone or active.is_silent:
            return True
        if self._is_to_be_left:
            return True
        if not self._initiator or path.is_refused or self._preferred is not None:
            # By figures only one end moves, or both would pull at each other.
            return False
        return self._choice.prefers(path, active, self._timer.shortest_rtt_s)

    @property
    def _is_to_be_left(self) -> bool:
        """Whether the active path owes an answer for too long."""
        return self.watch.silence.value >= Silence.LEAVE.value

    # --- what leaves ------------------------------------------------------------------

    @property
    def has_packets(self) -> bool:
        """Whether ``next_packet`` has one that waits for nothing but its turn."""
        for path in self._paths.values():
            if path.challenge_is_due or path.responses:
                return True
        return False

    def next_packet(self, now: float, window: int) -> PathPacket | None:
        """Return a packet that is due on any path; call until there is none.

        Args:
            now: The present.
            window: The congestion window in bytes.
        """
        active = self.active
        if active is None:
            return None
        for path in self._paths.values():
            if path.challenge_is_due or path.responses:
                packet = self._small_packet(path, now)
                if packet is not None:
                    return packet
        size = active.mtu.next_probe(now, window)
        if not size or active.mtu_probe_until is not None or active.send_index is None:
            return None
        token = self._new_token()
        active.on_mtu_probe_sent(token, size, now, self._timer.probe_timeout_s)
        active.on_sent(size)
        return PathPacket(active, active.send_index, token, (), size)

    def on_eliciting_sent(self, now: float) -> None:
        """Something that the peer has to answer left on the active path."""
        self.watch.on_eliciting_sent(now)
        if len(self._paths) > 1 and now >= self._next_round_at:
            self._next_round_at = now + self._config.path_probe_s
            for path in self._paths.values():
                if path.is_worth_asking(self.active, now):
                    path.start_check(now)

    def on_acked(self, newest: int, size: int, sent_at: float, now: float) -> None:
        """Packets of this size that left at that time arrived."""
        if self.active is not None and sent_at >= self.moved_at:
            self.active.mtu.on_acked(newest, size, now)

    def on_lost(self, run: SentRun, now: float) -> None:
        """Packets were lost; on another path than this one, nobody knows why."""
        if self.active is not None and run.sent_at >= self.moved_at:
            self.active.mtu.on_lost(run.first, run.stop, run.size, now)

    def on_timeout(self) -> None:
        """Nothing came back in time: large packets may be why."""
        if self.active is not None:
            self.active.mtu.on_timeout()

    # --- time -------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when ``handle_deadline`` is due, None for never.

        Asked for every packet: one path that nothing is asked on costs 0.4 µs.
        """
        watch = self.watch
        times = [
            time for path in self._paths.values() if (time := path.deadline) is not None
        ]
        if watch.was_fed:
            stall_at = watch.stall_deadline(self._timer.probe_timeout_s)
            if stall_at is not None:
                times.append(stall_at)
        loss_at = watch.loss_deadline(self._timer.probe_timeout_s)
        if loss_at is not None:
            times.append(loss_at)
        if len(self._paths) > 1:
            step_at = watch.deadline(self._timer.probe_timeout_s)
            if step_at is not None:
                times.append(step_at)
        return min(times) if times else None

    def handle_deadline(self, now: float) -> bool:
        """Do what is due by now; tells whether to ask a sender that fell silent."""
        for path in tuple(self._paths.values()):
            deadline = path.deadline
            if deadline is not None and now >= deadline:
                path.on_deadline(now)
                if path.state is PathState.FAILED:
                    self._on_failed(path, now)
        timeout_s = self._timer.probe_timeout_s
        if len(self._paths) > 1:
            self._on_silence(self.watch.take_step(now, timeout_s), now)
        return self.watch.takes_stall(now, timeout_s)

    def on_keep_alive(self, now: float) -> None:
        """Nothing happened for long: ask every other path for a sign of life."""
        for path in tuple(self._paths.values()):
            if path.failures >= _MAX_FAILURES:
                self._forget(path)
            elif path is not self.active and not path.is_refused:
                path.start_check(now)

    # --- moving -----------------------------------------------------------------------

    def _move(self, path: Path, now: float, *, is_ours: bool) -> None:
        old = self.active
        assert old is not None
        old.rtt.suggest(self._timer.probe_timeout_s / _TIMEOUT_ROUND_TRIPS)
        self.active, self._left = path, old
        self.moved_at = now
        self.claimant = None
        self._is_move_unconfirmed = is_ours
        path.is_refused = False
        if path.receive_index == old.receive_index and old.is_local_choice:
            # A NAT's doing: the address that it took away is nobody's choice any more.
            path.is_local_choice, old.is_local_choice = True, False
        if path is self._preferred:
            self._preferred = None
        self._choice.moved(old, path)
        old.is_silent = self._is_to_be_left
        self.watch.reset()
        old.start_check(now)
        self._on_moved(old, path, now)

    def _on_claim(self, path: Path, active: Path, now: float) -> None:
        """The peer's newest packet came from elsewhere: it moved, or it was copied."""
        # The peer may not know yet that a better path works; it follows us.
        is_worse = self._initiator and path.rank > active.rank
        if not self._is_to_be_left and (path.is_refused or is_worse):
            if is_worse and self.watch.owed_since is None:
                # Or it knows that the better one is dead, and hears nothing of us:
                # acknowledgements alone are not answered, so ask.
                active.start_check(now)
                self.watch.on_eliciting_sent(now)
            return
        if path.is_validated:
            if not self._is_held(path, now):
                self._move(path, now, is_ours=False)
            return
        if path is self.claimant:
            return
        self.claimant, self._claimed_at = path, now
        self._claim_served = 0
        path.is_refused = False
        path.start_check(now)
        if path.receive_index == active.receive_index:
            # RFC 9000 §9.3.3: the same id from elsewhere is a NAT's doing or a copy.
            # Only the true peer can answer on the path that it is on.
            active.start_check(now)

    def _is_held(self, path: Path, now: float) -> bool:
        """Whether a packet is no claim, because the peer cannot know of our move yet.

        When both ends move at once, the initiator's choice stands.
        """
        active = self.active
        if not self._is_move_unconfirmed or active is None:
            return False
        if now >= self.moved_at + _MOVE_TIMEOUTS * self._timer.probe_timeout_s:
            return False
        return self._initiator or path is self._left

    def _refuse_claim(self, active: Path) -> None:
        claimant = self.claimant
        # What the driver named is no copy: the ends may begin on different paths.
        if claimant is None or claimant.is_local_choice:
            return
        if claimant.receive_index == active.receive_index:
            claimant.is_refused = True
            self.claimant = None

    def _proves_claim_wrong(self, path: Path, active: Path, now: float) -> bool:
        """Whether the path that a claim with the same id made us leave answers yet."""
        return (
            path is self._left
            and not path.is_refused
            and not self._is_move_unconfirmed
            and path.receive_index == active.receive_index
            and now < self.moved_at + _MOVE_TIMEOUTS * path.timeout_s
        )

    # --- leaving ----------------------------------------------------------------------

    def _on_silence(self, silence: Silence, now: float) -> None:
        if silence is Silence.SUSPECT:
            self._suspect_at = now
            for path in self._paths.values():
                if path.is_validated:
                    path.start_check(now)
        elif silence is not Silence.NONE:
            best = self._best_other(self._suspect_at)
            if best is None:
                return
            if silence is Silence.DEAD or best.answered_at >= self._suspect_at:
                self._move(best, now, is_ours=True)

    def _on_failed(self, path: Path, now: float) -> None:
        if path is self.active:
            best = self._best_other(now)
            # Without another way the connection waits here until it is given up.
            path.state = PathState.VALIDATED if best is None else PathState.FAILED
            if best is not None:
                self._move(best, now, is_ours=True)
        elif not path.is_local_choice:
            self._forget(path)
        else:
            path.send_index = None

    def _best_other(self, asked_at: float) -> Path | None:
        """The best path besides the active one that proved itself."""
        others = [
            path
            for path in self._paths.values()
            if path.is_validated and path is not self.active and not path.is_refused
        ]
        return best_of(others, asked_at)

    # --- entries ----------------------------------------------------------------------

    def _meet(self, source: Endpoint, index: int) -> Path | None:
        """Enter an address that the peer sent from."""
        path = self._enter(source)
        if path is None:
            return None
        # The same id from another address: a NAT's doing, about which the peer knows
        # nothing, so nothing is gained by another id (RFC 9000 §9.5).
        known = (p for p in self._paths.values() if p.receive_index == index)
        before = next(known, None)
        path.send_index = index if before is None else before.send_index
        return path

    def _enter(self, endpoint: Endpoint) -> Path | None:
        if len(self._paths) >= self._config.max_paths and not self._make_room():
            return None
        config = self._config
        path = Path(
            endpoint,
            rtt_s=config.initial_rtt_s,
            min_pto_s=config.min_pto_s,
            max_packet_size=config.max_packet_size,
        )
        if is_carried(endpoint.host):
            # Until the driver says what brings the packets, take it for the dearest.
            path.rank = CARRIED_RANK
        active = self.active
        if active is not None:
            # RFC 9000 §8.2.4: another path may be much longer than this one.
            is_same_host = endpoint.host == active.endpoint.host
            like_active_s = self._timer.probe_timeout_s / _TIMEOUT_ROUND_TRIPS
            least_s = 0.0 if is_same_host else config.initial_rtt_s
            path.rtt.suggest(max(like_active_s, least_s))
        self._paths[endpoint] = path
        return path

    def _make_room(self) -> bool:
        """Forget the path that is least worth keeping; false when all are."""
        keep = (self.active, self.claimant, self._preferred)
        unproven = [
            path
            for path in self._paths.values()
            if not path.is_validated and not path.is_local_choice and path not in keep
        ]
        refused = [path for path in self._paths.values() if path.is_refused]
        for path in (unproven + refused)[:1]:
            self._forget(path)
            return True
        return False

    def _forget(self, path: Path) -> None:
        if path is self.active:
            return
        del self._paths[path.endpoint]
        self._choice.forget(path)
        if path is self.claimant:
            self.claimant = None
        if path is self._preferred:
            self._preferred = None
        if path is self._left:
            self._left = None

    # --- ids and packets --------------------------------------------------------------

    def _small_packet(self, path: Path, now: float) -> PathPacket | None:
        """A challenge, answers, or both; padded where the path is not proven.

        A path must carry 1200 bytes before it carries data (RFC 9000 §8.2.1).
        """
        index = self._ids.index_for(path, self._paths.values())
        frames = path.challenge_is_due + len(path.responses)
        size = _EMPTY_SIZE + _FRAME_SIZE * frames
        if index is None or not path.may_send(size):
            return None
        if not path.is_validated and path.budget >= BASE_SIZE:
            size = BASE_SIZE
        challenge, responses = b"", tuple(path.responses)
        path.responses.clear()
        if path.challenge_is_due:
            challenge = self._new_token()
            path.on_challenge_sent(challenge, size, now, self._timeout_s(path))
        path.on_sent(size)
        return PathPacket(path, index, challenge, responses, size)

    def _timeout_s(self, path: Path) -> float:
        """How long an answer on a path may take; data tells more than rare probes."""
        return self._timer.probe_timeout_s if path is self.active else path.timeout_s

    def _new_token(self) -> bytes:
        self._tokens += 1
        return keyed_digest(self._secret, self._tokens.to_bytes(8, "big"))
