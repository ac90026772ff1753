"""Debian's TURN server, started for a test and ended with it."""

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from opnode.drivers.turn.turn import TurnServer, TurnTransport

USERNAME, PASSWORD = "me", "a secret"
STALE_NONCE_S = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configuration(host: str, port: int, folder: Path, *options: str) -> str:
    """What the server is told."""
    lines = (
        f"listening-ip={host}",
        f"listening-port={port}",
        f"relay-ip={host}",
        "realm=testing",
        "lt-cred-mech",
        f"user={USERNAME}:{PASSWORD}",
        f"stale-nonce={STALE_NONCE_S}",
        f"userdb={folder / 'turndb'}",
        f"pidfile={folder / 'pid'}",
        "log-file=stdout",
        "verbose",
        "no-tls",
        "no-dtls",
        "no-cli",
        "allow-loopback-peers",
        *options,
    )
    return "\n".join(lines)


@asynccontextmanager
async def running_coturn(
    folder: Path, transport: TurnTransport, *options: str, host: str = "127.0.0.1"
) -> AsyncIterator[TurnServer]:
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed (apt-get install coturn)")
    port = free_port()
    settings = folder / "turnserver.conf"
    settings.write_text(configuration(host, port, folder, *options))
    async with trio.open_nursery() as nursery:
        with (folder / "coturn.log").open("wb") as log:
            command = [program, "-c", str(settings)]

            async def run(task_status: trio.TaskStatus[None]) -> None:
                task_status.started()
                await trio.run_process(command, stdout=log, stderr=log, check=False)

            await nursery.start(run)
            with trio.fail_after(10):
                while not await _answers(host, port):  # noqa: ASYNC110 - it says nothing
                    await trio.sleep(0.05)
            yield TurnServer(
                host=host,
                port=port,
                transport=transport,
                username=USERNAME,
                password=PASSWORD,
            )
            nursery.cancel_scope.cancel()


async def _answers(host: str, port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError:
        return False
    await stream.aclose()
    return True
