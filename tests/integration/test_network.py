import errno
import socket

import pytest

from opnode.core.addresses import Endpoint
from opnode.drivers.network import NetworkConfig, SystemNetwork, SystemSocket
from tests.network_contract import NetworkContract, Pair, receive_datagrams, receive_one

pytestmark = pytest.mark.integration


class TestWithOffload(NetworkContract):
    @pytest.fixture
    def network(self) -> SystemNetwork:
        return SystemNetwork()

    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def address(self) -> str:
        return "127.0.0.1"


class TestWithoutOffload(NetworkContract):
    @pytest.fixture
    def network(self) -> SystemNetwork:
        return SystemNetwork(NetworkConfig(offload=False))

    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def address(self) -> str:
        return "127.0.0.1"

    async def test_one_segment_goes_to_the_kernel_at_once(self, pair: Pair):
        assert pair[0].max_segments == 1


class FailingRaw:
    """A kernel socket whose sends fail as the script says, then work."""

    def __init__(self, **failures: list[int]) -> None:
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.raw.setblocking(False)
        self.raw.bind(("127.0.0.1", 0))
        self.failures = failures

    def __getattr__(self, name: str) -> object:
        real = getattr(self.raw, name)

        def call(*arguments: object) -> object:
            script = self.failures.get(name)
            if script:
                number = script.pop(0)
                raise OSError(number, "scripted")
            return real(*arguments)

        return call

    def fileno(self) -> int:
        return self.raw.fileno()


async def test_offload_that_fails_is_replaced_by_single_sends_for_good():
    receiver = await SystemNetwork().bind(Endpoint("127.0.0.1", 0))
    sender = SystemSocket(FailingRaw(sendmsg=[errno.EIO]), offload=True)
    if sender.max_segments == 1:
        pytest.skip("this kernel has no segmentation offload")
    assert sender.send(bytes(3000), receiver.local, 1000)
    assert await receive_datagrams(receiver, 3) == [bytes(1000)] * 3
    assert sender.max_segments == 1
    assert sender.send(bytes(2000), receiver.local, 1000)
    assert await receive_datagrams(receiver, 2) == [bytes(1000)] * 2
    sender.close()
    receiver.close()


async def test_a_bad_destination_does_not_switch_offload_off():
    sender = await SystemNetwork().bind(Endpoint("127.0.0.1", 0))
    before = sender.max_segments
    assert sender.send(bytes(3000), Endpoint("127.0.0.1", 0), 1000)
    assert sender.max_segments == before
    assert sender.statistics().send_errors > 0
    sender.close()


@pytest.mark.parametrize("name", ["sendto", "sendmsg"])
async def test_a_full_kernel_buffer_is_reported_and_not_counted(name: str):
    sender = SystemSocket(FailingRaw(**{name: [errno.EAGAIN]}), offload=True)
    size = 1000 if name == "sendmsg" and sender.max_segments > 1 else 0
    if name == "sendmsg" and not size:
        pytest.skip("this kernel has no segmentation offload")
    assert not sender.send(bytes(2000), sender.local, size)
    assert sender.statistics().send_errors == 0
    assert sender.send(bytes(2000), sender.local, size)
    sender.close()


async def test_a_full_buffer_between_single_sends_is_reported():
    raw = FailingRaw(sendto=[])
    sender = SystemSocket(raw, offload=False)
    assert sender.send(bytes(2000), sender.local, 1000)
    raw.failures["sendto"] = [errno.EAGAIN]
    assert not sender.send(bytes(2000), sender.local, 1000)
    sender.close()


async def test_other_send_errors_on_a_run_are_counted():
    sender = SystemSocket(FailingRaw(sendmsg=[errno.ENETUNREACH]), offload=True)
    if sender.max_segments == 1:
        pytest.skip("this kernel has no segmentation offload")
    assert sender.send(bytes(2000), sender.local, 1000)
    assert sender.statistics().send_errors == 1
    assert sender.max_segments > 1
    sender.close()


@pytest.mark.parametrize("offload", [True, False])
async def test_icmp_errors_on_receive_are_counted_and_skipped(offload: bool):
    refused = [errno.ECONNREFUSED] * 3
    raw = FailingRaw(recvmsg_into=list(refused), recvfrom_into=list(refused))
    sock = SystemSocket(raw, offload=offload)
    sock.send(b"after", sock.local)
    assert (await receive_one(sock))[0] == b"after"
    assert sock.statistics().receive_errors == 3
    sock.close()


async def test_a_socket_that_only_fails_gives_up_for_this_time():
    raw = FailingRaw(recvfrom_into=[errno.ECONNREFUSED] * 100)
    sock = SystemSocket(raw, offload=False)
    assert sock.receive() is None
    assert sock.statistics().receive_errors == 16
    sock.close()


async def test_a_kernel_without_offload_is_used_without_it():
    raw = FailingRaw(setsockopt=[errno.ENOPROTOOPT], getsockopt=[errno.ENOPROTOOPT])
    sock = SystemSocket(raw, offload=True)
    assert sock.max_segments == 1
    sock.send(bytes(2000), sock.local, 1000)
    assert await receive_datagrams(sock, 2) == [bytes(1000)] * 2
    sock.close()


async def test_v6_loopback_works_where_the_host_has_it():
    network = SystemNetwork()
    if "::1" not in network.interface_addresses():
        pytest.skip("this host has no IPv6 loopback")
    one = await network.bind(Endpoint("::1", 0))
    other = await network.bind(Endpoint("::1", 0))
    one.send(bytes(2400), other.local, 1200)
    assert await receive_datagrams(other, 2) == [bytes(1200)] * 2
    assert one.send(b"x", Endpoint("127.0.0.1", 9))
    assert one.statistics().send_errors == 1
    one.close()
    other.close()


async def test_localhost_resolves_to_a_loopback_address():
    answers = await SystemNetwork().resolve("localhost", 7)
    assert {answer.host for answer in answers} <= {"127.0.0.1", "::1"}
    assert {answer.port for answer in answers} == {7}
