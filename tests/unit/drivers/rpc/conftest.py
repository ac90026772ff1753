"""Fixtures of the RPC driver's tests."""

import pytest

from tests.unit.drivers.rpc.wires import Net


@pytest.fixture
async def net(nursery):
    return Net(nursery)
