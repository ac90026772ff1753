"""Nodes that speak the protocol and lie: adversaries for simulations and tests.

Owns what each kind of liar answers and how attackers choose their places. They are
shipped nodes that joined like everybody and then turned. Refuses to know who is
attacked and what is measured.
"""

import enum
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from opnode.core.addresses import Endpoint, host_bytes, is_public
from opnode.core.errors import RemoteProtocolError
from opnode.core.ids import (
    NODE_ID_SIZE,
    Contact,
    NodeId,
    address_prefix,
    distance,
    fits_address,
)
from opnode.drivers.rpc.exchange import IncomingRequest
from opnode.protocols.rpc.datagrams import REQUEST_TYPE, decode_request_untrusted
from opnode.protocols.rpc.messages import (
    MAX_CONTACTS,
    FindNode,
    FindValue,
    Nodes,
    Ping,
    Reply,
    Store,
    Stored,
    Values,
    pack_contact,
)
from opnode.testing.dht_nodes import DhtNetwork, DhtNode

DELAY_S: Final = (0.5, 3.0)
"""How late a delaying node answers: between a slow node and one given up."""
# Bytes that a list of contacts costs beyond its contacts, and a contact beyond itself.
_LIST_SIZE: Final = 16
_CONTACT_OVERHEAD: Final = 2
_ID_BITS: Final = 8 * NODE_ID_SIZE


class Lie(enum.Enum):
    """What a node does to those who ask it. All answer PING, so all stay in tables."""

    COLLUDE = "collude"
    """Names only its gang; takes what is stored and never gives it."""
    DROP = "drop"
    """Answers nothing but PING."""
    DELAY = "delay"
    """Answers the truth, late."""
    REPLAY = "replay"
    """Gives the oldest record that the gang ever saw, and its gang's contacts."""
    FORGE = "forge"
    """Gives records that nobody signed, and names places where nobody is."""


