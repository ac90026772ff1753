"""The outside world as one object: UDP sockets, interface addresses, name resolution.

Owns the typed border (`Network`, `DatagramSocket`) and the real implementation on the
operating system, with segmentation and coalescing offload (GSO, GRO) where the kernel
has them. Refuses to know what a datagram means.
"""

import contextlib
import errno
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import ifaddr
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, NetworkError

_log = logging.getLogger(__name__)

Buffer: TypeAlias = bytes | bytearray | memoryview

# Linux numbers; the socket module of Python 3.11 does not name them.
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33

_MAX_DATAGRAM = 65_507
_KERNEL_MAX_SEGMENTS = 64
_RECEIVE_BUFFER = 65_536
_ANCILLARY_BYTES = 64
# An ICMP error is reported in place of a datagram; skip at most this many in a row.
_MAX_ERRORS_PER_RECEIVE = 16
_MAX_RESOLVED = 16

_SEGMENT_SIZE = struct.Struct("=H")
_GRO_SIZE = struct.Struct("=i")
# What kernels and drivers answer when they cannot segment for us.
_OFFLOAD_ERRORS = frozenset(
    {errno.EMSGSIZE, errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP}
)


class Received(NamedTuple):
    """One receive: `buffer` holds one or more segments and lives until the next one.

    All segments have `segment_size` bytes, only the last one may be shorter.
    """

    buffer: memoryview
    segment_size: int
    source: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketStatistics:
    """Counters since the socket was bound."""

    datagrams_in: int = 0
    bytes_in: int = 0
    datagrams_out: int = 0
    bytes_out: int = 0
    send_errors: int = 0
    receive_errors: int = 0


class DatagramSocket(Protocol):
    """A bound UDP socket. Never raises because of what the network does."""

    @property
    def local(self) -> Endpoint:
        """The bound address."""
        ...

    @property
    def max_segments(self) -> int:
        """Segments that one `send` hands to the kernel at once; 1 without GSO."""
        ...

    def receive(self) -> Received | None:
        """Take one datagram or one run of them; None when nothing is there.

        Raises:
            trio.ClosedResourceError: the socket was closed.
        """
        ...

    def send(self, data: Buffer, destination: Endpoint, segment_size: int = 0) -> bool:
        """Send one datagram, or with `segment_size` > 0 a run of equal segments.

        Returns False when the kernel's buffer is full: the caller waits until the
        socket is writable and sends the same again. Segments sent before the buffer
        filled up are then sent twice, which every datagram protocol must bear anyway.
        A destination that cannot be reached is counted and otherwise ignored.

        Raises:
            trio.ClosedResourceError: the socket was closed.
        """
        ...

    async def wait_readable(self) -> None:
        """Block until `receive` is worth calling."""
        ...

    async def wait_writable(self) -> None:
        """Block until `send` is worth calling."""
        ...

    def close(self) -> None:
        """Close; idempotent. Tasks that wait get `trio.ClosedResourceError`."""
        ...

    def statistics(self) -> SocketStatistics:
        """Read the counters."""
        ...


class Network(Protocol):
    """What a node may ask of the world outside of it."""

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """Bind a UDP socket; port 0 lets the system choose.

        Raises:
            ConfigError: the address is in use or not ours.
        """
        ...

    def interface_addresses(self) -> tuple[str, ...]:
        """Numeric addresses of this host, loopback included, link-local v6 left out."""
        ...

    async def resolve(self, host: str, port: int) -> tuple[Endpoint, ...]:
        """Turn a name or numeric address into endpoints (at least one).

        Raises:
            NetworkError: the name does not resolve; the text is the reason alone.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Limits and switches of the real network."""

    # 8 MB hold about 50 ms of a gigabyte per second: a scheduling gap on a busy host.
    receive_buffer_bytes: int = 8 << 20
    send_buffer_bytes: int = 4 << 20
    # False is for tests and for kernels with broken offload.
    offload: bool = True


def segments_of(data: Buffer, segment_size: int) -> Iterator[memoryview]:
    """Split a run into its segments; the last one may be shorter."""
    view = memoryview(data)
    for start in range(0, len(view), segment_size):
        yield view[start : start + segment_size]


