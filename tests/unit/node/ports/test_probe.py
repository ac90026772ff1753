import pytest

from opnode.core.errors import ConfigError
from opnode.node.ports.probe import PortProbe
from opnode.testing.dht_nodes import DhtNetwork


@pytest.fixture
async def network(nursery):
    network = DhtNetwork(nursery, 1)
    for _ in range(3):
        await network.add()
    yield network
    network.close()


def probe_of(network):
    asker = network.nodes[0]
    return PortProbe(asker.rpc, network.network.host(asker.hub.local.host).bind)


def others_of(network):
    return [node.hub.local for node in network.nodes[1:]]


async def test_each_fresh_socket_is_seen_at_its_own_port(autojump_clock, network):
    own = network.nodes[0].hub.local
    seen = await probe_of(network).ask(others_of(network), 1.0)
    assert {endpoint.host for endpoint in seen} == {own.host}
    assert len({endpoint.port for endpoint in seen} | {own.port}) == 3


async def test_who_does_not_answer_in_time_is_told_apart(autojump_clock, network):
    network.kill(network.nodes[1])
    seen = await probe_of(network).ask(others_of(network), 1.0)
    assert seen[0] is None
    assert seen[1] is not None


async def test_without_sockets_nothing_is_known(autojump_clock, network):
    async def refuse(endpoint):
        raise ConfigError("listen", str(endpoint), "a free port")

    probe = PortProbe(network.nodes[0].rpc, refuse)
    assert await probe.ask(others_of(network), 1.0) == [None, None]


@pytest.mark.parametrize("junk", [b"", b"junk", bytes(64)])
async def test_junk_is_no_answer(autojump_clock, network, junk):
    assert network.nodes[0].rpc.seen_by_untrusted(junk, bytes(64)) is None
