"""Labs and networks of real processes for the tests of this folder.

Owns: who runs these tests (whoever asks for them: `-m natlab` or this folder), and that
they are counted as skipped, with the reason, where no lab can be built.
"""

import socket
from contextlib import asynccontextmanager

import pytest
import trio

from simulations.natlab import namespaces
from simulations.natlab.lab import Lab
from simulations.natlab.nodes import open_network
from simulations.natlab.spec import LabSpec, parse_words

LIMIT_S = 90
HERE = "tests/natlab"


def pytest_collection_modifyitems(config, items):
    ours = [item for item in items if HERE in item.path.as_posix()]
    if not ours:
        return
    asked = "natlab" in config.option.markexpr or any(
        HERE in argument for argument in config.args
    )
    reason = namespaces.obstacle() if asked else f"on demand: -m natlab, or {HERE}"
    for item in ours:
        item.add_marker(pytest.mark.natlab)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def laboratory():
    """Builds labs from words or a LabSpec; all are removed at the end."""
    labs = []

    def build(*words):
        spec = words[0] if isinstance(words[0], LabSpec) else parse_words(words)
        lab = Lab(spec)
        lab.up()
        labs.append(lab)
        return lab

    yield build
    for lab in labs:
        lab.down()


@pytest.fixture
def overlay(laboratory, tmp_path):
    """Runs seeds and everybody else's nodes in a lab; programs beside them.

    ``beside`` tells of a lab which hosts and NATs run another command than a node.
    """

    @asynccontextmanager
    async def run(what, *, seeds=("seed",), has_relay=False, beside=None, options=()):
        lab = laboratory(*([what] if isinstance(what, LabSpec) else what.split()))
        beside = beside(lab) if beside else {}
        people = [h for h in lab.spec.hosts if h not in (*beside, *seeds)]
        with trio.fail_after(LIMIT_S):
            async with open_network(lab, tmp_path) as network:
                for host, words in beside.items():
                    await network.run_beside(host, *words)
                for host in seeds:
                    relaying = network.relaying(host) if has_relay else ()
                    await network.start_seed(host, *relaying)
                for host in people:
                    await network.start_up(host, *options)
                for host in people:
                    await network.nodes[host].wait_event("ready")
                yield network

    return run


class Wire:
    """UDP sockets on the hosts of a lab, to see what a NAT does."""

    def __init__(self, lab):
        self.lab = lab
        self.sockets = []

    def udp(self, host, port=0, family=socket.AF_INET):
        def make():
            bound = socket.socket(family, socket.SOCK_DGRAM)
            bound.bind(("", port))
            return bound

        self.sockets.append(self.lab.inside(host, make))
        return self.sockets[-1]

    def at(self, host, bound):
        line = self.lab.plan.lines[host]
        is_v6 = bound.family == socket.AF_INET6
        return line.address_v6 if is_v6 else line.address, bound.getsockname()[1]

    def seen(self, sender, host, receiver):
        """The address at which a host sees a socket, None if it does not."""
        sender.sendto(b"hello", self.at(host, receiver))
        return self.heard(receiver)

    def heard(self, receiver):
        """Who has sent something, None after a while of silence."""
        receiver.settimeout(0.3)
        try:
            return receiver.recvfrom(2000)[1][:2]
        except TimeoutError:
            return None


@pytest.fixture
def wire():
    wires = []

    def make(lab):
        wires.append(Wire(lab))
        return wires[-1]

    yield make
    for one in wires:
        for bound in one.sockets:
            bound.close()
