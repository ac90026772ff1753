"""When this host's addresses, or its ways out, are others than before.

Owns the kernel's notices of it (Linux: rtnetlink(7)) and the look around that tells
what they amount to; other systems are asked every few seconds. Refuses to know what a
change means to the node.
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

import trio

from opnode.core.interfaces import InterfaceAddress

POLL_S: Final = 3.0
"""Where nobody tells of changes. A look around takes 0.4 ms, so 0.01 % of a core."""

QUIET_LOOK_S: Final = 60.0
"""Also where the kernel tells: a notice may be lost when its queue overflows."""

SETTLE_S: Final = 0.3
"""Moving to another network comes as five to ten notices; their end counts."""

_NOTICE_BYTES: Final = 65_536
# Length and type of a struct nlmsghdr, and RTM_DELADDR of linux/rtnetlink.h.
_HEADER: Final = struct.Struct("=IH10x")
_ADDRESS_GONE: Final = 21
# Groups of linux/rtnetlink.h: links, and addresses and routes of both families.
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400


Addresses = tuple[InterfaceAddress, ...]


async def wait_changed(look: Callable[[], Addresses], known: Addresses) -> Addresses:
    """Block until ``look`` finds others than ``known``, in any order; returns them.

    An address that the default route leads to, or leads to no more, is another one. So
    is one that the kernel took away, although it is back: in another network, maybe.
    """
    before = frozenset(known)
    with _notices() as notices:
        is_gone = False
        while frozenset(found := look()) == before and not is_gone:
            is_gone = await _wait_notice(notices)
    await trio.lowlevel.checkpoint()
    return found


def _notices() -> contextlib.AbstractContextManager[socket.socket | None]:
    """The kernel's notices, or nothing where it gives none (containers forbid it)."""
    if sys.platform != "linux":
        return contextlib.nullcontext()
    try:
        notices = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
        )
    except OSError:
        return contextlib.nullcontext()
    try:
        notices.setblocking(False)
        notices.bind((0, _GROUPS))
    except OSError:
        notices.close()
        return contextlib.nullcontext()
    return notices


async def _wait_notice(notices: socket.socket | None) -> bool:
    """Return when it is worth looking around; whether an address was taken away."""
    if notices is None:
        await trio.sleep(POLL_S)
        return False
    with trio.move_on_after(QUIET_LOOK_S) as quiet:
        await trio.lowlevel.wait_readable(notices)
    if quiet.cancelled_caught:
        return False
    await trio.sleep(SETTLE_S)
    is_gone = False
    # ENOBUFS says that some are lost: the look around tells what they amounted to.
    with contextlib.suppress(OSError):
        while notice := notices.recv(_NOTICE_BYTES):
            is_gone = is_gone or _takes_away(notice)
    return is_gone


def _takes_away(notice: bytes) -> bool:
    """Whether one of the messages says that an address is gone (netlink(7))."""
    offset = 0
    while len(notice) - offset >= _HEADER.size:
        length, kind = _HEADER.unpack_from(notice, offset)
        if kind == _ADDRESS_GONE:
            return True
        # Messages are padded to four bytes; none is shorter than its header.
        offset += max(length, _HEADER.size) + 3 & ~3
    return False
