import dataclasses

import pytest

from opnode.core.addresses import Endpoint
from opnode.node.config import NodeConfig, Role


def test_a_node_listens_everywhere_on_a_port_of_the_systems_choice():
    assert NodeConfig().listen == Endpoint("::", 0)
    assert NodeConfig().role is Role.AUTO


def test_a_configuration_cannot_change_under_a_running_node():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NodeConfig().role = Role.LEAF


def test_the_keepalive_is_below_the_shortest_binding_lifetime_measured():
    assert NodeConfig().nat_keepalive_s < 30
