"""Watches whether the node knows anybody: says when the last contact goes or one comes.

Owns how often it looks. Refuses to do anything about it: the node joins again by
itself.
"""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Final, Protocol

import trio

CHECK_S: Final = 2.0
"""A look costs microseconds; a person does not notice two seconds of these."""


@dataclass(frozen=True, slots=True)
class ContactsChanged:
    """The last contact is gone (0), or there are some where there were none."""

    contacts: int


class WatchedNode(Protocol):
    """What is needed of ``OverlayNode``."""

    def contacts(self) -> Sized:
        """The nodes in the routing table."""

    async def wait_joined(self) -> None:
        """Wait until the node is in for the first time."""


async def watch_contacts(
    node: WatchedNode, notify: Callable[[ContactsChanged], None]
) -> None:
    """Tell of every change between nobody and somebody, once the node is in.

    A first seed is in without any contact; its first one is told, too.
    """
    await node.wait_joined()
    knew_somebody = bool(len(node.contacts()))
    while True:
        await trio.sleep(CHECK_S)
        contacts = len(node.contacts())
        if bool(contacts) is not knew_somebody:
            knew_somebody = bool(contacts)
            notify(ContactsChanged(contacts))
