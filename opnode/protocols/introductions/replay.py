"""Which offers were seen before, remembered by number and never by time.

A replayed offer can never become a connection, because the replayer lacks the
caller's ephemeral key; this memory only saves the work and the ringing. It is bounded
for each caller, so that nobody can push another caller's offers out by sending many.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable


class ReplayMemory:
    """The last few offers of the callers that were heard of last."""

    __slots__ = ("_callers", "_max_callers", "_per_caller")

    def __init__(self, *, max_callers: int, per_caller: int) -> None:
        self._max_callers = max_callers
        self._per_caller = per_caller
        self._callers: OrderedDict[bytes, deque[bytes]] = OrderedDict()

    def __len__(self) -> int:
        """Count the callers that are remembered."""
        return len(self._callers)

    def has(self, caller: bytes, offer: bytes) -> bool:
        """Tell whether an offer of that caller was seen; both are opaque bytes."""
        return offer in self._callers.get(caller, ())

    def remember(self, caller: bytes, offers: Iterable[bytes]) -> None:
        """Remember offers of one caller, forgetting its oldest beyond the bound."""
        for offer in offers:
            seen = self._callers.setdefault(caller, deque(maxlen=self._per_caller))
            self._callers.move_to_end(caller)
            if offer not in seen:
                seen.append(offer)
        if len(self._callers) > self._max_callers:
            self._callers.popitem(last=False)
