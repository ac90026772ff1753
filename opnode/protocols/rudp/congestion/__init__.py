"""How fast a connection may send: controllers behind one interface, and a pacer.

They see bytes, packet numbers and times, never a packet. ``controller`` says what they
are told and what they answer.
"""

from opnode.protocols.rudp.congestion.bbr import Bbr
from opnode.protocols.rudp.congestion.controller import (
    AckSample,
    CongestionAlgorithm,
    CongestionController,
    LossSample,
    WindowLimits,
)
from opnode.protocols.rudp.congestion.cubic import Cubic
from opnode.protocols.rudp.congestion.pacer import Pacer

__all__ = [
    "AckSample",
    "Bbr",
    "CongestionAlgorithm",
    "CongestionController",
    "Cubic",
    "LossSample",
    "Pacer",
    "WindowLimits",
]
