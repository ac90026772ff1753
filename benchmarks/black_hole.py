"""Killing nodes of this process the way a power cut does, without being root.

Owns the sockets of the dead. Their ports stay bound, so that no ICMP message tells
anybody; a packet filter on each socket drops whatever arrives before it is queued, and
nothing can be sent any more. Refuses to know what ran on them.
"""

import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

_SO_ATTACH_FILTER = 26
_FILTER = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")
_RETURN = 0x06
"""The classic BPF instruction that ends with a constant; 0 drops the packet."""


@contextlib.contextmanager
def black_holes(ports: Collection[int]) -> Iterator[int]:
    """Drop whatever comes to these UDP ports of this process until the block ends.

    The kernel lets everybody put a filter on a socket of their own (socket(7)). Where
    it knows none, nobody reads the sockets any more, which looks the same from outside.
    The count yielded is that of the ports found.
    """
    with contextlib.ExitStack() as stack:
        found = 0
        for entry in Path("/dev/fd").iterdir():
            with contextlib.suppress(OSError):
                twin = socket.socket(fileno=os.dup(int(entry.name)))
                if twin.type == socket.SOCK_DGRAM and twin.getsockname()[1] in ports:
                    # Its twin keeps the port bound when the node closes its own.
                    stack.enter_context(twin)
                    _drop_all(twin)
                    # It complains that UDP has no connection, but holds all the same.
                    with contextlib.suppress(OSError):
                        twin.shutdown(socket.SHUT_WR)
                    found += 1
                else:
                    twin.close()
        yield found


def resident_bytes() -> int:
    """What this process takes of the machine's memory now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def _drop_all(sock: socket.socket) -> None:
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(_FILTER.pack(_RETURN, 0, 0, 0))
    program = _PROGRAM.pack(1, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
