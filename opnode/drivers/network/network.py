"""The outside world as one object: UDP sockets, interface addresses, name resolution.

Owns the typed border (`Network`, `DatagramSocket`) and the real implementation on the
operating system, with segmentation and coalescing offload (GSO, GRO) where the kernel
has them. Refuses to know what a datagram means.
"""

import contextlib
import errno
import functools
import ipaddress
import logging
import mmap
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Protocol, TypeAlias

import ifaddr
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, NetworkError
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.network import dual_stack, socket_options
from opnode.drivers.network.changes import Addresses, wait_changed

_log = logging.getLogger(__name__)

Buffer: TypeAlias = bytes | bytearray | memoryview

_MAX_DATAGRAM = 65_507
_KERNEL_MAX_SEGMENTS = 64
# What one receive may bring: more does not fit into an IP packet.
_RECEIVE_BYTES = 65_536
# Receives are joined up to this size.
_RUN_BYTES = 4 * _RECEIVE_BYTES
# So many reads fill a run with packets of 1200 bytes where the kernel joins none; of
# shorter ones a flood would keep us reading for long.
_MAX_READS = 256
# Free memory that a process keeps: what a window or two take.
_KEPT_BYTES = 32 << 20
# An ICMP error is reported in place of a datagram; skip at most this many in a row.
_MAX_ERRORS_PER_RECEIVE = 16
_MAX_RESOLVED = 16
_NO_ROUTE = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL))
# Destinations behind a device that cannot segment; one more, and it is us who cannot.
_MAX_UNSEGMENTED = 64
# Two addresses of root name servers: what leads there leads out. Never sent to.
_ANYWHERE = ((socket.AF_INET, "198.41.0.4"), (socket.AF_INET6, "2001:503:ba3e::2:30"))
_ANY_PORT = 53

# What kernels and drivers answer when they cannot segment for us.
_OFFLOAD_ERRORS = frozenset(
    {errno.EMSGSIZE, errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP}
)


class Received(NamedTuple):
    """One receive: `buffer` holds one or more segments and lives until the next one.

    All segments have `segment_size` bytes, only the last one may be shorter, and all
    have the same IP codepoint `ecn` (RFC 3168): 0 none, 1 and 2 ECT, 3 CE.
    """

    buffer: memoryview
    segment_size: int
    source: Endpoint
    ecn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketStatistics:
    """Counters since the socket was bound.

    `send_errors` includes `too_large`: datagrams above the MTU of the interface.
    """

    datagrams_in: int = 0
    bytes_in: int = 0
    datagrams_out: int = 0
    bytes_out: int = 0
    send_errors: int = 0
    too_large: int = 0
    receive_errors: int = 0


