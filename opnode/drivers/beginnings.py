"""How a connection began: what each step took, and what was said before it.

Values only; refuses to know who fills them in.
"""

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectTimings:
    """What each step of a connect took, in seconds."""

    lookup_s: float
    introduce_s: float
    ice_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyData:
    """What the ends said in the introduction, before there was a path.

    Attributes:
        received: From the peer, up to 1024 bytes. What a caller sent came at most once
            in this process, but is **replayable** after a restart, and not confirmed
            before the first packet: act on it only where that does no harm.
        is_sent: Whether the peer got ours. False when another attempt, such as the
            peer's own call, made the connection: say it on a channel then.
    """

    received: bytes = field(default=b"", repr=False)
    is_sent: bool = False


NO_EARLY_DATA: Final = EarlyData()
