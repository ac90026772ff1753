"""`service`: what is answered, how much of it, and what is refused by name."""

import pytest

from opnode.core.errors import RequestRefused
from opnode.core.ids import NodeId, distance
from opnode.core.records import build_chunk
from opnode.drivers.dht.service import failure_name
from opnode.drivers.store import StoreConfig
from opnode.protocols.rpc.messages import (
    FailureCode,
    FindValue,
    Store,
    Stored,
    unpack_contact_untrusted,
)
from tests.unit.drivers.dht.samples import KEY, claim


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda n: claim(n).wire[:-1] + b"\0", FailureCode.BAD_SIGNATURE),
        (lambda n: claim(n, lifetime_s=0).wire, FailureCode.EXPIRED_RECORD),
        (lambda n: claim(n, size=21).wire, FailureCode.EQUIVOCATING_RECORD),
        (lambda n: claim(n, seq=0).wire, FailureCode.STALE_RECORD),
        (lambda _: b"rubbish", FailureCode.MALFORMED_RECORD),
    ],
)
async def test_a_holder_refuses_a_bad_record_by_name(
    autojump_clock, network, change, code
):
    one, two = await network.add(), await network.add()
    held = claim(network)
    two.store.put_untrusted(held.wire, network.wall_clock())
    with pytest.raises(RequestRefused) as refusal:
        await one.rpc.request(two.hub.local, Store(change(network)))
    assert refusal.value.code == code
    assert refusal.value.detail
    assert two.store.records(KEY, network.wall_clock()) == [held]


async def test_a_full_bag_refuses_by_name(autojump_clock, network):
    one, two = await network.add(), await network.add()
    for number in range(16):
        record = claim(network, f"owner {number}")
        assert (
            await one.rpc.request(two.hub.local, Store(record.wire))
        ).body == Stored()
    with pytest.raises(RequestRefused) as refusal:
        await one.rpc.request(two.hub.local, Store(claim(network).wire))
    assert refusal.value.code == FailureCode.BAG_FULL


async def test_a_holder_counts_what_each_network_stores(autojump_clock, network):
    holder, ours = await network.add(), await network.add()
    theirs = await network.add(host="10.77.0.1")
    holder.store._quotas.config = StoreConfig(local_group_records=1)
    holder.store.put_untrusted(claim(network, "own").wire, network.wall_clock())
    holder.dht.adopt_node_id(NodeId(KEY))
    chunks = [build_chunk(bytes([n]), int(network.wall_clock()) + 99) for n in (1, 2)]
    for asker, record in ((ours, claim(network)), (theirs, chunks[1])):
        answer = await asker.rpc.request(holder.hub.local, Store(record.wire))
        assert answer.body == Stored()
    with pytest.raises(RequestRefused) as refusal:
        await ours.rpc.request(holder.hub.local, Store(chunks[0].wire))
    assert refusal.value.code == FailureCode.STORE_FULL


async def test_a_store_without_a_token_is_refused_and_the_retry_holds(
    autojump_clock, network
):
    one, two = await network.add(), await network.add()
    answer = await one.rpc.request(two.hub.local, Store(claim(network).wire))
    assert answer.body == Stored()
    assert two.rpc.statistics().served == 2


async def test_a_reply_with_records_leaves_room_for_contacts(autojump_clock, network):
    await network.grow(12)
    holder, asker = network.nodes[0], network.nodes[1]
    for number in range(4):
        record = claim(network, f"owner {number}", size=300)
        holder.store.put_untrusted(record.wire, network.wall_clock())
    body = (await asker.rpc.request(holder.hub.local, FindValue(KEY))).body
    assert body.total == 4
    assert 0 < len(body.records) < 4
    assert len(body.contacts) >= 8
    rest = (await asker.rpc.request(holder.hub.local, FindValue(KEY, 2))).body
    assert rest.contacts == ()
    assert rest.total == 4


async def test_an_answer_names_the_neighbours_of_the_id_that_was_wished(
    autojump_clock, network
):
    await network.grow(30)
    holder, asker = network.nodes[0], network.nodes[1]
    near = bytes(byte ^ 0xFF for byte in KEY)
    known = holder.dht.contacts()
    nearest = min(known, key=lambda contact: distance(contact.node_id, near))
    assert nearest != min(known, key=lambda contact: distance(contact.node_id, KEY))
    values = await asker.rpc.request(holder.hub.local, FindValue(KEY, 0, near))
    wire = claim(network).wire
    store = Store(wire, near)
    stored = await asker.rpc.request(holder.hub.local, store)
    for body in (values.body, stored.body):
        assert unpack_contact_untrusted(body.contacts[0]) == nearest
    odd = Store(wire, b"no id")
    assert (await asker.rpc.request(holder.hub.local, odd)).body == Stored()


async def test_a_put_whose_condition_is_not_met_is_told_what_is_held(
    autojump_clock, network
):
    one, two = await network.add(), await network.add()
    two.store.put_untrusted(claim(network, seq=4).wire, network.wall_clock())
    new = claim(network, seq=9)
    with pytest.raises(RequestRefused) as refusal:
        await one.rpc.request(two.hub.local, Store(new.wire, b"", 3))
    assert refusal.value.code == FailureCode.OTHER_SEQ
    assert (
        refusal.value.detail == "sequence number 4 is held, expected sequence number 3"
    )
    assert failure_name(refusal.value.code) == "OtherSequence"
    for _ in range(2):
        answer = await one.rpc.request(two.hub.local, Store(new.wire, b"", 4))
        assert answer.body == Stored()
