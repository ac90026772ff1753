"""`websocket_gateway`: who is let in, under which name, and what ends a client."""

import pytest
import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, wrap_client_stream

from opnode.core.addresses import Endpoint, is_carried
from opnode.core.errors import PeerUnreachable
from opnode.drivers.websocket.carrier import CarrierConfig
from opnode.drivers.websocket.gateway import GatewayConfig, WebSocketGateway
from opnode.protocols.websocket import MAX_MESSAGE, CloseCode, hello
from tests.unit.drivers.gateways import (
    NETWORK,
    REMOTE,
    gateway_site,
    rpc_datagram,
)


async def raw_client(nursery, gateway, remote=REMOTE):
    near, far = memory_stream_pair()
    nursery.start_soon(gateway.serve, far, remote)
    return await wrap_client_stream(nursery, near, "gate.example", "/")


async def closed_with(connection):
    """The code with which the gateway ends it, sooner or later."""
    with pytest.raises(ConnectionClosed) as closed:
        await connection.get_message()
    return closed.value.reason


async def test_each_message_is_a_datagram_of_a_client_with_a_name_of_its_own(
    autojump_clock, nursery
):
    site, client, server, gateway = await gateway_site(nursery)
    await site.link(client, gateway, server.local)
    client.send(rpc_datagram(1), server.local)
    client.send(rpc_datagram(2) + rpc_datagram(3), server.local, 21)
    await trio.sleep(0.1)
    assert [data for data, _ in server.arrived] == [rpc_datagram(n) for n in (1, 2, 3)]
    (name,) = {source for _, source in server.arrived}
    assert is_carried(name.host)
    assert server.shown(name) == REMOTE
    server.send(rpc_datagram(9), name)
    await trio.sleep(0.1)
    assert client.arrived == [(rpc_datagram(9), server.local)]
    # It was the WebSocket that carried them: neither socket sent anything.
    assert client.statistics().socket.datagrams_out == 0
    assert server.statistics().socket.datagrams_out == 0
    seen = gateway.statistics()
    assert (seen.clients, seen.served, seen.datagrams) == (1, 1, 4)


async def test_a_client_that_ends_leaves_nothing_behind(autojump_clock, nursery):
    site, client, server, gateway = await gateway_site(nursery)
    link = await site.link(client, gateway, server.local)
    client.send(rpc_datagram(1), server.local)
    await trio.sleep(0.1)
    ((_, name),) = server.arrived
    link.carrier.close(CloseCode.GOING_AWAY, "UDP works again")
    await trio.sleep(2.0)
    assert link.ended == ["UDP works again"]
    assert server.carrier_of(name) is None
    assert client.carrier_of(server.local) is None
    seen = gateway.statistics()
    assert (seen.clients, seen.datagrams, seen.bytes) == (0, 1, 21)


async def test_no_more_clients_than_the_limits_say_in_all_and_of_one_host(
    autojump_clock, nursery
):
    config = GatewayConfig(max_clients=3, max_per_host=2)
    site, client, server, gateway = await gateway_site(nursery, config)
    for port in (1, 2):
        await site.link(client, gateway, server.local, remote=Endpoint("9.9.9.9", port))
    with pytest.raises(PeerUnreachable, match="4004 too many clients of one host"):
        await site.link(client, gateway, server.local, remote=Endpoint("9.9.9.9", 3))
    await site.link(client, gateway, server.local, remote=Endpoint("8.8.8.8", 3))
    with pytest.raises(PeerUnreachable, match="4003 too many clients"):
        await site.link(client, gateway, server.local, remote=Endpoint("7.7.7.7", 3))
    assert gateway.statistics().refused == 2


async def test_a_host_of_this_machine_is_a_proxy_with_many_clients(
    autojump_clock, nursery
):
    config = GatewayConfig(max_per_host=1)
    site, client, server, gateway = await gateway_site(nursery, config)
    for port in (1, 2, 3):
        here = Endpoint("127.0.0.1", port)
        await site.link(client, gateway, server.local, remote=here)
    assert gateway.statistics().clients == 3


