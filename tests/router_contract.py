"""What our questions and a router's answers do together: Debian's and the fake's."""

# pytest-trio takes the clock of a test from its arguments.
# ruff: noqa: ARG002

import random

import pytest
from trio.abc import Clock

from opnode.drivers.network.network import Network
from opnode.drivers.router.control import RouterControl
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import MappingMethod

LIFETIME_S = 600


class RouterContract:
    """Subclasses give `network`, `router`, `external`, `clock` and `method`."""

    method = MappingMethod.PCP

    @pytest.fixture
    def control(self, clock: Clock, network: Network, router: HomeRouter):
        return RouterControl(network, router, random.Random(1).randbytes)

    @pytest.fixture
    def rival(self, clock: Clock, network: Network, router: HomeRouter):
        return RouterControl(network, router, random.Random(2).randbytes)

    async def test_the_wanted_port_is_given_at_the_external_address(
        self, clock: Clock, control, external
    ):
        mapped = await control.map(4000, 4000, LIFETIME_S)
        assert mapped.external == (external, 4000)
        assert mapped.method is self.method
        assert 0 < mapped.lifetime_s <= LIFETIME_S
        await control.unmap(mapped)

    async def test_a_renewal_keeps_the_port(self, clock: Clock, control):
        first = await control.map(4001, 4001, LIFETIME_S)
        again = await control.map(4001, first.external.port, LIFETIME_S)
        assert again.external == first.external
        await control.unmap(again)

    async def test_a_port_that_is_taken_is_replaced_by_another(
        self, clock: Clock, control, rival
    ):
        one = await control.map(4002, 5000, LIFETIME_S)
        other = await rival.map(4003, 5000, LIFETIME_S)
        assert other.external.host == one.external.host
        assert other.external.port != one.external.port
        await control.unmap(one)
        await rival.unmap(other)

    async def test_a_port_that_was_given_back_is_free_again(
        self, clock: Clock, control, rival
    ):
        one = await control.map(4004, 5001, LIFETIME_S)
        await control.unmap(one)
        other = await rival.map(4005, 5001, LIFETIME_S)
        assert other.external.port == 5001
        await rival.unmap(other)
