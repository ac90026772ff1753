"""The kernel's own notices, in a network namespace of the test's own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

MOVE = """
import subprocess, trio
from opnode.drivers.network.network import SystemNetwork

async def main():
    network = SystemNetwork()
    known = network.interface_addresses()
    async with trio.open_nursery() as nursery:
        async def move():
            await trio.sleep(0.2)
            for command in COMMANDS:
                await trio.run_process(command.split())
        nursery.start_soon(move)
        with trio.fail_after(2.5):
            seen = await network.wait_changed(known)
        nursery.cancel_scope.cancel()
    print(*(f"{a.host} {a.is_default}" for a in seen if a not in known))

trio.run(main)
"""


def run_in_namespace(commands):
    script = MOVE.replace("COMMANDS", repr(commands))
    setup = (
        "ip link set lo up && ip link add name one type veth peer name two"
        " && ip link set one up && ip link set two up"
        " && ip addr add 192.168.0.2/24 dev one"
    )
    shell = f'{setup} && exec "$0" -c "$1"'
    command = ["unshare", "-n", "sh", "-c", shell, sys.executable, script]
    return subprocess.run(  # noqa: S603 - our own words
        command, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["ip addr add 10.9.9.9/24 dev one"], "10.9.9.9 False"),
        (["ip route add default via 192.168.0.1"], "192.168.0.2 True"),
        ([f"ip addr {verb} 192.168.0.2/24 dev one" for verb in ("del", "add")], ""),
    ],
)
def test_another_address_or_route_or_network_is_noticed_without_waiting_for_a_poll(
    commands, expected
):
    if not _may_unshare():
        pytest.skip("this system allows no network namespaces")
    result = run_in_namespace(commands)
    assert result.stdout.strip() == expected, result.stderr


def _may_unshare():
    probe = ["unshare", "-n", "ip", "link", "set", "lo", "up"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own words
