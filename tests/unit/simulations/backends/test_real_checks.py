"""What the checkers see of real nodes."""

import pytest
import trio

from opnode.core.peerfile import Identity, build_peer_file
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.keys import seeded_signing_key
from simulations.backends.real_checks import DhtChecks
from simulations.checkers.violation import ViolationError
from simulations.reads import draft, publish, read_latest, read_many


@pytest.fixture
async def network(nursery):
    network = DhtNetwork(nursery, 1)
    await network.grow(5)
    network.audit = DhtChecks(network, 1)
    yield network
    network.close()


async def test_genuine_reads_and_holders_pass_and_sizes_are_measured(network):
    publications = [draft(network, "owner", 2)]
    for version in (0, 1):
        await publish(network, network.nodes, publications, version)
        await read_many(network, network.nodes, publications, read_latest, 5)
    for node in network.nodes:
        network.audit.look_at(node)
    assert 0 < network.audit.bounds.fullest["records held"] < 1


async def test_a_holder_with_what_nobody_signed_is_found_within_minutes(
    network, autojump_clock
):
    draft(network, "owner")
    identity = Identity(seeded_signing_key("owner"))
    other = build_peer_file(identity, wall_now=network.wall_clock(), seq=9)
    for node in network.nodes:
        node.store.put_untrusted(other.wire, node.wall_clock())
    with pytest.raises(ViolationError, match="accepted forgery"), trio.fail_after(600):
        await network.audit.watch()


async def test_a_complete_read_that_goes_back_is_a_violation_and_a_first_one_none(
    network,
):
    publication = draft(network, "owner", 2)
    reader, (old, new) = network.nodes[0], publication.versions
    read = network.audit.read
    read(reader, publication.key, [new], is_complete=True)
    read(reader, publication.key, [old], is_complete=False)
    with pytest.raises(ViolationError, match="never go back"):
        read(reader, publication.key, [old], is_complete=True)


async def test_a_queue_past_its_bound_is_a_violation(network, monkeypatch):
    monkeypatch.setattr("simulations.backends.real_checks._MAX_RECORDS", 0)
    publications = [draft(network, "owner")]
    await publish(network, network.nodes, publications)
    holder = next(n for n in network.nodes if n.store.statistics().records)
    with pytest.raises(ViolationError, match="records held"):
        network.audit.look_at(holder)
