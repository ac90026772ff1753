"""A gateway and its clients on one virtual network, joined by memory streams."""

import random
from functools import partial

import trio
from trio.testing import memory_stream_pair

from opnode.core.addresses import Endpoint
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.websocket.client import GatewayLink
from opnode.drivers.websocket.gateway import WebSocketGateway
from opnode.protocols.websocket import GatewayUrl
from opnode.testing.virtual_network import VirtualNetwork

NETWORK = b"network1"
REMOTE = Endpoint("198.51.100.7", 50000)
URL = GatewayUrl("ws", "gate.example", 80)


class Site:
    """One hub that notes what arrives, and a gateway where it is asked for."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.network = VirtualNetwork(random.Random(1))

    async def hub(self, number):
        host = self.network.host(f"10.0.0.{number}")
        hub = SocketHub(await host.bind(Endpoint(host.address, 4000)))
        hub.arrived = []
        hub.rpc_handler = lambda data, source: hub.arrived.append((data, source))
        await self.nursery.start(hub.run)
        return hub

    def dial_to(self, gateway, remote=REMOTE):
        """Open streams to a gateway that sees us at ``remote``."""

        async def dial(host, port):
            assert (host, port) == (URL.host, URL.port)
            await trio.lowlevel.checkpoint()
            near, far = memory_stream_pair()
            self.nursery.start_soon(gateway.serve, far, remote)
            return near

        return dial

    async def link(self, hub, gateway, endpoint, network=NETWORK, remote=REMOTE):
        link = GatewayLink(
            hub,
            url=URL,
            endpoint=endpoint,
            network=network,
            dial=self.dial_to(gateway, remote),
        )
        link.ended = []

        async def run(task_status):
            link.ended.append(await link.run(task_status))

        await self.nursery.start(partial(run))
        return link


def rpc_datagram(number):
    return b"\xc0" + bytes([number]) * 20


async def gateway_site(nursery, config=None):
    site = Site(nursery)
    client, server = await site.hub(1), await site.hub(2)
    gateway = WebSocketGateway(server, NETWORK, config)
    return site, client, server, gateway
