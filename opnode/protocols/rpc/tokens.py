"""Address tokens: proof that whoever asks receives at the address it claims.

Owns the rotating secret and the digest (BEP 5 tokens). Refuses to know messages.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from opnode.core.addresses import Endpoint, pack
from opnode.core.crypto import constant_time_equal, keyed_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig:
    """Limits of the tokens.

    Attributes:
        rotation_s: a secret makes new tokens for 5 min and is accepted for another
            5 min, so a token is valid for 5 to 10 min (BEP 5).
        cached: tokens remembered per secret; a cached token costs a dictionary
            look-up in place of a digest.
    """

    rotation_s: float = 300.0
    cached: int = 4096


class TokenIssuer:
    """Makes and checks the tokens of one node."""

    def __init__(self, draw_secret: Callable[[], bytes], config: TokenConfig) -> None:
        self._draw_secret = draw_secret
        self._config = config
        self._current = draw_secret()
        self._previous = draw_secret()
        # Not known before the first token is asked for.
        self._rotates_at = -math.inf
        self._cache: dict[Endpoint, bytes] = {}
        self._previous_cache: dict[Endpoint, bytes] = {}

    def issue(self, endpoint: Endpoint, now: float) -> bytes:
        """The 8-byte token that ``endpoint`` may show from now on."""
        if now >= self._rotates_at:
            self._rotate(now)
        token = self._cache.get(endpoint)
        if token is None:
            if len(self._cache) >= self._config.cached:
                self._cache.clear()
            token = self._cache[endpoint] = _digest(self._current, endpoint)
        return token

    def is_valid_untrusted(self, token: bytes, endpoint: Endpoint, now: float) -> bool:
        """Whether ``endpoint`` was given ``token`` within the last 5 to 10 min."""
        if not token:
            return False
        if constant_time_equal(token, self.issue(endpoint, now)):
            return True
        earlier = self._previous_cache.get(endpoint)
        if earlier is None:
            earlier = _digest(self._previous, endpoint)
        return constant_time_equal(token, earlier)

    def _rotate(self, now: float) -> None:
        rotation_s = self._config.rotation_s
        if self._rotates_at == -math.inf:
            self._rotates_at = now + rotation_s
            return
        # After a pause of two periods no token that is out there may stay valid.
        slept = now >= self._rotates_at + rotation_s
        self._previous = self._draw_secret() if slept else self._current
        self._previous_cache = {} if slept else self._cache
        self._current, self._cache = self._draw_secret(), {}
        # Kept to the schedule, however late we come: no token may live longer because
        # nobody asked for a while.
        periods = (now - self._rotates_at) // rotation_s + 1
        self._rotates_at += periods * rotation_s


def _digest(secret: bytes, endpoint: Endpoint) -> bytes:
    return keyed_digest(secret, pack(endpoint), size=8)
