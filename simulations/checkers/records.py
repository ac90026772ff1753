"""What readers and holders of records must never see.

Owns what was signed and what each reader and holder saw last. Refuses to know where
records lie and how they travel.
"""

from typing import Final

from simulations.checkers.violation import ViolationError

_SHOWN_BYTES: Final = 6


class ForgeryChecker:
    """Nothing is accepted that its owner never signed."""

    name: Final = "no accepted forgery"

    def __init__(self) -> None:
        self._signed: set[bytes] = set()

    def signed(self, wire: bytes) -> None:
        """An owner signed this."""
        self._signed.add(wire)

    def accepted(self, at_s: float, who: str, wire: bytes) -> None:
        """Somebody takes this for genuine.

        Raises:
            ViolationError: nobody signed it.
        """
        if wire not in self._signed:
            raise ViolationError(
                self.name,
                at_s=at_s,
                who=who,
                found=f"{wire[:_SHOWN_BYTES].hex()}…, {len(wire)} bytes",
                expected="a record that its owner signed",
            )


class SequenceChecker:
    """Sequence numbers never go back for a reader, nor for a holder.

    A read of the whole region returns the highest number, so a later one must not
    return a lower one. Reads that end with the first answer promise nothing: they only
    raise what is expected of later ones if `seen` is told of them.
    """

    name: Final = "sequence numbers never go back"

    def __init__(self) -> None:
        self._highest: dict[tuple[str, bytes], int] = {}

    def seen(self, at_s: float, who: str, key: bytes, seq: int) -> None:
        """Somebody sees this number under a key, who may have seen another before.

        Raises:
            ViolationError: it was a higher one.
        """
        before = self._highest.get((who, key), seq)
        if seq < before:
            raise ViolationError(
                self.name,
                at_s=at_s,
                who=who,
                found=f"{seq} under {key[:_SHOWN_BYTES].hex()}…",
                expected=f"at least {before}, seen before",
            )
        self._highest[who, key] = seq

    def forget(self, who: str) -> None:
        """Somebody is gone, and what it knew with it."""
        for place in [place for place in self._highest if place[0] == who]:
            del self._highest[place]


class ConvergenceChecker:
    """Once the network is whole again, all readers come to the highest number."""

    name: Final = "converged after healing"

    def __init__(self) -> None:
        self._highest: dict[bytes, int] = {}

    def published(self, key: bytes, seq: int) -> None:
        """A version was published, on whichever side."""
        self._highest[key] = max(seq, self._highest.get(key, seq))

    def read(self, at_s: float, who: str, key: bytes, seq: int | None) -> None:
        """Somebody read, after what healing takes.

        Raises:
            ViolationError: it was not the highest that was published.
        """
        highest = self._highest[key]
        if seq != highest:
            raise ViolationError(
                self.name, at_s=at_s, who=who, found=seq, expected=f"number {highest}"
            )
