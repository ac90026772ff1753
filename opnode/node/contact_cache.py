"""The contacts that a node remembers over a restart, with their age.

Owns which are kept and what clock their ages are told in. Refuses to know files and
how contacts are asked again.
"""

import logging
from typing import Final

import trio

from opnode.core.errors import OpnodeError
from opnode.core.ids import Contact
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.contacts import KnownContact
from opnode.drivers.dht.dht import Dht
from opnode.node.data_directory import DataDirectory, RememberedContact

logger = logging.getLogger(__name__)

SAVE_EVERY_S: Final = 60.0
FORGET_AFTER_S: Final = 30 * 86_400.0
"""Of the field's nodes that were there for a day, one in 30 is there a month later."""


class ContactCache:
    """The contacts of earlier runs, and of this one."""

    def __init__(self, directory: DataDirectory | None, wall_clock: WallClock) -> None:
        """Read what the last run left; without a directory there is nothing."""
        self._directory = directory
        self._wall_clock = wall_clock
        self._before = directory.load_contacts() if directory is not None else ()

    def __len__(self) -> int:
        return len(self._before)

    def known(self) -> list[KnownContact]:
        """The contacts of the last run whose id is known, the most trusted first."""
        wall_now = self._wall_clock()
        return [
            KnownContact(
                Contact(one.node_id, one.endpoint),
                max(0.0, wall_now - one.known_since),
                max(0.0, wall_now - one.last_seen_at),
            )
            for one in self._before
        ]

    async def run(self, dht: Dht) -> None:
        """Save now and then, until cancelled."""
        while self._directory is not None:
            await trio.sleep(SAVE_EVERY_S)
            self.save(dht)

    def save(self, dht: Dht) -> None:
        """Remember the contacts of the table, then those of before that still count.

        A node that was cut off knows few: the last good list is worth more.
        """
        if self._directory is None:
            return
        wall_now = self._wall_clock()
        kept = {
            one.contact.endpoint: RememberedContact(
                node_id=one.contact.node_id,
                endpoint=one.contact.endpoint,
                known_since=wall_now - one.age_s,
                last_seen_at=wall_now - one.silent_s,
            )
            for one in dht.known_contacts()
        }
        for one in self._before:
            if wall_now - one.last_seen_at < FORGET_AFTER_S:
                kept.setdefault(one.endpoint, one)
        if not kept:
            return
        try:
            self._directory.save_contacts(kept.values())
        except OpnodeError as error:
            logger.warning("contacts are not remembered: %s", error)
