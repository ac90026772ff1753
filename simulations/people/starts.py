"""What a user asks in the first minute after a restart, measured on the shipped code.

Owns that measurement, on a small overlay of real nodes. Refuses to know how many
restart at once.
"""

import functools
import pathlib
import statistics
import tempfile
from typing import Final, NamedTuple

import msgspec
import trio

from opnode.node.config import NodeConfig
from opnode.protocols.rpc.traffic import TrafficLine
from opnode.testing.clock import run_deterministic
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.seeded_secrets import seeded_secrets
from opnode.testing.virtual_network import Link
from simulations.model.durations import LATENCY_S
from simulations.people.costs import HEADER_BYTES, SERVERS

_USERS: Final = 8
_SETTLE_S: Final = 180.0
_WATCHED_S: Final = 60.0
_WORK: Final = {"STORE": 3.0, "DIAL_BACK": 3.0, "DELEGATE": 30.0}
"""Units of work, where it is more than a FIND_NODE's."""
REGISTER_UNITS: Final = 3.0
_LINK: Final = Link(latency_s=LATENCY_S)


class StartCosts(msgspec.Struct, frozen=True, kw_only=True):
    """One start, registrations apart.

    Attributes:
        requests: of all kinds but REGISTER.
        stores: of these, STORE: they go to the nodes nearest to the user's records.
        units: of work for such a request on average, as servers limit it (rpc §7.4).
        bytes_each: of one such request and its reply, on the wire.
        published_s: median until others can find the user.
        registers: REGISTER requests.
        register_bytes: of one, on the wire.
    """

    requests: float
    stores: float
    units: float
    bytes_each: float
    published_s: float
    registers: float
    register_bytes: float

    def scaled(self, factor: float) -> "StartCosts":
        """A start of so many times the requests, of the same kinds."""
        requests, stores = self.requests * factor, self.stores * factor
        return msgspec.structs.replace(self, requests=requests, stores=stores)


class _Start(NamedTuple):
    requests: int
    stores: int
    units: float
    bytes_all: int
    registers: int
    register_bytes: int
    published_s: float


@functools.cache
def measure_starts(seed: int = 1) -> StartCosts:
    """Measure; the same seed gives the same costs. Some seconds of CPU."""
    with seeded_secrets(seed):
        starts = run_deterministic(_measure, seed, seed)
    requests = sum(one.requests for one in starts)
    registers = sum(one.registers for one in starts)
    return StartCosts(
        requests=requests / len(starts),
        stores=sum(one.stores for one in starts) / len(starts),
        units=sum(one.units for one in starts) / requests,
        bytes_each=sum(one.bytes_all for one in starts) / requests,
        published_s=statistics.median(one.published_s for one in starts),
        registers=registers / len(starts),
        register_bytes=sum(one.register_bytes for one in starts) / registers,
    )


async def _measure(seed: int) -> list[_Start]:
    async with open_overlay(0, link=_LINK, seed=seed, public=True) as overlay:
        for _ in range(SERVERS):
            await overlay.seed()
        with tempfile.TemporaryDirectory() as directory:
            return [
                await _restart(overlay, pathlib.Path(directory) / str(number))
                for number in range(_USERS)
            ]


async def _restart(overlay: Overlay, directory: pathlib.Path) -> _Start:
    config = NodeConfig(data_dir=directory, bootstrap=tuple(overlay.entries[:3]))
    user = await overlay.user(behind="port", config=config)
    await trio.sleep(_SETTLE_S)
    host, nat = overlay.host_of(user), overlay.nat_of(user)
    await overlay.kill(user)
    host.move_to(nat)
    began_at = trio.current_time()
    user = await overlay.start_user(host, config)
    await user.wait_published()
    published_s = trio.current_time() - began_at
    await trio.sleep_until(began_at + _WATCHED_S)
    lines = [one for one in user.statistics().rpc.traffic if one.side == "asked"]
    await overlay.stop(user)
    own = [one for one in lines if one.message == "REGISTER"]
    rest = [one for one in lines if one.message != "REGISTER"]
    return _Start(
        requests=sum(one.datagrams_out for one in rest),
        stores=sum(one.datagrams_out for one in rest if one.message == "STORE"),
        units=sum(_WORK.get(one.message, 1.0) * one.datagrams_out for one in rest),
        bytes_all=sum(map(_wire_bytes, rest)),
        registers=sum(one.datagrams_out for one in own),
        register_bytes=sum(map(_wire_bytes, own)),
        published_s=published_s,
    )


def _wire_bytes(line: TrafficLine) -> int:
    datagrams = line.datagrams_in + line.datagrams_out
    return line.bytes_in + line.bytes_out + HEADER_BYTES * datagrams
