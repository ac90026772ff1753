"""Addresses for the hosts of a virtual network, one after the other."""

import ipaddress
import random

from opnode.core.addresses import is_public


class Addresses:
    """Gives each address once.

    Args:
        seed: decides which public ones.
        public: all over the Internet, each alone in its /24, in place of 10.0.0.0/8.
    """

    def __init__(self, seed: int, *, public: bool = False) -> None:
        # A generator of their own, so that they do not depend on what happened before.
        self._rng = random.Random(f"addresses {seed}")  # noqa: S311 - repeatable
        self._public = public
        self._given = 0
        self._taken: set[str] = set()

    def next(self) -> str:
        """An address that nobody has."""
        if not self._public:
            self._given += 1
            number = self._given
            return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        while True:
            host = str(ipaddress.IPv4Address(self._rng.getrandbits(32)))
            subnet = host.rpartition(".")[0]
            if is_public(host) and subnet not in self._taken:
                self._taken.add(subnet)
                return host