class SystemNetwork:
    """The operating system's network."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        self._config = config or NetworkConfig()

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        await trio.lowlevel.checkpoint()
        is_v6 = ":" in endpoint.host
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        try:
            raw = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise _bind_error(endpoint, error) from error
        try:
            if is_v6:
                # One socket per family: a v4-mapped source would look like v6.
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            raw.setblocking(False)
            raw.bind(endpoint)
        except OSError as error:
            raw.close()
            raise _bind_error(endpoint, error) from error
        _enlarge_buffers(raw, self._config)
        return SystemSocket(raw, offload=self._config.offload)

    def interface_addresses(self) -> tuple[str, ...]:
        """See `Network.interface_addresses`."""
        found: dict[str, None] = {}
        for adapter in ifaddr.get_adapters():
            for address in adapter.ips:
                if isinstance(address.ip, str):
                    found[address.ip] = None
                elif not ipaddress.IPv6Address(address.ip[0]).is_link_local:
                    found[address.ip[0]] = None
        return tuple(found)

    async def resolve(self, host: str, port: int) -> tuple[Endpoint, ...]:
        """See `Network.resolve`."""
        try:
            answers = await trio.socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP
            )
        except OSError as error:
            raise NetworkError(error.strerror or str(error)) from error
        except UnicodeError as error:
            raise NetworkError(f"{host!r} is no host name") from error
        found: dict[Endpoint, None] = {}
        for answer in answers:
            with contextlib.suppress(ValueError):
                numeric = ipaddress.ip_address(str(answer[4][0]))
                found[Endpoint(str(numeric), port)] = None
        if not found:
            raise NetworkError("no IP address")
        return tuple(found)[:_MAX_RESOLVED]


class SystemSocket:
    """One kernel UDP socket behind `DatagramSocket`."""

    def __init__(self, raw: socket.socket, *, offload: bool) -> None:
        self._raw = raw
        name = raw.getsockname()
        self._local = Endpoint(name[0], name[1])
        self._closed = False
        self._buffer = memoryview(bytearray(_RECEIVE_BUFFER))
        self._iovec = [self._buffer]
        self._coalesces = offload and _enable_gro(raw)
        self._segments = offload and _has_gso(raw)
        self._datagrams_in = self._bytes_in = self._receive_errors = 0
        self._datagrams_out = self._bytes_out = self._send_errors = 0
        _log.info(
            "bound %s: segmentation offload %s, coalescing offload %s",
            self._local,
            "on" if self._segments else "off",
            "on" if self._coalesces else "off",
        )

    @property
    def local(self) -> Endpoint:
        """See `DatagramSocket.local`."""
        return self._local

    @property
    def max_segments(self) -> int:
        """See `DatagramSocket.max_segments`."""
        return _KERNEL_MAX_SEGMENTS if self._segments else 1

    def receive(self) -> Received | None:
        """See `DatagramSocket.receive`."""
        self._check_open()
        for _ in range(_MAX_ERRORS_PER_RECEIVE):
            try:
                if self._coalesces:
                    size, ancillary, _, source = self._raw.recvmsg_into(
                        self._iovec, _ANCILLARY_BYTES
                    )
                else:
                    ancillary = []
                    size, source = self._raw.recvfrom_into(self._buffer)
            except BlockingIOError:
                return None
            except OSError:
                self._receive_errors += 1
                continue
            segment_size = size
            for level, kind, value in ancillary:
                if level == _SOL_UDP and kind == _UDP_GRO:
                    segment_size = _GRO_SIZE.unpack_from(value)[0] or size
            self._bytes_in += size
            self._datagrams_in += -(-size // segment_size) if size else 1
            return Received(
                self._buffer[:size], segment_size, Endpoint(source[0], source[1])
            )
        return None

    def send(self, data: Buffer, destination: Endpoint, segment_size: int = 0) -> bool:
        """See `DatagramSocket.send`."""
        self._check_open()
        if not segment_size or len(data) <= segment_size:
            return self._send_one(data, destination)
        if not self._segments:
            return self._send_each(data, destination, segment_size)
        per_call = min(_KERNEL_MAX_SEGMENTS, _MAX_DATAGRAM // segment_size or 1)
        if len(data) > per_call * segment_size:
            runs = segments_of(data, per_call * segment_size)
            return all(self._send_run(run, destination, segment_size) for run in runs)
        return self._send_run(data, destination, segment_size)

    async def wait_readable(self) -> None:
        """See `DatagramSocket.wait_readable`."""
        self._check_open()
        await trio.lowlevel.wait_readable(self._raw.fileno())

    async def wait_writable(self) -> None:
        """See `DatagramSocket.wait_writable`."""
        self._check_open()
        await trio.lowlevel.wait_writable(self._raw.fileno())

    def close(self) -> None:
        """See `DatagramSocket.close`."""
        if self._closed:
            return
        self._closed = True
        # Outside of a trio run nobody can be waiting.
        with contextlib.suppress(RuntimeError):
            trio.lowlevel.notify_closing(self._raw.fileno())
        self._raw.close()

    def statistics(self) -> SocketStatistics:
        """See `DatagramSocket.statistics`."""
        return SocketStatistics(
            datagrams_in=self._datagrams_in,
            bytes_in=self._bytes_in,
            datagrams_out=self._datagrams_out,
            bytes_out=self._bytes_out,
            send_errors=self._send_errors,
            receive_errors=self._receive_errors,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"UDP socket {self._local} is closed")

    def _send_one(self, data: Buffer, destination: Endpoint) -> bool:
        try:
            self._raw.sendto(data, destination)
        except BlockingIOError:
            return False
        except OSError:
            self._send_errors += 1
            return True
        self._datagrams_out += 1
        self._bytes_out += len(data)
        return True

    def _send_each(
        self, data: Buffer, destination: Endpoint, segment_size: int
    ) -> bool:
        for segment in segments_of(data, segment_size):
            if not self._send_one(segment, destination):
                return False
        return True

    def _send_run(self, data: Buffer, destination: Endpoint, segment_size: int) -> bool:
        control = [(_SOL_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(segment_size))]
        try:
            self._raw.sendmsg([data], control, 0, destination)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _OFFLOAD_ERRORS:
                self._send_errors += 1
                return True
            return self._send_without_offload(data, destination, segment_size, error)
        self._datagrams_out += -(-len(data) // segment_size)
        self._bytes_out += len(data)
        return True

    def _send_without_offload(
        self, data: Buffer, destination: Endpoint, segment_size: int, error: OSError
    ) -> bool:
        errors_before = self._send_errors
        sent = self._send_each(data, destination, segment_size)
        # When single segments fail as well it is the destination, not the offload.
        if self._segments and self._send_errors == errors_before:
            self._segments = False
            _log.warning(
                "%s: segmentation offload failed (%s), sending one by one from now on",
                self._local,
                error.strerror,
            )
        return sent


def _bind_error(endpoint: Endpoint, error: OSError) -> ConfigError:
    return ConfigError(
        "listen",
        f"{endpoint} ({error.strerror or error})",
        "an address of this host with a free UDP port",
    )


def _enlarge_buffers(raw: socket.socket, config: NetworkConfig) -> None:
    for forced, plain, size in (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, config.receive_buffer_bytes),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, config.send_buffer_bytes),
    ):
        try:
            raw.setsockopt(socket.SOL_SOCKET, forced, size)
        except OSError:
            # Without CAP_NET_ADMIN the kernel grants up to net.core.{r,w}mem_max.
            raw.setsockopt(socket.SOL_SOCKET, plain, size)


def _enable_gro(raw: socket.socket) -> bool:
    if not hasattr(raw, "recvmsg_into"):
        return False
    try:
        raw.setsockopt(_SOL_UDP, _UDP_GRO, 1)
    except OSError:
        return False
    return True


def _has_gso(raw: socket.socket) -> bool:
    if not hasattr(raw, "sendmsg"):
        return False
    try:
        raw.getsockopt(_SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True
