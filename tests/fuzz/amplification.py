"""How many bytes a node sends to an address that did not prove itself, per byte in.

``python -m tests.fuzz.amplification`` prints one line of JSON; ``test_amplification``
runs a small part in the gate. Probes come from forged public addresses, each from one
of its own, so that everything which ever goes there is paid by that probe alone: the
answer, the pings that check a newcomer, what is repeated. The victim is a whole server
node on a virtual network, wiretapped.

A probe is a message of every type, or another protocol's first byte, cut or padded to
every length from 0 to 1500 bytes, with no token, a forged one, one that ran out, or one
that is valid for another address. Messages that name an address to be contacted come
from an address that did prove itself, and what counts is what the named one gets.

The ratio is printed of UDP payloads, and with the 28 or 48 bytes of headers that each
datagram has on the wire.
"""

import argparse
import contextlib
import itertools
import json
import math
import random
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import trio
from trio.testing import MockClock

from opnode.core.addresses import Endpoint
from opnode.core.ids import claim_key, node_id_of
from opnode.core.records import RecordKind, SignedRecord, build_chunk, build_record
from opnode.drivers.relay.service import RelayService
from opnode.node.node import OverlayNode
from opnode.protocols.relay import RelayConfig
from opnode.protocols.rpc import datagrams as d
from opnode.protocols.rpc import messages as m
from opnode.protocols.rpc.budget import Budget, BudgetConfig
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key
from opnode.testing.overlay import entry_of, open_seed, open_user
from opnode.testing.virtual_network import Link, VirtualNetwork

MAX_LENGTH = 1500
TOKENS = ("none", "forged", "expired", "another's")
STATES = ("fresh", "joined", "full", "registered", "loaded", "IPv6")
ALL_LENGTHS = range(MAX_LENGTH + 1)
FEW_LENGTHS = (0, 9, 48, 100, 200, 400, 630, 700, 775, 776, 871, 872, 1000, 1212, 1500)
"""For the gate: around the sizes at which an answer grows or a ping is paid."""

_TOKEN_LIFE_S = 601.0
_SETTLE_S = 45.0
# Slower than a node checks newcomers: 32 at once, each for 1.5 s.
_PAUSE_S = 0.06
# A loaded one has no time for newcomers anyway, and floods are slow to simulate.
_LOADED_PAUSE_S = 0.005
_FLOOD_PER_S = 4000
_DIAL_PAUSE_S = 3.0
_KEY = seeded_signing_key("amplification")
_PLENTY = BudgetConfig(endpoints_burst=1e9, packets_burst=1e9)
_BAG_NAME = "crowded"
_FOREIGN = "PING of another network"


@dataclass(slots=True)
class Account:
    """What one probe cost its sender and brought its target."""

    label: str
    target: Endpoint
    datagrams_in: int = 0
    bytes_in: int = 0
    datagrams_out: int = 0
    bytes_out: int = 0

    def ratio(self, header: int = 0) -> float:
        """Bytes out per byte in, each datagram with so many bytes of headers."""
        paid = self.bytes_in + header * self.datagrams_in
        got = self.bytes_out + header * self.datagrams_out
        return got / paid if paid else math.inf * got if got else 0.0


