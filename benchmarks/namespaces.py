"""Network namespaces without names, each with one TUN device; Linux only, needs root.

Owns the system calls. Refuses to know what is sent between the devices. A namespace
without a name is gone with the last process in it, so a benchmark that is killed leaves
nothing behind.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import BenchmarkError

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK = 0x8916, 0x891C
_SIOCSIFMTU, _SIOCSIFTXQLEN = 0x8922, 0x8943
_IFF_UP = 0x1
_PR_SET_TIMERSLACK = 29
_DEVICE = b"link0"
_NETMASK = "255.255.255.0"
# Holds what comes while the emulator waits for a processor: 1 s at 100 Mbit/s.
_TX_QUEUE_PACKETS = 10_000
# TCP settings are of the namespace. The windows allow 100 Mbit/s at 200 ms with one
# BDP of queue; a cached threshold of an earlier run would decide the next one.
_TCP_SETTINGS = {
    "tcp_rmem": "4096 131072 33554432",
    "tcp_wmem": "4096 131072 33554432",
    "tcp_no_metrics_save": "1",
}


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace and its device: what is written to `tun` arrives in the namespace."""

    namespace: int
    tun: int


def new_host(address: str, mtu: int) -> Host:
    """Move this process into a new namespace with one device; what it opened stays.

    Raises:
        BenchmarkError: the system does not let us.
    """
    try:
        _call("unshare", _CLONE_NEWNET)
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        _apply_settings()
        return Host(namespace, _open_tun(address, mtu))
    except OSError as error:
        raise BenchmarkError(
            f"network namespaces with TUN devices are not allowed here "
            f"({error.strerror}): this benchmark needs root on Linux"
        ) from error


def enter(path: str) -> None:
    """Move this process into the namespace that a path in /proc leads to.

    Raises:
        BenchmarkError: the system does not let us.
    """
    try:
        namespace = os.open(path, os.O_RDONLY)
        try:
            _call("setns", namespace, _CLONE_NEWNET)
        finally:
            os.close(namespace)
    except OSError as error:
        raise BenchmarkError(f"no way into {path}: {error.strerror}") from error


def become_punctual(priority: int) -> None:
    """Go before everything on the machine that is not real-time.

    What waits for a processor is no property of a link or of a transport. Without the
    right to it, the other load of the machine shows in the figures.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _apply_settings() -> None:
    for name, value in _TCP_SETTINGS.items():
        # A kernel without one of them measures a little differently, but measures.
        with contextlib.suppress(OSError):
            Path("/proc/sys/net/ipv4", name).write_text(value, encoding="ascii")


def _open_tun(address: str, mtu: int) -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH14x", _DEVICE, _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(tun, _TUNSETIFF, request)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for code, value in (
            (_SIOCSIFADDR, _socket_address(address)),
            (_SIOCSIFNETMASK, _socket_address(_NETMASK)),
            (_SIOCSIFMTU, struct.pack("i12x", mtu)),
            (_SIOCSIFTXQLEN, struct.pack("i12x", _TX_QUEUE_PACKETS)),
        ):
            fcntl.ioctl(control, code, struct.pack("16s16s8x", _DEVICE, value))
        found = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16s24x", _DEVICE))
        flags = struct.unpack_from("16xH", found)[0] | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", _DEVICE, flags))
    return tun


def _socket_address(address: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
