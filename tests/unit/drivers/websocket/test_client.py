"""`websocket_client`: what is for the gateway leaves by it, and why it did not open."""

import pytest
import trio

from opnode.core.errors import ConfigError, PeerUnreachable
from opnode.drivers.websocket.client import (
    OPEN_S,
    GatewayLink,
    GatewayTrust,
    check_trust,
)
from tests.unit.drivers.gateways import NETWORK, URL, gateway_site, rpc_datagram


def link_by(hub, endpoint, dial):
    return GatewayLink(hub, url=URL, endpoint=endpoint, network=NETWORK, dial=dial)


async def test_what_is_for_the_gateway_leaves_by_udp_again_once_it_is_released(
    autojump_clock, nursery
):
    site, client, server, gateway = await gateway_site(nursery)
    link = await site.link(client, gateway, server.local)
    assert client.carrier_of(server.local) is link.carrier
    link.release()
    client.send(rpc_datagram(1), server.local)
    await trio.sleep(1.0)
    assert server.arrived == [(rpc_datagram(1), client.local)]
    # What the gateway still has for us by WebSocket is heard.
    ((name, _),) = gateway._clients.items()
    server.send(rpc_datagram(2), name)
    await trio.sleep(1.0)
    assert client.arrived == [(rpc_datagram(2), server.local)]


async def test_a_port_that_nobody_listens_on_is_told(autojump_clock, nursery):
    _, client, server, _ = await gateway_site(nursery)

    async def dial(host, port):
        await trio.lowlevel.checkpoint()
        raise OSError("connection refused")

    with pytest.raises(PeerUnreachable, match="connection refused"):
        await link_by(client, server.local, dial).run()
    assert client.carrier_of(server.local) is None


async def test_a_gateway_that_does_not_answer_is_given_up(autojump_clock, nursery):
    _, client, server, _ = await gateway_site(nursery)

    async def dial(host, port):
        await trio.sleep_forever()

    started_at = trio.current_time()
    with pytest.raises(PeerUnreachable, match="not open within"):
        await link_by(client, server.local, dial).run()
    assert trio.current_time() - started_at == pytest.approx(OPEN_S)


async def test_a_server_of_something_else_is_told_as_such(autojump_clock, nursery):
    _, client, server, _ = await gateway_site(nursery)

    async def dial(host, port):
        near, far = trio.testing.memory_stream_pair()
        await far.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return near

    with pytest.raises(PeerUnreachable, match="no WebSocket"):
        await link_by(client, server.local, dial).run()


async def test_a_gateway_that_dies_ends_the_link_at_once(autojump_clock, nursery):
    site, client, server, gateway = await gateway_site(nursery)
    link = await site.link(client, gateway, server.local)
    ((_, carrier),) = gateway._clients.items()
    await trio.aclose_forcefully(carrier._connection._stream)
    await trio.sleep(0.1)
    assert len(link.ended) == 1
    assert client.carrier_of(server.local) is None


def test_a_file_of_authorities_is_checked_early(tmp_path):
    check_trust(GatewayTrust())
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    with pytest.raises(ConfigError, match="gateway-ca"):
        check_trust(GatewayTrust(empty))
