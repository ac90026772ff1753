"""Where there is no direct path, a TURN server carries: coturn, and real processes."""

import shutil
from contextlib import asynccontextmanager

import pytest
import trio

from simulations.natlab.evidence import transfer
from simulations.natlab.nodes import open_network
from tests.integration.coturn import PASSWORD, USERNAME, configuration

SIZE = 300_000
SEEDS = "seed=open s1=open s2=open s3=open"
PORT = 3478


@pytest.fixture
def turn_file(tmp_path):
    def write(lab, transport):
        path = tmp_path / "turn.toml"
        path.touch(mode=0o600)
        url = f"turn:{lab.address('turn')}:{PORT}?transport={transport}"
        path.write_text(
            f'[[server]]\nurl = "{url}"\nusername = "{USERNAME}"\n'
            f'password = "{PASSWORD}"\n'
        )
        return path

    return write


@asynccontextmanager
async def two_nodes(lab, folder, file):
    """A node with the TURN server, one without, and what they need."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed (apt-get install coturn)")
    settings = folder / "turnserver.conf"
    settings.write_text(configuration(lab.address("turn"), PORT, folder))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with (folder / "coturn.log").open("wb") as log:
                command = lab.command("turn", program, "-c", str(settings))

                async def serve():
                    await trio.run_process(command, stdout=log, stderr=log, check=False)

                nursery.start_soon(serve)
                async with open_network(lab, folder) as network:
                    for seed in ("seed", "s1", "s2", "s3"):
                        await network.start_seed(seed)
                    one = await network.start_up("a", f"--turn-servers={file}")
                    other = await network.start_up("b")
                    for node in (one, other):
                        await node.wait_event("ready")
                    await trio.sleep(1)
                    yield one, other
            nursery.cancel_scope.cancel()


async def test_the_server_of_the_callee_is_enough_and_tcp_leads_to_it(
    laboratory, tmp_path, turn_file
):
    lab = laboratory(*f"{SEEDS} turn=open a=sym b=sym".split())
    file = turn_file(lab, "tcp")
    async with two_nodes(lab, tmp_path, file) as (receiver, sender):
        await sender.connect(receiver)
        way = await transfer(sender, receiver, SIZE)
        assert way.path == "turn", way
        assert way.was_relayed, way


async def test_a_direct_path_is_taken_although_there_is_a_server(
    laboratory, tmp_path, turn_file
):
    lab = laboratory(*f"{SEEDS} turn=open a=port b=port".split())
    file = turn_file(lab, "udp")
    async with two_nodes(lab, tmp_path, file) as (one, other):
        await one.connect(other)
        way = await transfer(one, other, SIZE)
        assert way.went_direct, way
