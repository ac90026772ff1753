"""An address is checked before anything is connected."""

import dask
import pytest

from opnode.core.errors import ConfigError
from simulations.sweep.cluster import check_address


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:1", "http://host:1", "tcp://host", "tcp://:1", "tcp://a b:1"],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="--cluster"):
        check_address(address)


def test_an_address_without_tls_needs_no_credentials():
    check_address("tcp://scheduler.example:8786")


def test_tls_without_credentials_names_the_setting():
    with pytest.raises(ConfigError, match=r"distributed\.comm\.tls\.ca-file"):
        check_address("tls://scheduler.example:8786")


def test_credentials_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "file").write_text("none")
    names = ("ca-file", "client.cert", "client.key")
    tls = {f"distributed.comm.tls.{name}": str(tmp_path / "file") for name in names}
    with (
        dask.config.set(tls),
        pytest.raises(ConfigError, match="credentials that can be read"),
    ):
        check_address("tls://scheduler.example:8786")
