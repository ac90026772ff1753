"""Where the nodes are that answer us, and so where strangers may send us.

Owns the judgement of addresses that come without a reporter whose own address could be
judged, as those in a record. Refuses to know who named them and why.
"""

import math
from dataclasses import dataclass

from opnode.core.addresses import is_loopback, is_public


@dataclass(frozen=True, slots=True, kw_only=True)
class SurroundingsConfig:
    """Limits.

    Attributes:
        forget_s: whoever moved from the Internet to a network without it is judged by
            that one after ten minutes, two liveness checks of a contact.
    """

    forget_s: float = 600.0


class Surroundings:
    """Whether our network is this machine, a private one or the Internet.

    A node of the Internet could otherwise sign a record that makes its readers knock at
    their own routers, printers and daemons.
    """

    def __init__(self, config: SurroundingsConfig | None = None) -> None:
        self._config = config or SurroundingsConfig()
        self._public_at = -math.inf
        self._private_at = -math.inf

    def heard(self, host: str, now: float) -> None:
        """A node at this address answered a question of ours, so it is really there."""
        if is_public(host):
            self._public_at = now
        elif not is_loopback(host):
            self._private_at = now

    def may_be_sent_to(self, host: str, now: float) -> bool:
        """Whether a stranger's word is enough to send something to this address.

        Before anybody answered it is, as nothing says yet where we are.
        """
        if is_public(host):
            return True
        oldest = now - self._config.forget_s
        if self._public_at >= oldest:
            return False
        return not (is_loopback(host) and self._private_at >= oldest)
