import click
import pytest
from click.testing import CliRunner

from opnode.cli.introducer_options import introducer_options
from opnode.protocols.introductions.introducer import IntroducerConfig

USUAL = IntroducerConfig()


def told(*arguments):
    heard = []

    @click.command()
    @introducer_options
    def node(*, introducer):
        heard.append(introducer)

    result = CliRunner().invoke(node, arguments)
    return result, heard


def test_a_node_that_is_told_nothing_passes_on_a_little():
    _, (config,) = told()
    assert config == USUAL
    assert config.bytes_per_s < 20_000


def test_a_rate_sets_what_may_come_at_once_as_well():
    _, (config,) = told("--introduce-rate", "64kB")
    assert config.bytes_per_s == 64_000
    assert config.bytes_burst / 64_000 == USUAL.bytes_burst / USUAL.bytes_per_s


@pytest.mark.parametrize("rate", ["0B", "999B", "fast", "-1kB"])
def test_a_rate_that_is_none_is_refused_with_what_was_expected(rate):
    result, heard = told("--introduce-rate", rate)
    assert result.exit_code == 2
    assert not heard
    assert rate in result.output or "no such option" in result.output.lower()
