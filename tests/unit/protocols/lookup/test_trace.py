"""`trace`: the steps of a lookup are a tree."""

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.protocols.lookup.trace import LookupTrace, StepOutcome, TraceStep


def step(parent):
    return TraceStep(
        contact=Contact(NodeId(bytes(20)), Endpoint("10.0.0.1", 1)),
        parent=parent,
        path=0,
        shared_bits=160,
        is_inside=True,
        outcome=StepOutcome.ANSWERED,
        asked_at_s=0.0,
        rtt_s=0.1,
        named=0,
        records=0,
    )


def test_every_step_is_the_child_of_the_one_that_named_it():
    steps = tuple(step(parent) for parent in (None, None, 0, 0, 2))
    trace = LookupTrace(
        target=bytes(20), radius=0, took_s=1.0, is_complete=True, records=0, steps=steps
    )
    assert trace.children(None) == (0, 1)
    assert trace.children(0) == (2, 3)
    assert trace.children(2) == (4,)
    assert trace.children(4) == ()