class DatagramSocket(Protocol):
    """A bound UDP socket. Never raises because of what the network does."""

    @property
    def local(self) -> Endpoint:
        """The bound address; at ``::`` the socket carries both IP versions."""
        ...

    @property
    def max_segments(self) -> int:
        """Segments of 1200 bytes that are worth building for one `send`."""
        ...

    def receive(self) -> Received | None:
        """Take one datagram or one run of them; None when nothing is there.

        After None comes `wait_readable`: what arrived meanwhile may be told only then.

        Raises:
            trio.ClosedResourceError: the socket was closed.
        """
        ...

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """Send one datagram, or with `segment_size` > 0 a run of equal segments.

        Returns False when the kernel's buffer is full: the caller waits until the
        socket is writable and sends the same again. Segments sent before the buffer
        filled up may then be sent twice, which every datagram protocol must bear.
        A destination that cannot be reached, or that takes no datagram of this size,
        is counted and otherwise ignored. No datagram is ever fragmented on its way.

        Raises:
            trio.ClosedResourceError: the socket was closed.
        """
        ...

    async def wait_readable(self) -> None:
        """Block until `receive` is worth calling."""
        ...

    async def watch(self, on_readable: Callable[[], None]) -> NoReturn:
        """Call this, as part of the task, whenever `receive` is worth calling."""
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

        At ``::`` it carries IPv4 as well, and where there is no IPv6 that alone: see
        `DatagramSocket.local`. Sources and destinations are canonical in any case.

        Raises:
            ConfigError: the address is in use or not ours.
        """
        ...

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """Addresses of this host, loopback included, link-local v6 left out."""
        ...

    async def wait_changed(self, known: Addresses) -> Addresses:
        """Block until the interface addresses changed; returns what they are.

        Another network may give us the same one: that is a change as well.
        """
        ...

    def has_route(self, endpoint: Endpoint) -> bool:
        """Whether this host knows a way there; nothing is sent to find out."""
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
        _keep_freed_memory()
        try:
            raw = dual_stack.open_socket(endpoint)
        except OSError as error:
            raise _bind_error(endpoint, error) from error
        socket_options.enlarge_buffers(
            raw,
            receive_bytes=self._config.receive_buffer_bytes,
            send_bytes=self._config.send_buffer_bytes,
        )
        return SystemSocket(raw, offload=self._config.offload)

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """See `Network.interface_addresses`."""
        leading_out = {_source_towards(*anywhere) for anywhere in _ANYWHERE}
        found: dict[str, InterfaceAddress] = {}
        for adapter in ifaddr.get_adapters():
            for address in adapter.ips:
                host = address.ip if isinstance(address.ip, str) else address.ip[0]
                if not ipaddress.ip_address(host).is_link_local or "." in host:
                    found[host] = InterfaceAddress(
                        host=host,
                        name=adapter.name,
                        prefix_length=address.network_prefix,
                        is_default=host in leading_out,
                    )
        return tuple(found.values())

    async def wait_changed(self, known: Addresses) -> Addresses:
        """See `Network.wait_changed`."""
        return await wait_changed(self.interface_addresses, known)

    def has_route(self, endpoint: Endpoint) -> bool:
        """See `Network.has_route`."""
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as trial:
                # Connecting a UDP socket only looks up the route.
                trial.connect(tuple(endpoint))
        except OSError as error:
            return error.errno not in _NO_ROUTE
        return True

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


# One read of the kernel: bytes, segment size, raw source address, codepoint.
_Read: TypeAlias = tuple[int, int, tuple[str, int], int]


class SystemSocket:
    """One kernel UDP socket behind `DatagramSocket`."""

    def __init__(self, raw: socket.socket, *, offload: bool) -> None:
        self._raw = raw
        name = raw.getsockname()
        self._local = Endpoint(name[0], name[1])
        # One socket option for each IP version, by whether it is IPv6.
        self._is_dual = dual_stack.carries_both(raw)
        self._versions = (True, False) if self._is_dual else (":" in name[0],)
        # The last destination, as we write it and as the kernel does.
        self._destination = self._local
        self._raw_destination: tuple[str, int] = self._local
        self._closed = False
        self._buffer = _lazy_buffer(_RUN_BYTES + _RECEIVE_BYTES)
        # The last source, as the kernel writes it and as we do: nearly always the next.
        self._raw_source: tuple[str, int] | None = None
        self._source = self._local
        # A read that did not belong to the run before it, and where it lies.
        self._held: tuple[int, _Read] | None = None
        self._is_drained = False
        coalesces = offload and socket_options.enable_coalescing(raw)
        self._segments = offload and socket_options.has_segmentation(raw)
        self._reports = coalesces
        for is_v6 in self._versions:
            self._reports |= socket_options.enable_ecn_report(raw, is_v6=is_v6)
            socket_options.forbid_fragments(raw, is_v6=is_v6)
        self._ecn = 0
        self._unsegmented: set[tuple[str, int]] = set()
        # A run that the kernel took only a part of, and how far.
        self._unsent: tuple[Buffer, int] | None = None
        self._datagrams_in = self._bytes_in = self._receive_errors = 0
        self._datagrams_out = self._bytes_out = 0
        self._send_errors = self._too_large = 0
        _log.info(
            "bound %s: segmentation offload %s, coalescing offload %s",
            self._local,
            "on" if self._segments else "off",
            "on" if coalesces else "off",
        )

    @property
    def local(self) -> Endpoint:
        """See `DatagramSocket.local`."""
        return self._local

    @property
    def max_segments(self) -> int:
        """See `DatagramSocket.max_segments`."""
        return _KERNEL_MAX_SEGMENTS

    @property
    def has_segmentation(self) -> bool:
        """Whether the kernel cuts runs for us."""
        return self._segments

    def receive(self) -> Received | None:
        """See `DatagramSocket.receive`; joins what is equal and there already."""
        self._check_open()
        first = self._first_read()
        if first is None:
            return None
        end, segment_size, raw_source, ecn = first
        if segment_size and end % segment_size == 0:
            end = self._join(first)
        if raw_source != self._raw_source:
            self._raw_source = raw_source
            self._source = (
                dual_stack.from_raw(raw_source)
                if self._is_dual
                else Endpoint(raw_source[0], raw_source[1])
            )
        self._bytes_in += end
        self._datagrams_in += -(-end // segment_size) if end else 1
        return Received(self._buffer[:end], segment_size, self._source, ecn)

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """See `DatagramSocket.send`."""
        self._check_open()
        if ecn != self._ecn:
            # An option of the socket serves `sendto` as well, which is 0.4 µs cheaper
            # than a control message a packet; it hardly ever changes.
            for is_v6 in self._versions:
                socket_options.set_ecn(self._raw, ecn, is_v6=is_v6)
            self._ecn = ecn
        to: tuple[str, int] = destination
        if self._is_dual:
            if destination != self._destination:
                self._destination = destination
                self._raw_destination = dual_stack.to_raw(destination)
            to = self._raw_destination
        if not segment_size or len(data) <= segment_size:
            return self._send_one(data, to)
        if not self._segments or to in self._unsegmented:
            return self._send_each(data, to, segment_size)
        per_call = min(_KERNEL_MAX_SEGMENTS, _MAX_DATAGRAM // segment_size or 1)
        if len(data) > per_call * segment_size:
            runs = segments_of(data, per_call * segment_size)
            return all(self._send_run(run, to, segment_size) for run in runs)
        return self._send_run(data, to, segment_size)

    async def wait_readable(self) -> None:
        """See `DatagramSocket.wait_readable`."""
        self._check_open()
        self._is_drained = False
        if self._held is not None:
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.wait_readable(self._raw.fileno())

    async def watch(self, on_readable: Callable[[], None]) -> NoReturn:
        """See `DatagramSocket.watch`."""
        while True:
            await self.wait_readable()
            on_readable()

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
            too_large=self._too_large,
            receive_errors=self._receive_errors,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"UDP socket {self._local} is closed")

    def _first_read(self) -> _Read | None:
        """The read that starts a run, at the start of the buffer."""
        held, self._held = self._held, None
        if held is not None:
            start, read = held
            self._buffer[: read[0]] = self._buffer[start : start + read[0]]
            return read
        if self._is_drained:
            # The kernel had nothing a moment ago: no need to ask again.
            self._is_drained = False
            return None
        return self._read(self._buffer)

    def _join(self, first: _Read) -> int:
        """Read on behind `first` while it is more of the same; returns the end.

        One step of the protocol for 200 packets instead of 54, and without GRO instead
        of one: see `_RUN_BYTES`.
        """
        end, segment_size, raw_source, ecn = first
        buffer = self._buffer
        for _ in range(_MAX_READS):
            if end >= _RUN_BYTES:
                break
            read = self._read(buffer[end:])
            if read is None:
                self._is_drained = True
                break
            size, step, other_source, other_ecn = read
            fits = step == segment_size or (step < segment_size and size == step)
            if not (fits and size and other_source == raw_source and other_ecn == ecn):
                self._held = end, read
                break
            end += size
            if size % segment_size:
                break
        return end

    def _read(self, buffer: memoryview) -> _Read | None:
        """Ask the kernel once; None when it has nothing."""
        for _ in range(_MAX_ERRORS_PER_RECEIVE):
            try:
                if not self._reports:
                    size, source = self._raw.recvfrom_into(buffer)
                    return size, size, source, 0
                size, ancillary, _, source = self._raw.recvmsg_into(
                    (buffer,), socket_options.ANCILLARY_BYTES
                )
            except BlockingIOError:
                return None
            except OSError:
                self._receive_errors += 1
                continue
            segment_size, ecn = socket_options.parse_ancillary(ancillary)
            return size, segment_size or size, source, ecn
        return None

    def _send_one(self, data: Buffer, destination: tuple[str, int]) -> bool:
        try:
            self._raw.sendto(data, destination)
        except BlockingIOError:
            return False
        except OSError as error:
            self._count_error(error)
            return True
        self._datagrams_out += 1
        self._bytes_out += len(data)
        return True

    def _send_each(
        self, data: Buffer, destination: tuple[str, int], segment_size: int
    ) -> bool:
        unsent, self._unsent = self._unsent, None
        start = unsent[1] if unsent is not None and unsent[0] is data else 0
        view = memoryview(data)
        for position in range(start, len(view), segment_size):
            if not self._send_one(
                view[position : position + segment_size], destination
            ):
                self._unsent = data, position
                return False
        return True

    def _send_run(
        self, data: Buffer, destination: tuple[str, int], segment_size: int
    ) -> bool:
        control = socket_options.segmentation(segment_size)
        try:
            self._raw.sendmsg([data], control, 0, destination)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _OFFLOAD_ERRORS:
                self._count_error(error)
                return True
            return self._send_without_offload(data, destination, segment_size, error)
        self._datagrams_out += -(-len(data) // segment_size)
        self._bytes_out += len(data)
        return True

    def _send_without_offload(
        self,
        data: Buffer,
        destination: tuple[str, int],
        segment_size: int,
        error: OSError,
    ) -> bool:
        errors_before = self._send_errors
        sent = self._send_each(data, destination, segment_size)
        # When single segments fail as well, it is the destination or their size.
        if self._send_errors == errors_before:
            if not self._unsegmented:
                _log.warning(
                    "%s: segmentation offload failed (%s), sending one by one there",
                    self._local,
                    error.strerror,
                )
            self._unsegmented.add(destination)
            self._segments = len(self._unsegmented) <= _MAX_UNSEGMENTED
        return sent

    def _count_error(self, error: OSError) -> None:
        self._send_errors += 1
        self._too_large += error.errno == errno.EMSGSIZE


def _lazy_buffer(size: int) -> memoryview:
    """Zeroed memory that takes no page of the machine's until it is written to.

    A node that only answers small datagrams then pays for two pages, not for eighty.
    """
    if sys.platform == "win32":
        return memoryview(mmap.mmap(-1, size))
    # Not the default of shared memory: a child process must not write to ours.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return memoryview(mmap.mmap(-1, size, flags=flags))


@functools.cache
def _keep_freed_memory() -> None:
    """Teach the allocator of glibc not to return memory that is used again at once.

    It hands the end of its heap back from 128 kB on, and every page of the next buffer
    is then a fault: 27 instead of 2 µs for joining a run of 54 packets while others
    wait to be read. Freeing one large block raises that limit to twice its size, as
    `mallopt(3)` says of M_MMAP_THRESHOLD; the block itself is never touched. Other
    allocators take no notice.
    """
    bytes(_KEPT_BYTES // 2)


def _source_towards(family: socket.AddressFamily, host: str) -> str | None:
    """Our address in what would be sent there; nothing is sent to find out."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.connect((host, _ANY_PORT))
            return str(trial.getsockname()[0])
    except OSError:
        return None


def _bind_error(endpoint: Endpoint, error: OSError) -> ConfigError:
    return ConfigError(
        "listen",
        f"{endpoint} ({error.strerror or error})",
        "an address of this host with a free UDP port",
    )
