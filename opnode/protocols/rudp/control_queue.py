"""Control frames that wait to be sent; their content is made when they leave.

A frame is named by its type and one number, so a lost one is simply asked for again
and goes out with the values of that moment. The queue holds each name once: it is
bounded by the number of channels and pings.
"""

from collections.abc import Callable
from itertools import islice

from opnode.protocols.rudp.frames import FrameType, control_size
from opnode.protocols.rudp.sent_run import ControlKey

# An application's pings count from 1; this one only wants an acknowledgement.
PROBE_PING_ID = 0
_PROBE: ControlKey = (FrameType.PING, PROBE_PING_ID)
# Names looked up at a time: about what a small packet takes.
_BATCH = 64


class ControlQueue:
    """Names of frames, first asked first sent."""

    __slots__ = ("encoders", "waiting")

    def __init__(self) -> None:
        """Start empty."""
        self.waiting: dict[ControlKey, None] = {}
        # Who makes the frames of a type, where it is not the ``encode`` of ``take``.
        self.encoders: dict[int, Callable[[ControlKey], bytes]] = {}

    def __len__(self) -> int:
        """Return how many frames wait."""
        return len(self.waiting)

    def add(self, kind: FrameType, number: int = 0) -> None:
        """Ask for a frame, once."""
        self.waiting[(kind, number)] = None

    def discard(self, kind: FrameType, number: int) -> None:
        """Ask for a frame no more, if it has not left."""
        self.waiting.pop((kind, number), None)

    def add_probe(self) -> None:
        """Ask for a PING that nobody waits for."""
        self.waiting[_PROBE] = None

    def take_probe(self) -> bool:
        """Take the PING that nobody waits for; false when none was asked for."""
        return self.waiting.pop(_PROBE, _PROBE) is None

    def restore(self, keys: tuple[ControlKey, ...]) -> None:
        """Ask again for frames of a lost packet; a probe has done its work."""
        for key in keys:
            if key != _PROBE:
                self.waiting[key] = None

    def take(
        self, space: int, encode: Callable[[ControlKey], bytes]
    ) -> tuple[list[bytes], list[ControlKey]]:
        """Take as many frames as fit.

        Args:
            space: Bytes left in the packet.
            encode: Makes the frame; empty when it is not needed any more.

        Returns:
            The frames, and the names of those that must be sent again when lost.
        """
        frames: list[bytes] = []
        keys: list[ControlKey] = []
        while self.waiting:
            # One by one, the next would be found ever later behind those taken.
            for key in list(islice(self.waiting, _BATCH)):
                if space < control_size(key[0]):
                    return frames, keys
                del self.waiting[key]
                frame = self.encoders.get(key[0], encode)(key)
                if frame:
                    frames.append(frame)
                    keys.append(key)
                    space -= len(frame)
        return frames, keys
