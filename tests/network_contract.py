"""What every `Network` must do: run against the real sockets and against the fake."""

# pytest-trio takes the clock of a test from its arguments.
# ruff: noqa: ARG002

import pytest
import trio
import trio.testing
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, NetworkError
from opnode.drivers.network.network import DatagramSocket, Network, segments_of

Pair = tuple[DatagramSocket, DatagramSocket]


async def receive_one(sock: DatagramSocket) -> tuple[bytes, int, Endpoint]:
    with trio.fail_after(5):
        while (received := sock.receive()) is None:
            await sock.wait_readable()
    return bytes(received.buffer), received.segment_size, received.source


async def receive_datagrams(sock: DatagramSocket, count: int) -> list[bytes]:
    datagrams: list[bytes] = []
    while len(datagrams) < count:
        data, segment_size, _ = await receive_one(sock)
        datagrams += [bytes(part) for part in segments_of(data, segment_size)]
    return datagrams


class NetworkContract:
    """Subclasses give the fixtures `network`, `address` and `clock`."""

    @pytest.fixture
    async def pair(self, network: Network, address: str):
        one = await network.bind(Endpoint(address, 0))
        other = await network.bind(Endpoint(address, 0))
        yield one, other
        one.close()
        other.close()

    async def test_a_datagram_arrives_whole_with_its_source(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        assert one.send(b"hello", other.local)
        assert await receive_one(other) == (b"hello", 5, one.local)

    async def test_an_empty_datagram_arrives(self, clock: Clock, pair: Pair):
        one, other = pair
        assert one.send(b"", other.local)
        assert await receive_one(other) == (b"", 0, one.local)

    async def test_receive_gives_none_when_nothing_is_there(
        self, clock: Clock, pair: Pair
    ):
        assert pair[0].receive() is None

    async def test_any_buffer_type_can_be_sent(self, clock: Clock, pair: Pair):
        one, other = pair
        for data in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
            assert one.send(data, other.local)
            assert (await receive_one(other))[0] == b"abc"

    async def test_a_run_arrives_as_its_segments_in_order(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        run = bytes(range(250)) * 20
        assert one.send(run, other.local, 1200)
        expected = [bytes(part) for part in segments_of(run, 1200)]
        assert await receive_datagrams(other, len(expected)) == expected
        assert len(expected[-1]) == 200

    async def test_a_run_longer_than_one_kernel_call_arrives_whole(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        run = bytes(range(256)) * 400
        assert one.send(run, other.local, 1000)
        expected = [bytes(part) for part in segments_of(run, 1000)]
        assert await receive_datagrams(other, len(expected)) == expected

    async def test_a_run_that_is_one_segment_is_one_datagram(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        assert one.send(b"abc", other.local, 1200)
        assert (await receive_one(other))[:2] == (b"abc", 3)

    async def test_separate_sends_keep_their_boundaries(self, clock: Clock, pair: Pair):
        one, other = pair
        sent = [bytes([n]) * (100 + n) for n in range(20)]
        for datagram in sent:
            assert one.send(datagram, other.local)
        assert await receive_datagrams(other, len(sent)) == sent

    async def test_a_destination_where_nobody_listens_is_no_error(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        other.close()
        for _ in range(3):
            assert one.send(b"anyone?", other.local)
            assert one.receive() is None

    async def test_a_destination_that_cannot_be_dialled_is_counted_not_raised(
        self, clock: Clock, pair: Pair, address: str
    ):
        one, _ = pair
        assert one.send(b"x", Endpoint(address, 0))
        assert one.statistics().send_errors == 1

    async def test_a_datagram_too_large_for_udp_is_counted_not_raised(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        assert one.send(bytes(65_508), other.local)
        assert one.statistics().send_errors == 1

    async def test_a_run_of_too_large_segments_is_counted_not_raised(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        assert one.send(bytes(2 * 65_508), other.local, 65_508)
        assert one.statistics().send_errors == one.statistics().too_large == 2
        assert one.send(bytes(2400), other.local, 1200)
        assert await receive_datagrams(other, 2) == [bytes(1200)] * 2

    @pytest.mark.parametrize("ecn", [0, 1, 2, 3])
    async def test_the_ip_codepoint_arrives_with_datagrams_and_runs(
        self, clock: Clock, pair: Pair, ecn: int
    ):
        one, other = pair
        assert one.send(b"alone", other.local, ecn=ecn)
        assert one.send(bytes(3000), other.local, 1000, ecn)
        marks = []
        with trio.fail_after(5):
            while other.statistics().datagrams_in < 4:
                await other.wait_readable()
                while (received := other.receive()) is not None:
                    marks.append(received.ecn)
        assert set(marks) == {ecn}

    async def test_datagrams_with_different_codepoints_are_told_apart(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        for ecn in (2, 2, 3, 2):
            assert one.send(bytes(100), other.local, ecn=ecn)
        found = []
        with trio.fail_after(5):
            while other.statistics().datagrams_in < 4:
                await other.wait_readable()
                while (received := other.receive()) is not None:
                    count = len(received.buffer) // received.segment_size
                    found += [received.ecn] * count
        assert found == [2, 2, 3, 2]

    async def test_datagrams_of_two_sources_are_told_apart(
        self, clock: Clock, network: Network, address: str, pair: Pair
    ):
        one, other = pair
        third = await network.bind(Endpoint(address, 0))
        for sender in (one, third, third, one):
            assert sender.send(str(sender.local).encode(), other.local)
        sources = []
        with trio.fail_after(5):
            while other.statistics().datagrams_in < 4:
                data, size, source = await receive_one(other)
                assert data == str(source).encode() * (len(data) // size)
                sources += [source] * (len(data) // size)
        assert sorted(sources) == sorted([one.local, third.local] * 2)
        third.close()

    async def test_the_largest_datagram_arrives_whole(self, clock: Clock, pair: Pair):
        one, other = pair
        for fill in (b"a", b"b", b"c"):
            assert one.send(fill * 65_507, other.local)
        assert await receive_datagrams(other, 3) == [
            fill * 65_507 for fill in (b"a", b"b", b"c")
        ]

    async def test_statistics_count_datagrams_and_bytes_both_ways(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        one.send(b"abc", other.local)
        one.send(bytes(2500), other.local, 1000)
        await receive_datagrams(other, 4)
        assert one.statistics().datagrams_out == 4
        assert one.statistics().bytes_out == 2503
        assert other.statistics().datagrams_in == 4
        assert other.statistics().bytes_in == 2503

    async def test_waiting_ends_when_a_datagram_comes(self, clock: Clock, pair: Pair):
        one, other = pair
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.wait_readable)
                await trio.testing.wait_all_tasks_blocked()
                one.send(b"wake", other.local)
        assert other.receive() is not None

    async def test_closing_wakes_waiting_tasks_with_an_error(
        self, clock: Clock, pair: Pair
    ):
        one, _ = pair

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await one.wait_readable()

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                one.close()

    async def test_a_closed_socket_refuses_everything_but_closing(
        self, clock: Clock, pair: Pair
    ):
        one, other = pair
        one.close()
        one.close()
        with pytest.raises(trio.ClosedResourceError):
            one.receive()
        with pytest.raises(trio.ClosedResourceError):
            one.send(b"x", other.local)
        with pytest.raises(trio.ClosedResourceError):
            await one.wait_readable()
        with pytest.raises(trio.ClosedResourceError):
            await one.wait_writable()

    async def test_an_idle_socket_is_writable(self, clock: Clock, pair: Pair):
        with trio.fail_after(5):
            await pair[0].wait_writable()

    async def test_a_port_in_use_is_a_named_error(
        self, clock: Clock, network: Network, pair: Pair
    ):
        with pytest.raises(ConfigError, match=r"listen"):
            await network.bind(pair[0].local)

    async def test_an_address_of_another_host_is_a_named_error(
        self, clock: Clock, network: Network
    ):
        with pytest.raises(ConfigError, match=r"192\.0\.2\.77"):
            await network.bind(Endpoint("192.0.2.77", 0))

    async def test_a_socket_on_the_wildcard_is_reached_at_the_host_address(
        self, clock: Clock, network: Network, address: str
    ):
        wildcard = await network.bind(Endpoint("0.0.0.0", 0))
        one = await network.bind(Endpoint(address, 0))
        assert wildcard.local.host == "0.0.0.0"
        one.send(b"in", Endpoint(address, wildcard.local.port))
        assert (await receive_one(wildcard))[0] == b"in"
        wildcard.send(b"out", one.local)
        assert (await receive_one(one))[2] == Endpoint(address, wildcard.local.port)
        wildcard.close()
        one.close()

    async def test_the_bound_address_is_an_interface_address(
        self, clock: Clock, network: Network, address: str
    ):
        found = network.interface_addresses()
        assert address in [interface.host for interface in found]
        assert all(interface.name for interface in found)

    async def test_there_is_a_route_to_the_own_address(
        self, clock: Clock, network: Network, address: str
    ):
        assert network.has_route(Endpoint(address, 9))

    async def test_a_numeric_host_resolves_to_itself(
        self, clock: Clock, network: Network
    ):
        assert await network.resolve("192.0.2.1", 9) == (Endpoint("192.0.2.1", 9),)

    async def test_an_unknown_name_is_a_named_error(
        self, clock: Clock, network: Network
    ):
        name = "name with spaces.invalid"
        with pytest.raises(NetworkError, match=r".") as caught:
            await network.resolve(name, 9)
        # The reason alone: whoever asked says what for, and once is enough.
        assert name not in str(caught.value)
        assert "does not resolve" not in str(caught.value)
