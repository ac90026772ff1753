"""Where the runs of a sweep happen: this machine, or a cluster that somebody started.

Owns connecting, and what of the library people see. Refuses to know what runs. Errors
of the library stop here and in `simulations.sweep.conductor`.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

import dask
import msgspec
from distributed import Client, LocalCluster, Security
from distributed.versions import VersionMismatchWarning

from opnode.core.errors import ConfigError
from simulations.sweep.code import Code
from simulations.sweep.errors import ClusterLost, CodeDiffers

_ADDRESS: Final = re.compile(r"(tcp|tls)://[^\s/]+:\d{1,5}")
_CREDENTIALS: Final = ("ca-file", "client.cert", "client.key")

_QUIET: Final[dict[str, object]] = {
    # Pages and meters that nobody asked for.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
}


class Crew(NamedTuple):
    """A cluster that is connected, and its name in errors."""

    client: Client
    name: str


@contextmanager
def local_crew(workers: int) -> Iterator[Crew]:
    """So many runs at once on this machine.

    The scheduler and its one worker live in this process, and each run in a process of
    its own, so that nothing travels over sockets. The library's two pages for health
    cannot be turned off; they are empty and bound to loopback.
    """
    _silence()
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_QUIET))
        with warnings.catch_warnings():
            # A machine without a network looks in vain for an address of its own, of
            # which there is no need here.
            warnings.simplefilter("ignore", RuntimeWarning)
            cluster = stack.enter_context(_local_cluster(workers))
            client = stack.enter_context(Client(cluster, set_as_default=False))
        yield Crew(client, "this machine")


def _local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=1,
        threads_per_worker=workers,
        processes=False,
        protocol="inproc://",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        # A run may take what there is: its process is not the worker's.
        memory_limit=None,
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def foreign_crew(address: str, module: str, patience_s: float) -> Iterator[Crew]:
    """The cluster of a scheduler, given as ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.

    Args:
        address: of the scheduler.
        module: of the scenario.
        patience_s: how long to wait for the scheduler, and then for a first worker.

    Raises:
        ConfigError: See `check_address`.
        ClusterLost: Nobody answers there, or there are no workers.
        CodeDiffers: A worker has other code than we have.
    """
    check_address(address)
    _silence()
    client = _connect(address, patience_s)
    try:
        crew = Crew(client, address)
        _await_worker(crew, patience_s)
        _require_same_code(crew, module)
        yield crew
    finally:
        client.close()


def _connect(address: str, patience_s: float) -> Client:
    security = _security(address)
    try:
        with warnings.catch_warnings():
            # What matters of it is refused below, in one line.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            return Client(
                address, timeout=patience_s, security=security, set_as_default=False
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterLost(f"no scheduler answers at {address}: {reason}") from None


def check_address(address: str) -> None:
    """Whether an address can be one.

    Raises:
        ConfigError: It is none, or there are no credentials for TLS.
    """
    if not _ADDRESS.fullmatch(address):
        raise ConfigError("--cluster", address, "tcp://HOST:PORT or tls://HOST:PORT")
    _security(address)


def _security(address: str) -> Security | None:
    """What the library's own settings say of TLS; None without it."""
    if not address.startswith("tls://"):
        return None
    for name in _CREDENTIALS:
        if not dask.config.get(f"distributed.comm.tls.{name}", None):
            expected = (
                f"`distributed.comm.tls.{name}` of dask's settings to name a file"
            )
            raise ConfigError("--cluster", address, expected)
    try:
        security = Security(require_encryption=True)
        security.get_connection_args("client")
    except (OSError, ValueError) as error:
        found = f"{address} ({error})"
        raise ConfigError("--cluster", found, "credentials that can be read") from None
    return security


def _await_worker(crew: Crew, patience_s: float) -> None:
    try:
        crew.client.wait_for_workers(1, timeout=patience_s)
    except (OSError, TimeoutError):
        raise ClusterLost(
            f"no worker came to {crew.name} within {patience_s:g} s"
        ) from None


def _require_same_code(crew: Crew, module: str) -> None:
    """Ask every worker for its code; the first one that has another is named."""
    ours = Code.here(module)
    answers = crew.client.run(_code_here, module, on_error="return")
    for address, answer in sorted(answers.items()):
        if isinstance(answer, Exception):
            raise CodeDiffers(
                f"worker {address} cannot run simulations of this commit: {answer}"
            )
        if found := ours.differences(msgspec.json.decode(answer, type=Code)):
            raise CodeDiffers(f"worker {address} has {', '.join(found)}")


def _code_here(module: str) -> bytes:
    return msgspec.json.encode(Code.here(module))


def _silence() -> None:
    """Leave the words to us: the library logs and raises the same thing."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".", 1)[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