class Wiretap(VirtualNetwork):
    """A network that counts what goes to forged addresses.

    Attributes:
        accounts: by the address that pays with its good name.
        seen: every datagram that went to one of these, if somebody asks for it.
        handles: that were registered; as an observer of the wire sees them.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(random.Random(seed), Link(latency_s=(0.01, 0.01)))
        self.accounts: dict[Endpoint, Account] = {}
        self.seen: dict[Endpoint, list[bytes]] = {}
        self.handles: set[bytes] = set()

    def carry(
        self, data: bytes, source: Endpoint, destination: Endpoint, ecn: int = 0
    ) -> None:
        """Count and carry on."""
        account = self.accounts.get(destination)
        if account is not None:
            account.datagrams_out += 1
            account.bytes_out += len(data)
        if destination in self.seen:
            self.seen[destination].append(data)
        with contextlib.suppress(d.RemoteProtocolError):
            if data[:1] == b"\xc0":
                body = d.decode_request_untrusted(data, m.MAIN_NETWORK).body
                if isinstance(body, m.Register):
                    self.handles.add(body.handle)
        super().carry(data, source, destination, ecn)


class Probe(NamedTuple):
    """One datagram from one forged address."""

    label: str
    shows: str
    body: m.Request | None
    length: int
    first: bytes = b""


@dataclass(slots=True)
class Scan:
    """One victim in one state, and everybody around it."""

    state: str
    tap: Wiretap
    wall_clock: VirtualWallClock
    victim: Endpoint
    rng: random.Random
    record: SignedRecord
    bag_key: bytes
    accounts: list[Account] = field(default_factory=list)
    tokens: dict[Endpoint, bytes] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def address(self) -> Endpoint:
        """An address that nobody used yet, in a network of its own."""
        number = next(self.numbers)
        high, low = divmod(number, 250)
        if self.state == "IPv6":
            return Endpoint(f"2a0{high % 10}:{high:x}:{low:x}::7", 9)
        return Endpoint(f"{60 + high % 100}.{high // 100}.{low + 1}.7", 9)

    def send(self, data: bytes, source: Endpoint) -> None:
        """Let the victim receive a datagram that claims to come from there."""
        account = self.tap.accounts.get(source)
        if account is not None:
            account.datagrams_in += 1
            account.bytes_in += len(data)
        self.tap.carry(data, source, self.victim)

    def request(
        self, body: m.Request, source: Endpoint, token: bytes, length: int
    ) -> bytes:
        """A request datagram, padded or cut to a length."""
        sender = d.Sender(m.MAIN_NETWORK, node_id_of(_KEY.public, source.host), False)
        transaction_id = self.rng.randbytes(8)
        return d.encode_request(sender, transaction_id, token, body, length)[:length]

    async def token_of(self, source: Endpoint) -> bytes:
        """A token that the victim gave to this address, as its owner reads it."""
        self.tap.seen[source] = []
        self.send(self.request(m.Ping(), source, b"", 200), source)
        await trio.sleep(0.1)
        replies = self.tap.seen.pop(source)
        if not replies:
            # A victim under load has no time for everybody.
            return bytes(m.TOKEN_LENGTH)
        return d.decode_reply_untrusted(replies[0], m.MAIN_NETWORK).token

    def bodies(self) -> dict[str, m.Request]:
        """A message of every type that the victim can do something with."""
        handle = min(self.tap.handles, default=bytes(16))
        packed = m.pack_endpoint(self.victim)
        return {
            "PING": m.Ping(),
            _FOREIGN: m.Ping(),
            "PING with nonce": m.Ping(bytes(32), packed),
            "FIND_NODE": m.FindNode(bytes(20)),
            "FIND_VALUE": m.FindValue(self.bag_key),
            "FIND_VALUE near": m.FindValue(self.bag_key, 3, bytes(20)),
            "STORE": m.Store(self.record.wire),
            "STORE near": m.Store(self.record.wire, bytes(20)),
            "REGISTER": self._register(handle),
            "INTRODUCE": m.Introduce(handle, 10, bytes(300)),
            "OFFER": m.Offer(handle, bytes(300)),
            "WATCH": m.Watch(self.bag_key, 600),
            "CHANGED": m.Changed(self.record.wire),
            "DIAL_BACK": m.DialBack(bytes(16)),
            "DIAL": m.Dial(packed, bytes(16)),
            "DIALLED": m.Dialled(bytes(16)),
            "DELEGATE records": m.Delegate(self.bag_key, True),
            "DELEGATE nodes": m.Delegate(self.bag_key, False),
            "SIGNAL": m.Signal(handle, bytes(300)),
            "FIND_SERVICES": m.FindServices(int(m.Service.RELAY)),
            "JOIN_RELAY": m.JoinRelay(bytes(8), bytes(16)),
            "RELAY_ENDED": m.RelayEnded(bytes(8), 0),
            "FORWARD": m.Forward(packed, d.encode_body(m.Ping())),
        }

    def _register(self, handle: bytes) -> m.Register:
        issued_at = int(self.wall_clock())
        return m.Register(handle, 600, issued_at, _KEY.public, bytes(64))

    async def collect_tokens(self, lengths: Sequence[int]) -> None:
        """Get as many tokens as the probes need that run out, and let them."""
        for probe in self._probes(lengths):
            if probe.shows == "expired":
                source = self.address()
                self.tokens[source] = await self.token_of(source)
        await trio.sleep(_TOKEN_LIFE_S)

    async def run(self, lengths: Sequence[int], pause_s: float) -> None:
        """Send every probe, so many seconds apart."""
        probes = list(self._probes(lengths))
        self.rng.shuffle(probes)
        used_up = list(self.tokens)
        stranger = self.address()
        anothers, renewed_at = await self.token_of(stranger), trio.current_time()
        for probe in probes:
            if trio.current_time() > renewed_at + _TOKEN_LIFE_S / 3:
                anothers = await self.token_of(stranger)
                renewed_at = trio.current_time()
            source = used_up.pop() if probe.shows == "expired" else self.address()
            token = {
                "none": b"",
                "forged": self.rng.randbytes(8),
                "expired": self.tokens.get(source, b""),
                "another's": anothers,
            }[probe.shows]
            self._open_account(f"{probe.label}, token: {probe.shows}", source)
            self.send(self._datagram(probe, source, token), source)
            await trio.sleep(pause_s)

    async def run_named(self) -> None:
        """Have others contacted by messages from addresses that proved themselves."""
        size = m.DIAL_SIZE
        for length in (size // 2, size - 1, size, size, size + 1, MAX_LENGTH):
            source, named = self.address(), self.address()
            token = await self.token_of(source)
            account = self._open_account("DIAL of another address", named)
            body = m.Dial(m.pack_endpoint(named), self.rng.randbytes(16))
            data = self.request(body, source, token, length)
            account.datagrams_in, account.bytes_in = 1, len(data)
            self.send(data, source)
            # A node dials one every two seconds.
            await trio.sleep(_DIAL_PAUSE_S)

    async def run_conversations(self, count: int) -> None:
        """Many datagrams from one address: long ones, shorter repetitions, all types.

        What one paid for another must not get.
        """
        for _ in range(count):
            source = self.address()
            self._open_account("a conversation", source)
            bodies = self.rng.sample(list(self.bodies().values()), 3)
            token = self.rng.choice((b"", self.rng.randbytes(8)))
            whole = [self.request(body, source, token, MAX_LENGTH) for body in bodies]
            for _ in range(12):
                data = self.rng.choice(whole)
                self.send(data[: self.rng.choice((1500, 700, 400, 200))], source)
                await trio.sleep(self.rng.choice((0.0, 0.06, 1.0)))

    def _probes(self, lengths: Sequence[int]) -> Iterator[Probe]:
        for name, body in self.bodies().items():
            size = d.HEADER_LENGTH + d.body_size(body)
            # Every cut and padding, and the exact size whatever is left out.
            for length in sorted({*lengths, size - 1, size, size + 1}):
                for token in TOKENS:
                    yield Probe(f"{name}, {length} bytes", token, body, length)
        for first in range(256):
            for length in lengths if first < 4 or first in (0xE0, 0xC1) else (9, 1200):
                label = f"first byte 0x{first:02x}, {length} bytes"
                yield Probe(label, "none", None, length, bytes([first]))

    def _datagram(self, probe: Probe, source: Endpoint, token: bytes) -> bytes:
        if probe.body is not None:
            data = self.request(probe.body, source, token, probe.length)
            if probe.label.startswith(_FOREIGN):
                data = (data[:1] + b"another!" + data[9:])[: probe.length]
            return data
        if probe.first < b"\x04":
            # A STUN message (RFC 8489 §5): type, length, cookie, transaction.
            rest = max(0, probe.length - 20)
            head = probe.first + b"\x01" + rest.to_bytes(2) + b"\x21\x12\xa4\x42"
            return (head + self.rng.randbytes(12) + bytes(rest))[: probe.length]
        network = m.MAIN_NETWORK if probe.first == b"\xc1" else b""
        data = probe.first + network + self.rng.randbytes(probe.length)
        return data[: probe.length]

    def _open_account(self, label: str, target: Endpoint) -> Account:
        account = Account(f"{label} ({self.state})", target)
        self.tap.accounts[target] = account
        self.accounts.append(account)
        return account


@contextlib.asynccontextmanager
async def open_scan(state: str, seed: int) -> AsyncIterator[Scan]:
    """A victim in this state.

    Args:
        state: fresh knows nobody; joined knows 22 nodes; full holds a full bag too;
            registered has fewer neighbours and introduces a user; loaded gets more
            requests than it works on while it is probed; IPv6 is a full one there.
        seed: decides every probe and address.
    """
    tap, wall_clock, rng = Wiretap(seed), VirtualWallClock(), random.Random(seed)
    is_v6 = state == "IPv6"
    async with contextlib.AsyncExitStack() as stack:

        async def start(number: int, *, user: bool = False) -> OverlayNode:
            host = f"2a00:{number + 1:x}::1" if is_v6 else f"{20 + number}.9.9.9"
            opener = open_user if user else open_seed
            bootstrap = [] if not nodes else [entry_of(nodes[0])]
            return await stack.enter_async_context(
                opener(
                    bootstrap=bootstrap,
                    network=tap.host(host),
                    wall_clock=wall_clock,
                    rng=random.Random(f"{seed} {number}"),
                    listen=Endpoint(host, 4000),
                )
            )

        nodes: list[OverlayNode] = []
        others = 0 if state == "fresh" else 8 if state == "registered" else 22
        while len(nodes) <= others:
            nodes.append(await start(len(nodes)))
        # A victim that does all that a node can do for others.
        parts = nodes[0]._parts
        RelayService(parts.rpc, parts.hub, RelayConfig())
        # Or it would soon have no room to ping newcomers, which is to be scanned.
        nodes[0]._parts.rpc._asker.budget = Budget(_PLENTY)
        victim = Endpoint("2a00:1::1" if is_v6 else "20.9.9.9", 4000)
        if state == "registered":
            await start(50, user=True)
            await trio.sleep(5)
        bag = _bag(int(wall_clock()) + 86_400)
        scan = Scan(
            state=state,
            tap=tap,
            wall_clock=wall_clock,
            victim=victim,
            rng=rng,
            record=build_chunk(rng.randbytes(700), int(wall_clock()) + 86_400),
            bag_key=claim_key(_BAG_NAME),
        )
        if state not in ("fresh", "joined"):
            await _fill(scan, bag)
        yield scan


def _bag(expires_at: int) -> list[SignedRecord]:
    return [
        build_record(
            seeded_signing_key(f"claim {number}"),
            kind=RecordKind.CLAIM,
            key=claim_key(_BAG_NAME),
            seq=1,
            expires_at=expires_at,
            payload=bytes(400),
        )
        for number in range(m.MAX_RECORDS)
    ]


async def _fill(scan: Scan, bag: Iterable[SignedRecord]) -> None:
    """Store records from addresses that can."""
    for record in bag:
        source = scan.address()
        token = await scan.token_of(source)
        body = m.Store(record.wire)
        scan.send(scan.request(body, source, token, MAX_LENGTH), source)
        await trio.sleep(0.05)


async def _flood(scan: Scan) -> None:
    """More than a node works on, from addresses that nobody looks at."""
    source = Endpoint("199.9.9.9", 9)
    data = scan.request(m.FindNode(bytes(20)), source, b"", 900)
    while True:
        for _ in range(_FLOOD_PER_S // 20):
            number = scan.rng.randrange(1 << 24)
            host = f"199.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            scan.tap.carry(data, Endpoint(host, 9), scan.victim)
        await trio.sleep(0.05)


async def scan_state(state: str, lengths: Sequence[int], seed: int) -> list[Account]:
    """The accounts of every probe sent to a victim in this state."""
    async with open_scan(state, seed) as scan:
        await scan.collect_tokens(lengths)
        if state == "loaded":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_flood, scan)
                await scan.run(lengths, _LOADED_PAUSE_S)
                nursery.cancel_scope.cancel()
        else:
            await scan.run(lengths, _PAUSE_S)
            await scan.run_named()
            await scan.run_conversations(len(lengths))
        await trio.sleep(_SETTLE_S)
        return scan.accounts


def summary(accounts: Sequence[Account]) -> dict[str, object]:
    """The figures: the largest ratios, of which probe, and how many said anything."""
    header = {True: 48, False: 28}

    def on_wire(account: Account) -> float:
        return account.ratio(header[":" in account.target.host])

    by_type: dict[str, float] = defaultdict(float)
    for account in accounts:
        kind = account.label.split(",")[0].split(" (")[0]
        kind = "another protocol" if kind.startswith("first byte") else kind
        by_type[kind] = max(by_type[kind], round(account.ratio(), 3))
    worst, worst_wire = max(accounts, key=Account.ratio), max(accounts, key=on_wire)
    return {
        "figure": "amplification",
        "maximum": _rounded_up(worst.ratio()),
        "worst": worst.label,
        "maximum_with_headers": _rounded_up(on_wire(worst_wire)),
        "worst_with_headers": worst_wire.label,
        "probes": len(accounts),
        "answered": sum(account.bytes_out > 0 for account in accounts),
        "by_type": dict(sorted(by_type.items(), key=lambda item: -item[1])),
    }


def _rounded_up(ratio: float) -> float:
    """Three digits; what is above 1 stays above 1."""
    return math.ceil(ratio * 1000) / 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan and print; 1 if anything was amplified."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="Every so many lengths.")
    parser.add_argument("--state", action="append", choices=STATES)
    options = parser.parse_args(arguments)
    lengths = sorted({*ALL_LENGTHS[:: options.step], *FEW_LENGTHS})
    accounts: list[Account] = []
    for state in options.state or STATES:
        accounts += trio.run(
            scan_state,
            state,
            lengths,
            options.seed,
            clock=MockClock(autojump_threshold=0),
        )
    found = summary(accounts)
    sys.stdout.write(json.dumps(found) + "\n")
    return int(max(account.ratio() for account in accounts) > 1.0)


if __name__ == "__main__":
    sys.exit(main())
