import itertools
import sys

import trio

from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.network import changes as network_changes
from opnode.drivers.network.changes import POLL_S, wait_changed

HOME = (InterfaceAddress(host="192.168.0.2"), InterfaceAddress(host="127.0.0.1"))
TRAIN = (InterfaceAddress(host="10.7.0.9"), InterfaceAddress(host="127.0.0.1"))


async def test_what_differs_already_is_told_at_once(autojump_clock):
    assert await wait_changed(lambda: TRAIN, HOME) == TRAIN
    assert trio.current_time() == 0


async def test_where_nobody_tells_of_changes_somebody_looks(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(sys, "platform", "beos")
    looks = itertools.chain([HOME] * 3, [TRAIN])
    began_at = trio.current_time()
    assert await wait_changed(lambda: next(looks), HOME) == TRAIN
    assert trio.current_time() - began_at == 3 * POLL_S


async def test_where_the_kernel_forbids_notices_somebody_looks(
    autojump_clock, monkeypatch
):

    monkeypatch.setattr(network_changes, "_notices", _forbidden)
    looks = itertools.chain([HOME, HOME[::-1]], [TRAIN])
    assert await wait_changed(lambda: next(looks), HOME) == TRAIN


def _forbidden():
    return network_changes.contextlib.nullcontext()
