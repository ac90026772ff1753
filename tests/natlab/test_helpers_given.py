"""What a user's network offers is used: a TURN server, a router that forwards ports.

Debian's own programs: coturn and miniupnpd.
"""

import shutil

import pytest

from simulations.natlab.evidence import transfer

SIZE = 200_000
TURN_PORT = 3478

COTURN = """
listening-ip={address}
relay-ip={address}
listening-port={port}
realm=lab
lt-cred-mech
user=me:secret
userdb={folder}/turndb
pidfile={folder}/pid
no-tls
no-dtls
no-cli
"""

SERVERS = """
[[server]]
url = "turn:{address}:{port}"
username = "me"
password = "secret"
"""

MINIUPNPD = """
ext_ifname=wan
listening_ip=lan
port=0
enable_upnp=yes
enable_natpmp=yes
secure_mode=yes
system_uptime=yes
lease_file={folder}/leases
upnp_table_name=natlab
upnp_nat_table_name=natlab
upnp_forward_chain=forwarded
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=masked
allow 1024-65535 0.0.0.0/0 1024-65535
"""

CHAINS = """
table inet natlab {
  chain forwarded { }
  chain mapped { }
  chain masked { }
  chain inwards {
    type nat hook prerouting priority dstnat - 5
    jump mapped
  }
}
"""


def program(name, package):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{package} is not installed (apt-get install {package})")
    return found


async def test_a_turn_server_of_the_user_carries_what_nothing_else_can(
    overlay, tmp_path
):
    coturn = program("turnserver", "coturn")
    servers = tmp_path / "servers.toml"
    settings = tmp_path / "coturn.conf"

    def beside(lab):
        place = {"address": lab.address("turn"), "port": TURN_PORT, "folder": tmp_path}
        settings.write_text(COTURN.format(**place))
        servers.write_text(SERVERS.format(**place))
        servers.chmod(0o600)
        return {"turn": [coturn, "-c", str(settings), "--log-file=stdout"]}

    options = ("--turn-servers", str(servers))
    what = "seed=open turn=open a=sym b=sym"
    async with overlay(what, beside=beside, options=options) as network:
        a, b = network.nodes["a"], network.nodes["b"]
        assert (await a.connect(b)).path == "turn"
        way = await transfer(a, b, SIZE)
        assert way.was_relayed, way
        assert way.path == "turn"


async def test_a_port_that_the_router_forwards_opens_a_symmetric_nat(overlay, tmp_path):
    miniupnpd = program("miniupnpd", "miniupnpd-nftables")
    settings = tmp_path / "miniupnpd.conf"
    settings.write_text(MINIUPNPD.format(folder=tmp_path))

    def beside(lab):
        lab.load_rules("bnat", CHAINS)
        pid = tmp_path / "pid"
        words = ["-d", "-f", str(settings), "-P", str(pid)]
        return {"bnat": [miniupnpd, *words]}

    async with overlay("seed=open a=sym b=sym", beside=beside) as network:
        way = await transfer(network.nodes["a"], network.nodes["b"], SIZE)
        assert way.went_direct, way
