"""Contacts from before: asked to prove that they are still who they were.

Owns the order and the pace of asking after a restart, or when everybody fell silent.
Refuses to know where contacts are remembered and what is done with them.
"""

from collections.abc import Sequence
from typing import Final

import trio

from opnode.core.errors import RequestRefused, RequestTimeout
from opnode.core.ids import node_id_of
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.contacts import Contacts, KnownContact
from opnode.drivers.rpc.rpc import Rpc

# The first three bytes of an id follow from the address, the rest from the node's key.
_BOUND: Final = 3


class Restoration:
    """One attempt to meet again those who were known.

    Whoever took over a contact's address cannot sign for its id, so it does not come
    back into the table that way; and a contact that can comes back with its age.

    Attributes:
        ready: set when enough proved themselves to begin with, or a second after the
            first, or when all were asked.
    """

    def __init__(self, rpc: Rpc, contacts: Contacts, config: DhtConfig) -> None:
        self.ready = trio.Event()
        self._rpc = rpc
        self._contacts = contacts
        self._config = config
        self._first = trio.Event()
        self._proven = 0

    async def run(self, known: Sequence[KnownContact]) -> None:
        """Ask all of them, those known longest first, some at a time."""
        async with trio.open_nursery() as hurry:
            hurry.start_soon(self._hurry)
            await self._ask_all(known)
            hurry.cancel_scope.cancel()
        self.ready.set()

    async def _hurry(self) -> None:
        """Where few are left, do not wait for the silence of all others."""
        await self._first.wait()
        await trio.sleep(self._config.restore_wait_s)
        self.ready.set()

    async def _ask_all(self, known: Sequence[KnownContact]) -> None:
        config = self._config
        # A server signs 200 proofs a second; when servers die and a thousand leaves
        # of each start anew, there are not more than that to sign.
        count = config.leaf_restored if self._rpc.leaf else config.restored
        async with trio.open_nursery() as nursery:
            for index, contact in enumerate(known[:count]):
                if index and index % config.restored_at_once == 0:
                    await trio.sleep(config.restore_pause_s)
                nursery.start_soon(self._ask, contact)

    async def _ask(self, known: KnownContact) -> None:
        contact = known.contact
        try:
            key = await self._rpc.prove(contact.endpoint)
        except (RequestTimeout, RequestRefused):
            return
        expected = node_id_of(key, contact.endpoint.host)
        if expected[_BOUND:] != contact.node_id[_BOUND:]:
            return
        self._contacts.vouch(contact, known.age_s)
        self._proven += 1
        self._first.set()
        if self._proven >= self._config.restored_enough:
            self.ready.set()
