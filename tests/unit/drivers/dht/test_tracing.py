"""`tracing`: a trace tells who was asked, who named whom, and what came back."""

from opnode.core.ids import chunk_key, distance
from opnode.core.records import build_chunk
from opnode.protocols.lookup.trace import StepOutcome


async def test_a_trace_tells_every_step_and_who_named_it(autojump_clock, network):
    await network.grow(60)
    record = build_chunk(b"x", int(network.wall_clock()) + 999)
    await network.nodes[3].dht.put(record)
    asker = await network.add(leaf=True)
    await asker.dht.join([network.nodes[0].hub.local])
    dead = (await asker.dht.closest_nodes(record.key))[1]
    network.network.kill(dead.endpoint.host)
    trace = await asker.dht.trace(record.key)
    assert trace.target == chunk_key(b"x") == record.key
    assert trace.is_complete
    assert trace.records == 1
    assert len({step.contact for step in trace.steps}) == len(trace.steps) > 20
    for number, step in enumerate(trace.steps):
        assert step.parent is None or step.parent < number
        assert 0 <= step.asked_at_s <= trace.took_s
        away = distance(step.contact.node_id, record.key)
        assert step.is_inside == (away < trace.radius)
        assert step.shared_bits == 160 - away.bit_length()
        assert (step.rtt_s is not None) == (step.outcome is StepOutcome.ANSWERED)
    by_contact = {step.contact: step for step in trace.steps}
    assert by_contact[dead].outcome in {StepOutcome.LATE, StepOutcome.FAILED}
    holders = [step for step in trace.steps if step.records]
    assert len(holders) > 10
    named = [place for place in range(len(trace.steps)) if trace.children(place)]
    assert all(trace.steps[place].named for place in named)
    assert {step.path for step in trace.steps} == {0, 1, 2, 3}
    assert asker.dht.statistics().repaired == 0
