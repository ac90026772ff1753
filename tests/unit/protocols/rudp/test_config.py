"""Settings with which the protocol cannot work are refused by name."""

import pytest

from opnode.core.errors import ConfigError
from opnode.protocols.rudp.config import RudpConfig


def test_the_defaults_are_accepted():
    config = RudpConfig()
    assert config.channel_window <= config.connection_window


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel_window", 1000),
        ("connection_window", 1000),
        ("send_buffer", 10),
        ("max_channels", 1),
        ("initial_window_packets", 1),
        ("max_window", 1200),
        ("idle_timeout_s", 0.5),
        ("max_ack_delay_s", 0.006),
        ("max_ack_delay_s", -0.001),
    ],
)
def test_a_value_out_of_bounds_names_its_field(field, value):
    with pytest.raises(ConfigError) as caught:
        RudpConfig(**{field: value})
    assert caught.value.field == field


def test_all_channels_together_hold_at_least_what_one_may_hold():
    with pytest.raises(ConfigError, match="connection_window"):
        RudpConfig(channel_window=17 << 20)
