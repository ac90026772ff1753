import errno
import socket
import sys

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.interfaces import InterfaceKind
from opnode.drivers.network.network import (
    DatagramSocket,
    NetworkConfig,
    SystemNetwork,
    SystemSocket,
)
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

    async def test_datagrams_that_wait_are_joined_to_runs(self, pair: Pair):
        one, other = pair
        assert one.send(bytes(20 * 1200 + 7), other.local, 1200)
        await other.wait_readable()
        received = other.receive()
        assert received is not None
        assert len(received.buffer) == 20 * 1200 + 7
        assert received.segment_size == 1200

    async def test_a_flood_of_tiny_datagrams_is_no_endless_run(self, pair: Pair):
        one, other = pair
        assert one.send(bytes(400), other.local, 1)
        await other.wait_readable()
        received = other.receive()
        assert received is not None
        assert 218 <= len(received.buffer) < 300


class OnDualSockets(SystemNetwork):
    """The system's network, with every socket at both IP versions of the host."""

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        if endpoint.host not in ("127.0.0.1", "::1"):
            return await super().bind(endpoint)
        return _Reached(await super().bind(endpoint._replace(host="::")), endpoint.host)


class _Reached(SystemSocket):
    """A socket at every address, which tests know by one of them."""

    def __init__(self, bound: SystemSocket, host: str) -> None:
        super().__init__(bound._raw, offload=bound.has_segmentation)
        self._host = host

    @property
    def local(self) -> Endpoint:
        return self._local._replace(host=self._host)


needs_ipv6 = pytest.mark.skipif(
    "::1" not in [one.host for one in SystemNetwork().interface_addresses()],
    reason="this host has no IPv6 loopback",
)


@needs_ipv6
class TestIpv4OnADualSocket(NetworkContract):
    @pytest.fixture
    def network(self) -> SystemNetwork:
        return OnDualSockets()

    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def address(self) -> str:
        return "127.0.0.1"


@needs_ipv6
class TestIpv6OnADualSocket(NetworkContract):
    @pytest.fixture
    def network(self) -> SystemNetwork:
        return OnDualSockets(NetworkConfig(offload=False))

    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def address(self) -> str:
        return "::1"

    async def test_the_largest_datagram_arrives_whole(self, pair: Pair):
        """What fits into the 65536 bytes of the loopback's MTU with IPv6's header."""
        one, other = pair
        assert one.send(bytes(65_488), other.local)
        assert await receive_datagrams(other, 1) == [bytes(65_488)]

    async def test_a_socket_on_the_wildcard_is_reached_at_the_host_address(self):
        """The wildcard of the contract is that of IPv4."""


@needs_ipv6
async def test_one_socket_talks_to_peers_of_both_ip_versions():
    network = SystemNetwork()
    both = await network.bind(Endpoint("::", 0))
    four = await network.bind(Endpoint("127.0.0.1", 0))
    six = await network.bind(Endpoint("::1", 0))
    assert both.local.host == "::"
    for peer in (four, six, four):
        assert both.send(bytes(2400), peer.local, 1200, 2)
        assert await receive_datagrams(peer, 2) == [bytes(1200)] * 2
        assert peer.send(b"back", Endpoint(peer.local.host, both.local.port))
        assert await receive_one(both) == (b"back", 4, peer.local)
    assert isinstance(both, SystemSocket)
    if sys.platform == "linux":
        probe = 3
        assert both._raw.getsockopt(socket.IPPROTO_IP, 10) == probe
        assert both._raw.getsockopt(socket.IPPROTO_IPV6, 23) == probe
    for one in (both, four, six):
        one.close()


class FailingRaw:
    """A kernel socket whose calls fail as the script says (0: not), then work."""

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
                if number:
                    raise OSError(number, "scripted")
            return real(*arguments)

        return call

    def fileno(self) -> int:
        return self.raw.fileno()


async def test_a_destination_that_offload_fails_for_gets_single_sends():
    receiver = await SystemNetwork().bind(Endpoint("127.0.0.1", 0))
    raw = FailingRaw(sendmsg=[errno.EIO])
    sender = SystemSocket(raw, offload=True)
    if not sender.has_segmentation:
        pytest.skip("this kernel has no segmentation offload")
    assert sender.send(bytes(3000), receiver.local, 1000)
    assert await receive_datagrams(receiver, 3) == [bytes(1000)] * 3
    raw.failures["sendmsg"] = [errno.EIO]
    assert sender.send(bytes(2000), receiver.local, 1000)
    assert await receive_datagrams(receiver, 2) == [bytes(1000)] * 2
    assert raw.failures["sendmsg"] == [errno.EIO], "a second run was tried"
    assert sender.has_segmentation
    sender.close()
    receiver.close()


