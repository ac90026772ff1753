"""Why a connection ends: the codes of CLOSE, and the error that carries one inside."""

import enum
from typing import Final

from opnode.core.errors import LocalProtocolError, RemoteProtocolError

MAX_CODE: Final = (1 << 32) - 1


class CloseCode(enum.IntEnum):
    """Codes of CLOSE that the protocol itself uses; 1 to 2^31 - 1 are the caller's."""

    NO_ERROR = 0
    IDLE_TIMEOUT = 0x8000_0000
    FRAME_ENCODING = 0x8000_0001
    PROTOCOL_VIOLATION = 0x8000_0002
    FLOW_CONTROL = 0x8000_0003
    CHANNEL_LIMIT = 0x8000_0004
    FINAL_SIZE = 0x8000_0005
    KEY_EXHAUSTED = 0x8000_0006
    FALSE_RECEIPT = 0x8000_0007
    EXCESSIVE_WORK = 0x8000_0008
    KEY_UPDATE = 0x8000_0009
    KEY_SHARE = 0x8000_000A


class PeerViolationError(RemoteProtocolError):
    """An authenticated packet broke a rule: the connection ends with this code.

    It never leaves the package; the application sees a ``Closed`` event.
    """

    def __init__(self, code: CloseCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def checked_code(code: int) -> int:
    """Return a code of the application's.

    Raises:
        LocalProtocolError: It does not fit 32 bits.
    """
    if not 0 <= code <= MAX_CODE:
        raise LocalProtocolError(f"a code takes 32 bits, found {code}")
    return code
