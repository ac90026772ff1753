"""Introductions: sealed offers and answers between two locations, and who passes them.

`IntroductionDesk` is a location's own end of them; `IntroducerDesk` is the node in the
middle, which learns neither who calls nor from where.
"""

from opnode.protocols.introductions.desk import (
    IntroductionConfig,
    IntroductionDesk,
    IntroductionStatistics,
)
from opnode.protocols.introductions.events import (
    Event,
    IncomingWithdrawn,
    OutgoingSuperseded,
)
from opnode.protocols.introductions.handshake import Handshakes
from opnode.protocols.introductions.introducer import (
    IntroducerConfig,
    IntroducerDesk,
    IntroducerStatistics,
)
from opnode.protocols.introductions.messages import MAX_CANDIDATES, MAX_EARLY_DATA
from opnode.protocols.introductions.parts import MAX_SEALED
from opnode.protocols.introductions.session import (
    Established,
    IncomingIntroduction,
    IntroductionState,
    OutgoingIntroduction,
)

__all__ = [
    "MAX_CANDIDATES",
    "MAX_EARLY_DATA",
    "MAX_SEALED",
    "Established",
    "Event",
    "Handshakes",
    "IncomingIntroduction",
    "IncomingWithdrawn",
    "IntroducerConfig",
    "IntroducerDesk",
    "IntroducerStatistics",
    "IntroductionConfig",
    "IntroductionDesk",
    "IntroductionState",
    "IntroductionStatistics",
    "OutgoingIntroduction",
    "OutgoingSuperseded",
]
