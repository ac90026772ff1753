"""`--relay` and `--relay-rate`: what they mean, and what is refused."""

import click
import pytest
from click.testing import CliRunner

from opnode.cli.relay_options import RateType, relay_options
from opnode.protocols.relay import RelayConfig


def run(*arguments):
    """The relay's limits that a command is given, or what went wrong."""
    given = []

    @click.command()
    @relay_options
    def command(*, relay):
        given.append(relay)

    result = CliRunner().invoke(command, arguments)
    return given[0] if given else result.output


@pytest.mark.parametrize(
    ("text", "rate"),
    [("500kB", 5e5), ("1MB", 1e6), ("2.5 MB/s", 2.5e6), ("1GB", 1e9), ("16000B", 16e3)],
)
def test_a_rate_is_read_as_people_write_it(text, rate):
    assert RateType().convert(text, None, None) == rate
    assert RateType().convert(rate, None, None) == rate


@pytest.mark.parametrize("text", ["1", "MB", "-1MB", "1kB", "99GB", "1MiB", "1e6B"])
def test_another_rate_is_refused_with_what_was_expected(text):
    with pytest.raises(click.BadParameter, match="expected bytes a second"):
        RateType().convert(text, None, None)


def test_nobody_relays_who_was_not_told_to():
    assert run() is None


def test_who_is_told_to_keeps_the_usual_limits_or_those_that_were_given():
    assert run("--relay") == RelayConfig()
    assert run("--relay", "--relay-rate", "2MB").total_bytes_per_s == 2e6


def test_a_rate_without_a_relay_is_wrong_use():
    assert "--relay-rate needs --relay" in run("--relay-rate", "2MB")
