"""Which path carried the bytes: what a node says of it, and what the wire saw.

Owns the comparison of both. Refuses to know what should have happened.
"""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import trio

from simulations.natlab.lab import Lab
from simulations.natlab.namespaces import LabFailed
from simulations.natlab.nodes import LabNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One file's way from a node to another.

    Attributes:
        path: the kind of the path, as the sender's ``status`` shows it.
        endpoint: the peer's address on it, as the sender shows it.
        size: bytes of the file.
        between: bytes that crossed the public segment between the two.
        others: bytes that crossed it between either of them and a third station.
    """

    path: str
    endpoint: str
    size: int
    between: int
    others: int

    @property
    def went_direct(self) -> bool:
        """The node says so, and no third station can have carried the file."""
        return self.path == "direct" and self.others < self.size / 2

    @property
    def stayed_inside(self) -> bool:
        """The public segment did not see the file at all."""
        return self.between + self.others < self.size / 2

    @property
    def was_relayed(self) -> bool:
        """The node says so, and third stations had the file, to them and from them."""
        is_told = self.path != "direct"
        return (
            is_told and self.others > 1.8 * self.size and 2 * self.between < self.size
        )

    @property
    def is_honest(self) -> bool:
        """What the node shows is what the wire saw."""
        return self.went_direct or self.was_relayed


async def transfer(sender: LabNode, receiver: LabNode, size: int) -> Evidence:
    """Send a file and see which way it takes.

    Raises:
        VerbFailed: it did not arrive.
    """
    lab = sender.lab
    await receiver.add_contact(f"from{sender.host}", sender)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"{sender.host}-{size}")
        await trio.Path(path).write_bytes(bytes(size))
        lab.clear_flows()
        await sender.send(receiver, path)
    row = await sender.connection_to(receiver)
    if row is None:
        raise LabFailed(f"{sender.host} has no connection after it sent a file")
    between, others = bytes_of(lab, sender.host, receiver.host)
    return Evidence(
        path=str(row["path"]),
        endpoint=str(row["endpoint"]),
        size=size,
        between=between,
        others=others,
    )


def bytes_of(lab: Lab, one: str, other: str) -> tuple[int, int]:
    """Bytes on the public segment between two hosts, and of them with anybody else."""
    ours = {*lab.public_addresses(one), *lab.public_addresses(other)}
    between = others = 0
    for flow in lab.flows():
        ends = {flow.source, flow.destination}
        if ends <= ours:
            between += flow.bytes
        elif ends & ours:
            others += flow.bytes
    return between, others


async def path_becomes(
    node: LabNode, peer: LabNode, wanted: Collection[str], limit_s: float = 90.0
) -> str:
    """Wait until ``node`` reaches the peer in one of these ways; returns the way.

    Raises:
        trio.TooSlowError: it does not, for so many seconds.
    """
    with trio.fail_after(limit_s):
        while True:
            row = await node.connection_to(peer)
            if row is not None and row["path"] in wanted:
                return str(row["path"])
            await trio.sleep(0.5)
