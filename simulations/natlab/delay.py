"""The delay line: holds every packet of the public segment back for its time.

Owns a TUN device and the order of the packets that wait. Refuses to know hosts: it gets
seconds by address. Runs as a process of its own, in the namespace of the segment, as
this kernel may have no ``netem``; imports little, so that a lab is up quickly.

Reads its delays as one line of JSON from its input, and new ones whenever a line comes:
``{"one_way": {ADDRESS: seconds}, "pairs": [[SOURCE, DESTINATION, seconds]]}``. A packet
waits for what both its ends add, or for what its pair says.
"""

import fcntl
import heapq
import ipaddress
import json
import os
import select
import struct
import sys
from time import monotonic  # noqa: TID251 - packets wait in real time
from typing import Final

DEVICE: Final = "delay"
READY: Final = "ready"
MAX_WAITING: Final = 20_000
"""Packets held at once, about 30 MB; what comes beyond is lost, as in any queue."""

_TUNSETIFF: Final = 0x4004_54CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_MAX_PACKET: Final = 65_536
_READS: Final = 64


class Delays:
    """How long a packet waits."""

    def __init__(self) -> None:
        self._one_way: dict[bytes, float] = {}
        self._pairs: dict[tuple[bytes, bytes], float] = {}

    def load(self, line: str) -> None:
        """Take new delays, in the form that the module's docstring shows."""
        given = json.loads(line)
        self._one_way = {_packed(a): s for a, s in given["one_way"].items()}
        self._pairs = {(_packed(a), _packed(b)): s for a, b, s in given["pairs"]}

    def of(self, packet: bytes) -> float:
        """Seconds that an IP packet waits."""
        if packet[0] >> 4 == 4:  # noqa: PLR2004 - the version of IP
            ends = packet[12:16], packet[16:20]
        else:
            # A host behind a router shares the first half of its address with it.
            ends = packet[8:16], packet[24:32]
        if (pair := self._pairs.get(ends)) is not None:
            return pair
        return self._one_way.get(ends[0], 0.0) + self._one_way.get(ends[1], 0.0)


def _packed(address: str) -> bytes:
    """What is compared: an IPv4 address, or the network of an IPv6 address (/64)."""
    return ipaddress.ip_address(address).packed[:8]


def open_device() -> int:
    """Attach to the TUN device, which exists already; returns its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(device, _TUNSETIFF, request)
    return device


def run(device: int, delays: Delays) -> None:
    """Pass packets on until killed, which whoever removes the namespace does."""
    waiting: list[tuple[float, int, bytes]] = []
    number = 0
    watched = [device, sys.stdin.fileno()]
    while True:
        now = monotonic()
        pause = max(0.0, waiting[0][0] - now) if waiting else None
        # Unlike epoll, it does not round the time up to whole milliseconds.
        readable, _, _ = select.select(watched, [], [], pause)
        if sys.stdin.fileno() in readable:
            if line := sys.stdin.readline():
                delays.load(line)
            else:
                watched.pop()
        if device in readable:
            number = _take_packets(device, delays, waiting, number)
        now = monotonic()
        while waiting and waiting[0][0] <= now:
            _write(device, heapq.heappop(waiting)[2])


def _take_packets(
    device: int, delays: Delays, waiting: list[tuple[float, int, bytes]], number: int
) -> int:
    for _ in range(_READS):
        try:
            packet = os.read(device, _MAX_PACKET)
        except BlockingIOError:
            break
        if len(waiting) < MAX_WAITING:
            number += 1
            due = monotonic() + delays.of(packet)
            heapq.heappush(waiting, (due, number, packet))
    return number


def _write(device: int, packet: bytes) -> None:
    try:
        os.write(device, packet)
    except (BlockingIOError, OSError):
        # The kernel refused it (its receiver is gone): lost, as on any network.
        return


def main() -> None:
    """Start, say so, and pass packets on."""
    delays = Delays()
    device = open_device()
    # On a busy machine the packets of all others wait for this process.
    os.nice(-10)
    delays.load(sys.stdin.readline())
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    run(device, delays)


if __name__ == "__main__":
    main()
