"""What a stream holds back so that it leaves in large bursts; sends nothing.

A write of 64 KiB is a burst of 54 packets and three more, which cost half as much as
the 54, and every burst by itself wakes the peer. So while large bursts leave, the rest
waits for what is written next. It never waits for a timer: when nobody has written for
two turns of the scheduler, some 20 µs each, it leaves.
"""

from typing import Final, Protocol

# A burst of this many bytes is part of a stream: more is likely to come.
STREAMING_BURST: Final = 32_768
# What a stream collects before it goes on, half a megabyte: with 4 both ends spend 6 %
# more time, with 16 no less, and others wait for longer.
_HELD_BURSTS: Final = 8
# Who is first in a turn of the scheduler is left to chance, so one is too few.
_SILENT_TURNS: Final = 2


class Streamer(Protocol):
    """Who has bytes to send."""

    def has_less_than(self, bursts: int) -> bool:
        """Whether only the rest of a stream waits, less than so many bursts."""
        ...


class StreamHold:
    """Decides when what is less than a few bursts waits for more."""

    __slots__ = ("_has_written", "_is_streaming", "_silent_turns", "_source")

    def __init__(self, source: Streamer) -> None:
        """Hold nothing back."""
        self._source = source
        self._is_streaming = False
        self._has_written = False
        self._silent_turns = 0

    def on_written(self) -> None:
        """Somebody wrote: there may be more to come."""
        self._has_written = True

    def on_burst(self, size: int) -> None:
        """A burst of so many bytes left."""
        self._is_streaming = size >= STREAMING_BURST

    def on_turn(self) -> None:
        """All tasks had a turn since this was called last."""
        self._silent_turns = 0 if self._has_written else self._silent_turns + 1
        self._has_written = False
        if self._silent_turns >= _SILENT_TURNS:
            self._is_streaming = False

    @property
    def is_on(self) -> bool:
        """Whether what waits should go on waiting; then ``on_turn`` must be called."""
        return self._is_streaming and self._source.has_less_than(_HELD_BURSTS)

    @property
    def is_rest(self) -> bool:
        """Whether so little is left of a stream that it should wait from now on."""
        return self._is_streaming and self._source.has_less_than(1)