async def test_offload_that_fails_for_many_destinations_is_given_up():
    sender = SystemSocket(FailingRaw(sendmsg=[errno.EIO] * 65), offload=True)
    if not sender.has_segmentation:
        pytest.skip("this kernel has no segmentation offload")
    for port in range(20_000, 20_065):
        assert sender.send(bytes(2000), Endpoint("127.0.0.1", port), 1000)
    assert not sender.has_segmentation
    sender.close()


async def test_a_bad_destination_does_not_switch_offload_off():
    sender = await SystemNetwork().bind(Endpoint("127.0.0.1", 0))
    assert isinstance(sender, SystemSocket)
    before = sender.has_segmentation
    bad = Endpoint("127.0.0.1", 0)
    assert sender.send(bytes(3000), bad, 1000)
    assert sender.has_segmentation == before
    assert bad not in sender._unsegmented
    assert sender.statistics().send_errors > 0
    sender.close()


@pytest.mark.parametrize("refusal", [errno.EMSGSIZE, errno.EINVAL])
async def test_too_large_segments_do_not_switch_offload_off(refusal: int):
    raw = FailingRaw(sendmsg=[refusal], sendto=[errno.EMSGSIZE] * 2)
    sender = SystemSocket(raw, offload=True)
    if not sender.has_segmentation:
        pytest.skip("this kernel has no segmentation offload")
    assert sender.send(bytes(4000), sender.local, 2000)
    assert sender.statistics().too_large == 2
    assert sender.local not in sender._unsegmented
    sender.close()


async def test_datagrams_leave_with_dont_fragment():
    sender = await SystemNetwork().bind(Endpoint("127.0.0.1", 0))
    assert isinstance(sender, SystemSocket)
    if sys.platform == "linux":
        probe = 3
        assert sender._raw.getsockopt(socket.IPPROTO_IP, 10) == probe
    sender.close()


@pytest.mark.parametrize("name", ["sendto", "sendmsg"])
async def test_a_full_kernel_buffer_is_reported_and_not_counted(name: str):
    sender = SystemSocket(FailingRaw(**{name: [errno.EAGAIN]}), offload=True)
    size = 1000 if name == "sendmsg" and sender.has_segmentation else 0
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


async def test_a_run_goes_on_where_the_full_buffer_stopped_it():
    raw = FailingRaw(sendto=[])
    sender = SystemSocket(raw, offload=False)
    run = b"a" * 1000 + b"b" * 1000 + b"c" * 10
    raw.failures["sendto"] = [0, errno.EAGAIN]
    assert not sender.send(run, sender.local, 1000)
    assert sender.send(run, sender.local, 1000)
    assert await receive_datagrams(sender, 3) == [
        run[:1000],
        run[1000:2000],
        run[2000:],
    ]
    sender.close()


async def test_other_send_errors_on_a_run_are_counted():
    sender = SystemSocket(FailingRaw(sendmsg=[errno.ENETUNREACH]), offload=True)
    if not sender.has_segmentation:
        pytest.skip("this kernel has no segmentation offload")
    assert sender.send(bytes(2000), sender.local, 1000)
    assert sender.statistics().send_errors == 1
    assert sender.has_segmentation
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
    raw = FailingRaw(recvmsg_into=[errno.ECONNREFUSED] * 100)
    sock = SystemSocket(raw, offload=False)
    assert sock.receive() is None
    assert sock.statistics().receive_errors == 16
    sock.close()


async def test_a_kernel_without_offload_is_used_without_it():
    raw = FailingRaw(setsockopt=[errno.ENOPROTOOPT] * 3, getsockopt=[errno.ENOPROTOOPT])
    sock = SystemSocket(raw, offload=True)
    assert not sock.has_segmentation
    sock.send(bytes(2000), sock.local, 1000)
    assert await receive_datagrams(sock, 2) == [bytes(1000)] * 2
    sock.close()


async def test_v6_loopback_works_where_the_host_has_it():
    network = SystemNetwork()
    if "::1" not in [one.host for one in network.interface_addresses()]:
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


def test_an_address_that_no_interface_leads_to_has_no_route(monkeypatch):
    def refuse(self, address):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    class Unreachable(socket.socket):
        connect = refuse

    assert SystemNetwork().has_route(Endpoint("127.0.0.1", 9))
    monkeypatch.setattr(socket, "socket", Unreachable)
    assert not SystemNetwork().has_route(Endpoint("192.0.2.1", 9))


def test_the_address_that_leads_out_is_marked_and_has_its_subnet():
    found = SystemNetwork().interface_addresses()
    leading_out = [one for one in found if one.is_default]
    for one in leading_out:
        assert one.host != "127.0.0.1"
        assert one.is_near(one.host)
    assert len(leading_out) <= 2, "at most one of each IP version"
    (loopback,) = [one for one in found if one.host == "127.0.0.1"]
    assert loopback.kind is InterfaceKind.LOOPBACK
    assert loopback.is_near("127.0.0.9")
    assert not loopback.is_default