async def test_a_gateway_that_knows_nobody_refuses_by_name(autojump_clock, nursery):
    site, client, server, gateway = await gateway_site(nursery)
    gateway.has_peers = lambda: False
    with pytest.raises(PeerUnreachable, match="4005 this gateway knows no other node"):
        await site.link(client, gateway, server.local)


async def test_another_network_is_refused_by_name(autojump_clock, nursery):
    site, client, server, gateway = await gateway_site(nursery)
    with pytest.raises(PeerUnreachable, match="4001 network: found"):
        await site.link(client, gateway, server.local, network=b"network2")


async def test_whoever_says_no_hello_in_time_is_dropped(autojump_clock, nursery):
    _, _, _, gateway = await gateway_site(nursery)
    connection = await raw_client(nursery, gateway)
    started_at = trio.current_time()
    await closed_with(connection)
    assert trio.current_time() - started_at == pytest.approx(10.0, abs=0.5)
    assert gateway.statistics().clients == 0


async def test_strangers_beyond_the_limit_are_closed_unheard(autojump_clock, nursery):
    config = GatewayConfig(max_strangers=2)
    _, _, _, gateway = await gateway_site(nursery, config)
    for _ in range(2):
        await raw_client(nursery, gateway)
    near, far = memory_stream_pair()
    await gateway.serve(far, REMOTE)
    assert await near.receive_some() == b""
    assert gateway.statistics().refused == 1


async def test_strangers_of_one_host_keep_nobody_else_out(autojump_clock, nursery):
    config = GatewayConfig(max_strangers=9, strangers_per_host=2)
    _, _, _, gateway = await gateway_site(nursery, config)
    for _ in range(2):
        await raw_client(nursery, gateway)
    near, far = memory_stream_pair()
    await gateway.serve(far, REMOTE._replace(port=9))
    assert await near.receive_some() == b""
    assert gateway.statistics().refused == 1
    other = await raw_client(nursery, gateway, Endpoint("198.51.100.77", 1))
    await other.send_message(hello(NETWORK))
    assert await other.get_message()


async def test_text_closes_a_client_with_its_code(autojump_clock, nursery):
    _, _, _, gateway = await gateway_site(nursery)
    connection = await raw_client(nursery, gateway)
    await connection.send_message(hello(NETWORK))
    await connection.get_message()
    await connection.send_message("text")
    assert (await closed_with(connection)).code == CloseCode.NOT_BINARY


async def test_a_message_too_large_closes_a_client_with_its_code(
    autojump_clock, nursery
):
    _, _, server, gateway = await gateway_site(nursery)
    connection = await raw_client(nursery, gateway)
    await connection.send_message(hello(NETWORK))
    await connection.get_message()
    await connection.send_message(rpc_datagram(1).ljust(MAX_MESSAGE, b"."))
    await trio.sleep(0.1)
    assert len(server.arrived) == 1
    await connection.send_message(bytes(MAX_MESSAGE + 1))
    assert (await closed_with(connection)).code == CloseCode.TOO_LARGE


async def test_a_client_without_datagrams_is_forgotten_in_the_end(
    autojump_clock, nursery
):
    config = GatewayConfig(carrier=CarrierConfig(idle_s=100.0))
    site, client, server, gateway = await gateway_site(nursery, config)
    link = await site.link(client, gateway, server.local)
    await trio.sleep(90.0)
    assert gateway.statistics().clients == 1
    await trio.sleep(60.0)
    assert gateway.statistics().clients == 0
    assert link.ended == ["4006 no datagram for too long"]


async def test_noise_instead_of_http_costs_that_client_alone(autojump_clock, nursery):
    site, client, server, gateway = await gateway_site(nursery)
    for noise in (b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"\r\n" * 3000):
        near, far = memory_stream_pair()
        nursery.start_soon(gateway.serve, far, REMOTE)
        await near.send_all(noise)
        await near.aclose()
    await trio.sleep(20.0)
    await site.link(client, gateway, server.local)
    assert gateway.statistics().clients == 1


def test_a_new_gateway_has_served_nobody():
    assert WebSocketGateway(None, NETWORK).statistics().served == 0