class Gang:
    """Liars who know each other and share what they were told.

    Args:
        network: where they live.
        nursery: outlives them.
        rng: their choices.
    """

    def __init__(
        self, network: DhtNetwork, nursery: trio.Nursery, rng: random.Random
    ) -> None:
        self.members: list[DhtNode] = []
        # The oldest record seen of each key, as its bytes.
        self.seen: dict[bytes, bytes] = {}
        self._network = network
        self._nursery = nursery
        self._rng = rng

    def turn(self, node: DhtNode, lie: Lie) -> None:
        """Make a node lie from now on."""
        self.members.append(node)
        if lie is Lie.DROP:
            self._filter(node, self._dropped)
        elif lie is Lie.DELAY:
            self._filter(node, self._delayed)
        else:
            node.rpc.serve(FindNode, partial(self._find_node, lie))
            node.rpc.serve(FindValue, partial(self._find_value, lie))
            node.rpc.serve(Store, partial(self._store, lie))

    def _filter(
        self,
        node: DhtNode,
        passes: Callable[[Callable[[], None], bytes], bool],
    ) -> None:
        """Let `passes` decide about every request but PING before the node sees it."""
        serve = node.hub.rpc_handler
        assert serve is not None
        network = node.rpc.network_id

        def receive(data: bytes, source: Endpoint) -> None:
            again = partial(serve, data, source)
            if _is_question(data, network) and not passes(again, data):
                return
            again()

        node.hub.rpc_handler = receive

    def _dropped(self, again: Callable[[], None], data: bytes) -> bool:
        del again, data
        return False

    def _delayed(self, again: Callable[[], None], data: bytes) -> bool:
        del data
        self._nursery.start_soon(_later, self._rng.uniform(*DELAY_S), again)
        return False

    def _find_node(self, lie: Lie, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, FindNode)
        return Nodes(self._named(lie, body.target, request.room))

    def _find_value(self, lie: Lie, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, FindValue)
        seen = self.seen.get(body.key)
        records: tuple[bytes, ...] = ()
        if seen is not None and lie is Lie.REPLAY:
            records = (seen,)
        elif seen is not None and lie is Lie.FORGE:
            records = (_forged(seen, self._rng),)
        room = request.room - _LIST_SIZE - sum(map(len, records))
        if room < 0:
            records = ()
        named = self._named(lie, body.near or body.key, room)
        return Values(records, len(records), named)

    def _store(self, lie: Lie, request: IncomingRequest) -> Reply:
        """Claim to hold it; a record's first version is worth remembering."""
        body = request.body
        assert isinstance(body, Store)
        self.seen.setdefault(_key_of(body.record), body.record)
        return Stored(self._named(lie, body.near, request.room) if body.near else ())

    def _named(self, lie: Lie, target: bytes, room: int) -> tuple[bytes, ...]:
        count = min(MAX_CONTACTS, (room - _LIST_SIZE) // _packed_size(self.members[0]))
        if count <= 0:
            return ()
        if lie is Lie.FORGE:
            return tuple(
                pack_contact(nobody_near(target, 24, self._rng)) for _ in range(count)
            )
        near = sorted(
            (member.contact for member in self.members),
            key=lambda contact: distance(contact.node_id, target),
        )
        return tuple(pack_contact(contact) for contact in near[:count])


async def plant(
    network: DhtNetwork, key: bytes, count: int, rng: random.Random
) -> list[DhtNode]:
    """Join nodes whose ids lie next to a key, nearer than anybody honest would.

    Where ids are bound to addresses, addresses are tried until their ids fit
    (BEP 42); each is alone in its /24, as a botnet's are.
    """
    depth = len(network.nodes).bit_length() + 2
    planted = []
    honest = list(network.nodes)
    for _ in range(count):
        host = network.next_address()
        while is_public(host) and not _reach(host, key, depth):
            host = network.next_address()
        node_id = id_near(host, key, depth, rng)
        node = await network.add(host=host, node_id=node_id)
        await node.dht.join([other.hub.local for other in rng.sample(honest, 3)])
        planted.append(node)
    return planted


def id_near(host: str, key: bytes, depth: int, rng: random.Random) -> NodeId:
    """An id that shares at least ``depth`` bits with a key and fits the host."""
    if not is_public(host):
        kept = _first_bits(key, depth)
        return NodeId((kept | rng.getrandbits(_ID_BITS - depth)).to_bytes(20, "big"))
    last = rng.choice(_reach(host, key, depth))
    prefix = address_prefix(host, last)
    low = prefix[2] & 0xF8 | key[2] & 0x07
    node_id = NodeId(prefix[:2] + bytes((low,)) + rng.randbytes(16) + bytes((last,)))
    assert fits_address(node_id, host)
    return node_id


def nobody_near(target: bytes, depth: int, rng: random.Random) -> Contact:
    """A place next to a target where nobody lives."""
    host = f"10.{rng.randrange(200, 250)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    return Contact(id_near(host, target, depth, rng), Endpoint(host, 4000))


def choose_liars(
    network: DhtNetwork, share: float, lies: Sequence[Lie], gang: Gang
) -> list[DhtNode]:
    """Turn a share of the nodes; the lies go round. Returns those still honest."""
    liars = network.rng.sample(network.nodes, round(share * len(network.nodes)))
    for number, node in enumerate(liars):
        gang.turn(node, lies[number % len(lies)])
    turned = set(map(id, liars))
    return [node for node in network.nodes if id(node) not in turned]


async def _later(delay_s: float, again: Callable[[], None]) -> None:
    await trio.sleep(delay_s)
    again()


def _is_question(data: bytes, network: bytes) -> bool:
    """Whether a datagram is a request, and not PING."""
    if not data or data[0] != REQUEST_TYPE:
        return False
    try:
        return not isinstance(decode_request_untrusted(data, network).body, Ping)
    except RemoteProtocolError:
        return False


def _reach(host: str, key: bytes, depth: int) -> list[int]:
    """Last bytes of ids at a public host that share the first bits with a key."""
    wanted = int.from_bytes(key[:3], "big") >> (24 - min(depth, 21))
    shift = 24 - min(depth, 21)
    return [
        last
        for last in range(8)
        if int.from_bytes(address_prefix(host, last), "big") >> shift == wanted
    ]


def _first_bits(key: bytes, depth: int) -> int:
    shift = _ID_BITS - depth
    return int.from_bytes(key, "big") >> shift << shift


def _forged(wire: bytes, rng: random.Random) -> bytes:
    """A record with one bit changed, of what it says or of its signature."""
    changed = bytearray(wire)
    changed[rng.randrange(len(wire) // 2, len(wire))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _key_of(wire: bytes) -> bytes:
    """The storage key that a record names (record §2)."""
    return wire[2:22]


def _packed_size(node: DhtNode) -> int:
    return 22 + len(host_bytes(node.hub.local.host)) + _CONTACT_OVERHEAD
