"""A lab that exists: built from its description, changed while it runs, removed.

Owns the namespaces, their interfaces and routes, and the counters. Refuses to know what
runs in it. ``Lab`` blocks while it works (a tenth of a second); it is no async code.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from simulations.natlab import namespaces
from simulations.natlab.delay import DEVICE, READY
from simulations.natlab.plan import (
    GATEWAY_V4,
    GATEWAY_V6,
    Line,
    Plan,
    junk_addresses,
    make_plan,
)
from simulations.natlab.rules import nat_rules, net_rules
from simulations.natlab.spec import NET, LabSpec, Nat

_ROOT: Final = Path(__file__).parents[2]
_NUMBERS: Final = itertools.count(1)
_DELAYED_TABLE: Final = 100
_LIST_HEARD: Final = ("nft", "-j", "list", "set", "ip", "natlab", "heard")
_DELETE_HEARD: Final = ("nft", "delete", "element", "ip", "natlab", "heard")
_LIST_RULES: Final = ("nft", "-j", "list", "ruleset")
_QUEUE: Final = "burst 64kb latency 50ms"


class Flow(NamedTuple):
    """What one address has sent to another over the public segment, by protocol."""

    source: str
    destination: str
    protocol: str
    packets: int
    bytes: int


class Lab:
    """Hosts and NATs as namespaces of this machine; a context manager.

    Args:
        spec: what there is.
        name: for a lab that outlives this process; the next lab of the name, or
            ``down``, removes it. Without one the lab belongs to this process, and the
            next lab of any process removes it if it was left behind.
    """

    def __init__(self, spec: LabSpec, name: str | None = None) -> None:
        spec.check()
        self.spec = spec
        self.plan: Plan = make_plan(spec)
        self.name = name or f"p{os.getpid()}n{next(_NUMBERS)}"
        self._nats = dict(spec.nats)
        self._pairs: dict[tuple[str, str], float] = {}
        self._delay: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def up(self) -> None:
        """Build it; what is left of older labs goes first.

        Raises:
            LabFailed: no lab can be built here, or something did not work.
        """
        namespaces.remove(namespaces.abandoned())
        self.down()
        try:
            self._build()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Remove it with every process that runs in it; fine if it is not there."""
        if self._delay is not None:
            with self._delay:
                self._delay.kill()
            self._delay = None
        namespaces.remove(namespaces.existing(f"{namespaces.PREFIX}{self.name}-"))

    def command(self, host: str, *words: str) -> list[str]:
        """The words of a command that runs another one in a host, NAT or ``net``."""
        return ["ip", "netns", "exec", self.namespace(host), *words]

    def namespace(self, station: str) -> str:
        """The name of the namespace of a host, NAT or ``net``."""
        return f"{namespaces.PREFIX}{self.name}-{station}"

    def address(self, station: str) -> str:
        """The IPv4 address of a host, or the outer one of a NAT."""
        return self.plan.lines[station].address

    def public_address(self, station: str) -> str:
        """The IPv4 address by which the public segment knows a host."""
        return self.address(self.spec.outermost(station))

    def public_addresses(self, station: str) -> tuple[str, ...]:
        """All addresses by which the public segment knows a host, of both families."""
        line = self.plan.lines[self.spec.outermost(station)]
        own = self.plan.lines[station].address_v6
        return (*line.public_addresses, *([own] if own else ()))

    def inside(
        self, station: str, work: Callable[[], namespaces.Result]
    ) -> namespaces.Result:
        """Do something in a namespace; sockets made there stay there."""
        return namespaces.in_namespace(self.namespace(station), work)

    def change_nat(self, name: str, nat: Nat) -> None:
        """Let a NAT behave otherwise from now on; it forgets its mappings."""
        self._nats[name] = nat
        self.inside(name, partial(self._load_nat, name))
        self.inside(name, partial(namespaces.run, ["conntrack", "-F"]))

    def load_rules(self, station: str, rules: str) -> None:
        """Load nftables rules of one's own beside those that are there.

        Raises:
            LabFailed: they are wrong.
        """
        self.inside(station, partial(namespaces.run, ["nft", "-f", "-"], rules))

    def restart_nat(self, name: str) -> None:
        """Let a NAT forget all mappings, as after a loss of power."""
        self.change_nat(name, self._nats[name])

    def forget(self, one: str, other: str) -> None:
        """Let the NATs in front of two hosts forget what they know of each other.

        Mappings with third parties stay.
        """
        for name, peer in ((one, other), (other, one)):
            addresses = self._outer_addresses(peer)
            above = self.spec.behind(name)
            while above is not None:
                self.inside(above, _forgetter(addresses))
                above = self.spec.behind(above)

    def set_delays(self, pairs: Mapping[tuple[str, str], float]) -> None:
        """Give pairs of stations a one-way delay of their own, in milliseconds.

        Raises:
            LabFailed: the lab was built without any delay.
        """
        if self._delay is None:
            raise namespaces.LabFailed("a lab whose links have no delay cannot get one")
        self._pairs = dict(pairs)
        self._tell_delays()

    def move(self, host: str, behind: str | None) -> None:
        """Take a host from its network to another one: a new address, at once."""
        self.unplug(host)
        self.plug(host, behind)

    def unplug(self, host: str) -> None:
        """Take a host off its network."""
        self._batch_in(host, ["link delete eth0"])

    def plug(self, host: str, behind: str | None) -> None:
        """Connect a host that was unplugged."""
        self.plan.add_line(host, behind, v6=self.spec.hosts[host].v6)
        hosts = {**self.spec.hosts}
        hosts[host] = msgspec.structs.replace(hosts[host], behind=behind)
        self.spec = msgspec.structs.replace(self.spec, hosts=hosts)
        self.plan.spec = self.spec
        line = self.plan.lines[host]
        self._batch_in(line.above, [self._cable(host)])
        self._batch_in(host, _station_lines("eth0", line))
        self._batch_in(line.above, self._upper_end(host))
        self._limit_rate(host)
        if self._delay is not None:
            self._tell_delays()
        self.inside(host, namespaces.wait_running)

    def flows(self) -> list[Flow]:
        """What has crossed the public segment since it was built or last cleared."""
        text = self.inside(
            NET, lambda: namespaces.run(["nft", "-j", "list", "ruleset"])
        )
        found = []
        for item in json.loads(text)["nftables"]:
            for element in item.get("set", {}).get("elem", ()):
                values, counter = element["elem"]["val"], element["elem"]["counter"]
                source, destination, protocol = values["concat"]
                flow = counter["packets"], counter["bytes"]
                found.append(Flow(source, destination, str(protocol), *flow))
        return found

    def clear_flows(self) -> None:
        """Count anew."""
        for name in ("flows", "flows6"):
            words = ["nft", "flush", "set", "inet", "natlab", name]
            self.inside(NET, partial(namespaces.run, words))

    def _batch_in(self, station: str, lines: Iterable[str]) -> None:
        self.inside(station, partial(namespaces.batch, lines))

    def _outer_addresses(self, name: str) -> list[str]:
        """A station's address on every network on its way to the public segment."""
        found, at = [], name
        while True:
            found.append(self.address(at))
            above = self.spec.behind(at)
            if above is None:
                return found
            at = above

    # --- Building ---

    def _build(self) -> None:
        stations = [NET, *self.spec.nats, *self.spec.hosts]
        namespaces.batch(f"netns add {self.namespace(one)}" for one in stations)
        namespaces.in_namespaces({self.namespace(s): _prepare for s in stations})
        uppers = {
            above: [s for s in stations[1:] if self.plan.lines[s].above == above]
            for above in (NET, *self.spec.nats)
        }
        for above, below in uppers.items():
            self._batch_in(above, map(self._cable, below))
        works: dict[str, Callable[[], None]] = {self.namespace(NET): self._set_up_net}
        for nat in self.spec.nats:
            works[self.namespace(nat)] = partial(self._set_up_nat, nat)
        for host in self.spec.hosts:
            works[self.namespace(host)] = partial(self._set_up_host, host)
        namespaces.in_namespaces(works)
        # Both ends have to be there before either can carry an address of the other.
        for above, below in uppers.items():
            chain = itertools.chain.from_iterable(map(self._upper_end, below))
            self._batch_in(above, chain)
        for station in uppers[NET]:
            self._limit_rate(station)
        self._start_delay()
        waits = {self.namespace(s): namespaces.wait_running for s in stations}
        namespaces.in_namespaces(waits)

    def _cable(self, station: str) -> str:
        """From the NAT above, or the public segment."""
        port = self.plan.lines[station].port
        peer = f"peer name {self._end_of(station)} netns {self.namespace(station)}"
        return f"link add {port} type veth {peer}"

    def _set_up_net(self) -> None:
        namespaces.run(["nft", "-f", "-"], self._net_rules())
        lines = ["link set lo up"]
        # What is sent to an address that exists nowhere vanishes, as on the Internet.
        lines += ["route add blackhole default", "route add blackhole ::/0"]
        if self._is_delayed():
            lines += [
                f"tuntap add dev {DEVICE} mode tun",
                f"link set {DEVICE} up txqueuelen 5000",
                f"route add default dev {DEVICE} table {_DELAYED_TABLE}",
                f"route add ::/0 dev {DEVICE} table {_DELAYED_TABLE}",
            ]
        namespaces.batch(lines)
        namespaces.set_kernel(_FORWARDING)

    def _set_up_nat(self, name: str) -> None:
        self._load_nat(name)
        lan, lan_v6 = self.plan.lans[name], self.plan.lans_v6.get(name)
        lines = [
            "link set lo up",
            "link add lan type bridge",
            f"address add {lan[1]}/{lan.prefixlen} dev lan",
            "link set lan up",
            *_station_lines("wan", self.plan.lines[name]),
        ]
        if lan_v6:
            lines.append(f"address add {lan_v6[1]}/{lan_v6.prefixlen} dev lan nodad")
        namespaces.batch(lines)
        namespaces.set_kernel(_FORWARDING)

    def _load_nat(self, name: str) -> None:
        nat = self._nats[name]
        rules = nat_rules(nat, self.plan.lines[name], str(self.plan.lans[name]))
        namespaces.run(["nft", "-f", "-"], rules)
        # A mapping that was answered lives as long as one that was not.
        values = {f"{_UDP_TIMEOUT}{end}": str(nat.binding_s) for end in ("", "_stream")}
        namespaces.set_kernel(values)

    def _set_up_host(self, name: str) -> None:
        lines = ["link set lo up", *_station_lines("eth0", self.plan.lines[name])]
        for number, address in enumerate(junk_addresses(self.spec.hosts, name)):
            lines += [
                f"link add docker{number} type veth peer name inner{number}",
                f"address add {address} dev docker{number}",
                f"link set docker{number} up",
                f"link set inner{number} up",
            ]
        namespaces.batch(lines)

    def _upper_end(self, station: str) -> list[str]:
        """What the NAT above, or the public segment, needs for a station."""
        line = self.plan.lines[station]
        if not line.is_public:
            lines = [f"link set {line.port} master lan up"]
            if self._nats[line.above].isolated:
                lines.append(f"link set {line.port} type bridge_slave isolated on")
            return lines
        lines = [
            f"link set {line.port} up",
            f"address add {GATEWAY_V4}/32 dev {line.port}",
            f"route add {line.v4} dev {line.port}",
        ]
        if line.v6:
            lines += [
                f"address add {GATEWAY_V6}/64 dev {line.port} nodad",
                f"route add {line.v6} dev {line.port}",
            ]
        if line.inner_v6:
            way = f"via {line.address_v6} dev {line.port}"
            lines.append(f"route add {line.inner_v6} {way} onlink")
        if self._is_delayed():
            rule = f"rule add iif {line.port} lookup {_DELAYED_TABLE}"
            lines += [rule, f"-6 {rule}"]
        return lines

    def _limit_rate(self, station: str) -> None:
        """Both directions of a station's line to the public segment."""
        rate, line = self.spec.link_of(station).rate, self.plan.lines[station]
        if not rate or not line.is_public:
            return
        for place, end in ((NET, line.port), (station, self._end_of(station))):
            queue = f"tc qdisc add dev {end} root tbf rate {rate} {_QUEUE}"
            self.inside(place, partial(namespaces.run, queue.split()))

    def _end_of(self, station: str) -> str:
        return "wan" if station in self.spec.nats else "eth0"

    def _net_rules(self) -> str:
        losses = {
            line.port: self.spec.link_of(name).loss
            for name, line in self.plan.lines.items()
            if line.is_public and self.spec.link_of(name).loss
        }
        return net_rules(losses, is_delayed=self._is_delayed())

    # --- The delay line ---

    def _is_delayed(self) -> bool:
        stations = (*self.spec.hosts, *self.spec.nats)
        return any(self.spec.link_of(name).delay_ms for name in stations)

    def _start_delay(self) -> None:
        if not self._is_delayed():
            return
        words = [sys.executable, "-m", "simulations.natlab.delay"]
        self._delay = subprocess.Popen(  # noqa: S603 - our own program
            self.command(NET, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        self._tell_delays()
        assert self._delay.stdout is not None
        if self._delay.stdout.readline().strip() != READY:
            raise namespaces.LabFailed("the delay line did not start")

    def _tell_delays(self) -> None:
        one_way = {
            address: self.spec.link_of(name).delay_ms / 1e3
            for name, line in self.plan.lines.items()
            for address in line.public_addresses
        }
        pairs = [
            [a, b, ms / 1e3]
            for (one, other), ms in self._pairs.items()
            for x, y in ((one, other), (other, one))
            for a in self.plan.lines[self.spec.outermost(x)].public_addresses
            for b in self.plan.lines[self.spec.outermost(y)].public_addresses
        ]
        assert self._delay is not None
        assert self._delay.stdin is not None
        text = json.dumps({"one_way": one_way, "pairs": pairs})
        self._delay.stdin.write(text + "\n")
        self._delay.stdin.flush()


_UDP_TIMEOUT: Final = "net.netfilter.nf_conntrack_udp_timeout"
_FORWARDING: Final = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    # What hosts of one network say to each other is none of the NAT's business.
    "net.bridge.bridge-nf-call-iptables": "0",
    "net.bridge.bridge-nf-call-ip6tables": "0",
    "net.bridge.bridge-nf-call-arptables": "0",
    # A hairpinned packet is no detour that its sender could spare itself.
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}


def _prepare() -> None:
    """Before the first interface: addresses of IPv6 are there at once."""
    values = {"accept_dad": "0", "accept_ra": "0", "router_solicitations": "0"}
    namespaces.set_kernel(
        {f"net.ipv6.conf.default.{name}": value for name, value in values.items()}
    )


def _station_lines(end: str, line: Line) -> Sequence[str]:
    """Address and default route of a station's own end of its line."""
    onlink = " onlink" if line.is_public else ""
    lines = [
        f"address add {line.v4} dev {end}",
        f"link set {end} up",
        f"route add default via {line.gateway} dev {end}{onlink}",
    ]
    if line.v6:
        lines += [
            f"address add {line.v6} dev {end} nodad",
            f"route add ::/0 via {line.gateway_v6} dev {end}",
        ]
    return lines


def _forgetter(addresses: Sequence[str]) -> Callable[[], None]:
    """Removes a NAT's mappings with the given addresses, in the NAT's namespace."""

    def forget() -> None:
        for address in addresses:
            for side in ("--orig-dst", "--orig-src"):
                # None to delete is no fault.
                with contextlib.suppress(namespaces.LabFailed):
                    namespaces.run(["conntrack", "-D", side, address])
        _forget_heard(addresses)

    return forget


def _forget_heard(addresses: Sequence[str]) -> None:
    """Whom a NAT would let in because it was once sent to."""
    listed = json.loads(namespaces.run(_LIST_HEARD))["nftables"][-1]["set"]
    chosen = []
    for element in listed.get("elem", ()):
        port, address = element["elem"]["val"]["concat"]
        if address in addresses:
            chosen.append(f"{port} . {address}")
    if chosen:
        # One that just ended by itself is no fault.
        with contextlib.suppress(namespaces.LabFailed):
            elements = "{ " + ", ".join(chosen) + " }"
            namespaces.run([*_DELETE_HEARD, elements])
