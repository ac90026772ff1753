"""Debian's miniupnpd gives ports by PCP, NAT-PMP and UPnP, as home routers do.

It runs in a namespace of its own, one cable away from this machine.
"""

# The commands are our own, and nothing else runs beside them.
# ruff: noqa: S603, S607, ASYNC221

import os
import random
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.router import upnp
from opnode.drivers.router.control import RouterControl, _OldRouter
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import MappingMethod
from opnode.drivers.router.port_mapping import MappingState, PortMapping
from opnode.drivers.router.upnp import UpnpControl
from tests.router_contract import RouterContract
from tests.turn_contract import wait_until

# Each process of a run in parallel has a router of its own.
NUMBER = os.getpid()
NAME, NEAR = f"opn-router-{NUMBER}", f"opnr{NUMBER}"
NETWORK = f"10.213.{NUMBER % 250}"
ROUTER, OURS, EXTERNAL = f"{NETWORK}.1", f"{NETWORK}.2", "8.8.4.4"
CHAINS = """
table inet filter {
  chain forward { type filter hook forward priority 0; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting {
    type nat hook prerouting priority -100; jump prerouting_miniupnpd;
  }
  chain prerouting_miniupnpd { }
  chain postrouting {
    type nat hook postrouting priority 100; jump postrouting_miniupnpd;
  }
  chain postrouting_miniupnpd { }
}
"""
SETTINGS = """
ext_ifname=wan
listening_ip=lan
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
uuid=5f0d2a4e-0000-4000-8000-000000000001
allow 1024-65535 0.0.0.0/0 1024-65535
"""


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@contextmanager
def router_namespace():
    ip(f"netns add {NAME}")
    try:
        ip(f"link add {NEAR} type veth peer name lan netns {NAME}")
        ip(f"addr add {OURS}/24 dev {NEAR}")
        ip(f"link set {NEAR} up")
        ip(f"-n {NAME} link add wan type veth peer name beyond")
        for end, address in (("lan", ROUTER), ("wan", EXTERNAL)):
            ip(f"-n {NAME} addr add {address}/24 dev {end}")
        for end in ("lo", "lan", "wan", "beyond"):
            ip(f"-n {NAME} link set {end} up")
        ip(f"-n {NAME} route add 239.0.0.0/8 dev lan")
        nft = ["ip", "netns", "exec", NAME, "nft", "-f", "-"]
        subprocess.run(nft, check=True, input=CHAINS, text=True)
        yield
    finally:
        ip(f"netns del {NAME}")


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    program = shutil.which("miniupnpd")
    if program is None:
        pytest.skip("miniupnpd is not there (apt-get install miniupnpd-nftables)")
    folder = tmp_path_factory.mktemp("router")
    settings = folder / "miniupnpd.conf"
    settings.write_text(SETTINGS + f"lease_file={folder / 'leases'}\n")
    words = [program, "-d", "-f", str(settings), "-P", str(folder / "pid")]
    log = folder / "log"
    with router_namespace(), log.open("wb") as output:
        command = ["ip", "netns", "exec", NAME, *words]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + 10  # noqa: TID251 - a real process
        while b"NAT-PMP/PCP traffic" not in log.read_bytes():
            assert time.monotonic() < deadline, log.read_text()  # noqa: TID251 - as above
            time.sleep(0.05)  # noqa: TID251 - as above
        yield HomeRouter(ROUTER, OURS)
        process.terminate()
        process.wait(5)


class TestMiniupnpdByPcp(RouterContract):
    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def network(self) -> SystemNetwork:
        return SystemNetwork()

    @pytest.fixture
    def external(self) -> str:
        return EXTERNAL


class TestMiniupnpdByNatPmp(TestMiniupnpdByPcp):
    method = MappingMethod.NAT_PMP

    @pytest.fixture(autouse=True)
    def old(self, monkeypatch):
        async def refuse(*_):
            raise _OldRouter("as if it knew NAT-PMP alone")

        monkeypatch.setattr(RouterControl, "_map_by_pcp", refuse)

    async def test_a_port_that_is_taken_is_replaced_by_another(self):
        """NAT-PMP knows owners by their address, and both are we."""

    async def test_a_port_that_was_given_back_is_free_again(self, control):
        one = await control.map(4004, 5001, 600)
        await control.unmap(one)
        other = await control.map(4005, 5001, 600)
        assert other.external.port == 5001
        await control.unmap(other)


@pytest.fixture
def by_upnp(router):
    if upnp.miniupnpc is None:
        pytest.skip("the extra is not installed (pip install opnode[upnp])")
    return UpnpControl(router, random.Random(1).randrange)


async def test_upnp_gives_the_wanted_port_renews_it_and_takes_it_back(by_upnp):
    mapped = await by_upnp.map(4010, 4010, 600)
    assert mapped.external == (EXTERNAL, 4010)
    assert (mapped.method, mapped.lifetime_s) == (MappingMethod.UPNP, 600)
    again = await by_upnp.map(4010, 4010, 600)
    assert again == mapped
    await by_upnp.unmap(again)
    rules = ["ip", "netns", "exec", NAME, "nft", "list", "ruleset"]
    shown = subprocess.run(rules, check=True, capture_output=True, text=True).stdout
    assert "4010" not in shown


async def test_a_mapping_is_in_the_rules_until_we_leave(router, nursery):
    control = RouterControl(SystemNetwork(), router, random.Random(3).randbytes)
    mapping = PortMapping(4020, lambda: [control])
    nursery.start_soon(mapping.run)
    await wait_until(lambda: mapping.status.state is MappingState.MAPPED)
    rules = ["ip", "netns", "exec", NAME, "nft", "list", "ruleset"]

    def is_forwarded():
        shown = subprocess.run(rules, check=True, capture_output=True, text=True)
        return f"{OURS}:4020" in shown.stdout

    assert is_forwarded()
    await mapping.leave()
    await wait_until(lambda: not is_forwarded())
