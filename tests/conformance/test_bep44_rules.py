"""A holder keeps the rules of BEP 44 for stored items, under our names for them.

https://www.bittorrent.org/beps/bep_0044.html. Formats differ, so the rules are compared
and not the bytes: an immutable item is a chunk, a mutable one a claim, ``cas`` is the
expected sequence number. Each test names the rule, and the error code it has there.
"""

import pytest

from opnode.core.errors import RequestRefused
from opnode.core.ids import chunk_key, claim_key
from opnode.core.records import (
    MAX_PAYLOAD_SIZE,
    RecordKind,
    build_chunk,
    build_record,
)
from opnode.protocols.rpc.messages import (
    NO_RECORD,
    FailureCode,
    FindValue,
    Store,
    Stored,
)
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.keys import seeded_signing_key

KEY = claim_key("somebody")


class Holder:
    """One holder and somebody who puts there."""

    def __init__(self, network, asker, node):
        self.network = network
        self._asker = asker
        self._node = node

    async def put(self, record, expected_seq=None):
        """The failure code, or None if it was taken."""
        body = Store(record.wire, b"", expected_seq)
        try:
            answer = await self._asker.rpc.request(self._node.hub.local, body)
        except RequestRefused as refusal:
            return refusal.code
        assert answer.body == Stored()
        return None

    async def held(self, key=KEY):
        answer = await self._asker.rpc.request(self._node.hub.local, FindValue(key))
        return list(answer.body.records)

    def item(self, seq, value=b"value", owner="anna", lifetime_s=5000):
        return build_record(
            seeded_signing_key(owner),
            kind=RecordKind.CLAIM,
            key=KEY,
            seq=seq,
            expires_at=int(self.network.wall_clock()) + lifetime_s,
            payload=value,
        )


@pytest.fixture
async def holder(nursery):
    network = DhtNetwork(nursery, 1)
    yield Holder(network, await network.add(), await network.add())
    network.close()


async def test_bep44_an_immutable_item_lies_under_the_hash_of_its_value(
    autojump_clock, holder
):
    chunk = build_chunk(b"value", int(holder.network.wall_clock()) + 50)
    assert chunk.key == chunk_key(b"value")
    assert await holder.put(chunk) is None
    assert await holder.held(chunk.key) == [chunk.wire]
    moved = chunk.wire[:2] + KEY + chunk.wire[22:]
    assert await holder.put(_Raw(moved)) == FailureCode.MALFORMED_RECORD


async def test_bep44_a_mutable_item_has_a_valid_signature_error_206(
    autojump_clock, holder
):
    item = holder.item(1)
    forged = _Raw(item.wire[:-1] + bytes([item.wire[-1] ^ 1]))
    assert await holder.put(forged) == FailureCode.BAD_SIGNATURE
    assert await holder.held() == []


async def test_bep44_the_sequence_number_is_covered_by_the_signature(
    autojump_clock, holder
):
    item = holder.item(1)
    at = 1 + 1 + 20 + 1 + 32
    raised = item.wire[:at] + (2).to_bytes(8, "big") + item.wire[at + 8 :]
    assert await holder.put(_Raw(raised)) == FailureCode.BAD_SIGNATURE


async def test_bep44_a_value_has_at_most_1000_bytes_error_205(autojump_clock, holder):
    assert await holder.put(holder.item(1, bytes(MAX_PAYLOAD_SIZE))) is None
    assert MAX_PAYLOAD_SIZE == 1000
    with pytest.raises(ValueError, match="at most 1000"):
        holder.item(2, bytes(1001))


async def test_bep44_a_higher_sequence_number_replaces(autojump_clock, holder):
    assert await holder.put(holder.item(1)) is None
    assert await holder.put(holder.item(4)) is None
    assert await holder.held() == [holder.item(4).wire]


async def test_bep44_a_lower_sequence_number_is_refused_error_302(
    autojump_clock, holder
):
    await holder.put(holder.item(4))
    assert await holder.put(holder.item(3)) == FailureCode.STALE_RECORD
    assert await holder.held() == [holder.item(4).wire]


async def test_bep44_the_same_number_and_value_refreshes(autojump_clock, holder):
    item = holder.item(4)
    for _ in range(3):
        assert await holder.put(item) is None


async def test_bep44_the_same_number_with_another_value_is_refused(
    autojump_clock, holder
):
    await holder.put(holder.item(4))
    other = holder.item(4, b"other")
    assert await holder.put(other) == FailureCode.EQUIVOCATING_RECORD
    assert await holder.held() == [holder.item(4).wire]


async def test_bep44_cas_takes_the_item_if_that_number_is_held(autojump_clock, holder):
    await holder.put(holder.item(4))
    assert await holder.put(holder.item(5), 4) is None


async def test_bep44_cas_refuses_if_another_number_is_held_error_301(
    autojump_clock, holder
):
    await holder.put(holder.item(4))
    for expected in (3, 5, NO_RECORD):
        assert await holder.put(holder.item(9), expected) == FailureCode.OTHER_SEQ
    assert await holder.held() == [holder.item(4).wire]


async def test_bep44_cas_is_compared_before_the_sequence_number(autojump_clock, holder):
    await holder.put(holder.item(4))
    assert await holder.put(holder.item(3), 2) == FailureCode.OTHER_SEQ
    assert await holder.put(holder.item(3), 4) == FailureCode.STALE_RECORD


async def test_bep44_of_two_writers_with_one_cas_the_first_wins(autojump_clock, holder):
    await holder.put(holder.item(4))
    assert await holder.put(holder.item(5, b"one"), 4) is None
    assert await holder.put(holder.item(6, b"two"), 4) == FailureCode.OTHER_SEQ
    # An answer that got lost is no refusal: the writer asks again.
    assert await holder.put(holder.item(5, b"one"), 4) is None


async def test_bep44_items_of_different_keys_do_not_compete(autojump_clock, holder):
    assert await holder.put(holder.item(4)) is None
    assert await holder.put(holder.item(1, owner="berta")) is None
    assert len(await holder.held()) == 2


class _Raw:
    """Bytes in the place of a record."""

    def __init__(self, wire):
        self.wire = wire
