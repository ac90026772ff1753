"""`websocket_carrier`: bounded queue, bounded pace, and silence is noticed."""

import pytest
import trio
from trio.testing import memory_stream_pair
from trio_websocket import wrap_client_stream, wrap_server_stream

from opnode.core.addresses import Endpoint
from opnode.drivers.websocket.carrier import CarrierConfig, WebSocketCarrier
from opnode.protocols.websocket import MAX_MESSAGE

SOMEWHERE = Endpoint("192.0.2.1", 1)


async def connected(nursery):
    """Two ends of a WebSocket, and the streams under them."""
    near, far = memory_stream_pair()
    made = []

    async def accept():
        request = await wrap_server_stream(nursery, far, message_queue_size=1)
        made.append(await request.accept())

    async with trio.open_nursery() as both:
        both.start_soon(accept)
        client = await wrap_client_stream(
            nursery, near, "gate.example", "/", message_queue_size=1
        )
    return client, made[0], near, far


async def test_what_finds_the_queue_full_is_dropped_and_counted(
    autojump_clock, nursery
):
    client, _, _, _ = await connected(nursery)
    carrier = WebSocketCarrier(client, CarrierConfig(queued=4))
    assert carrier.send(bytes(600), SOMEWHERE, 100)
    assert carrier.statistics().dropped == 2
    assert carrier.send(bytes(MAX_MESSAGE + 1), SOMEWHERE, 0)
    assert carrier.statistics().dropped == 3


async def test_a_reader_rests_so_that_its_rates_hold(autojump_clock, nursery):
    client, server, _, _ = await connected(nursery)
    config = CarrierConfig(datagrams_per_s=100.0, burst_s=0.5)
    carrier, arrived = WebSocketCarrier(server, config), []
    nursery.start_soon(carrier.run, arrived.append)

    async def flood():
        for _ in range(1000):
            await client.send_message(bytes(10))

    nursery.start_soon(flood)
    await trio.sleep(2.0)
    assert 200 <= len(arrived) <= 260


async def test_a_silent_other_end_ends_it_within_the_time_of_a_ping(
    autojump_clock, nursery
):
    client, _, near, far = await connected(nursery)
    carrier, ended = WebSocketCarrier(client), []

    async def run():
        ended.append((await carrier.run(lambda _: None), trio.current_time()))

    nursery.start_soon(run)
    await trio.sleep(15.0)

    async def swallow(_data):
        return None

    # The bytes vanish on the way, as when the machine there lost its power.
    near.send_stream.send_all = swallow
    started_at = trio.current_time()
    carrier.check()
    await trio.sleep(60.0)
    ((reason, at),) = ended
    assert reason == "the other end is silent"
    assert at - started_at == pytest.approx(4.0 + 1.0, abs=0.1)
    assert far is not None


async def test_an_end_that_answers_pings_stays_though_nothing_is_carried(
    autojump_clock, nursery
):
    client, server, _, _ = await connected(nursery)
    ended = []

    async def run(connection):
        ended.append(await WebSocketCarrier(connection).run(lambda _: None))

    nursery.start_soon(run, client)
    nursery.start_soon(run, server)
    await trio.sleep(3600.0)
    assert ended == []


async def test_a_broken_stream_ends_it_at_once(autojump_clock, nursery):
    client, _, _, far = await connected(nursery)
    ended = []

    async def run():
        ended.append(await WebSocketCarrier(client).run(lambda _: None))

    nursery.start_soon(run)
    await trio.sleep(1.0)
    await trio.aclose_forcefully(far)
    await trio.sleep(0.1)
    assert len(ended) == 1
