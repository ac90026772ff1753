"""How soon a call is set up, how many fail, and how many last: Zhou's metrics.

The shipped node code on a virtual network and a virtual clock: seconds are those of the
network, and the processor costs nothing (the facts tell how busy it was). Thirty DHT
nodes with public addresses, one of them a relay; users behind virtual NATs in the
mix given below; round trips of 20 to 150 ms, each pair of hosts its own. The callee is
known by its identity only: no pair calls twice.

The clock starts at ``node.connect`` and stops at the first byte that came back on a
channel; lookup, introduction and ICE are steps of it, ``first_byte`` is what is left.
First one set-up after the other, then as many at once from disjoint pairs, then many
more for the share that fails. Pairs of boxes that leave no direct path in principle
are ``hopeless``: without a relay all of them fail. The relay is tried beside the direct
ways, so some first bytes come by it although a direct path is found a moment later.

The long calls are of disjoint pairs that have a direct path in principle, as every DHT
node, the relay too, is killed in the middle of the hour. Both ends talk all the time;
one of the two gets another address once. Where the other one's box lets no stranger in,
that is before the end of the DHT: nobody could tell it the new address later. A gap is
a silence at either end beyond the pause between two words, whatever the cause.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from benchmarks.call_network import (
    CallPlan,
    Found,
    LongCall,
    SetUp,
    measure_long_calls,
    measure_set_ups,
)
from benchmarks.figures import BenchmarkError, Measure, Report, measure
from opnode.testing.clock import run_deterministic
from opnode.testing.seeded_secrets import seeded_secrets

_STEPS: Final = ("setup", "lookup", "introduction", "ice", "first_byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure; ``runs`` networks with seeds of their own."""

    calls: CallPlan
    runs: int = 1


async def run(plan: Plan) -> Report:
    """Measure in virtual time, in a thread: a clock is for a whole run of trio.

    Raises:
        BenchmarkError: no set-up succeeded.
    """
    found = [
        await trio.to_thread.run_sync(_measure, plan.calls, seed)
        for seed in range(1, plan.runs + 1)
    ]
    return report_of(plan.calls, found)


def report_of(plan: CallPlan, found: Sequence[Found]) -> Report:
    """What networks of one plan brought, together.

    Raises:
        BenchmarkError: no set-up of some kind succeeded.
    """
    set_ups = {
        kind: [one for each in found for one in each.set_ups.get(kind, [])]
        for kind in ("one_by_one", "at_once", "many")
    }
    long_calls = [one for each in found for one in each.long_calls]
    measures: dict[str, Measure] = {}
    facts: dict[str, int | float | str] = {
        "clock": "virtual",
        "dht_nodes": plan.nodes,
        "users": plan.users,
        "relays": plan.relays,
    }
    for kind, made in set_ups.items():
        if made:
            measures |= _set_up_measures(kind, made)
            facts |= _set_up_facts(kind, made)
    if long_calls:
        measures["gap_s"] = measure([one.gap_s for one in long_calls])
        measures["gap_after_move_s"] = measure([one.move_gap_s for one in long_calls])
        facts |= _long_facts(long_calls)
    facts["cpu_s"] = round(sum(each.cpu_s for each in found), 1)
    return Report(figure="calls", measures=measures, facts=facts)


def _measure(plan: CallPlan, seed: int) -> Found:
    with seeded_secrets(seed):
        found = run_deterministic(measure_set_ups, seed, plan, seed)
        if plan.long_calls:
            lasting = run_deterministic(measure_long_calls, seed, plan, seed)
            found = found.with_long_calls(lasting)
    return found


def _set_up_measures(kind: str, made: Sequence[SetUp]) -> dict[str, Measure]:
    good = [one for one in made if one.failure is None]
    if not good:
        raise BenchmarkError(f"all {len(made)} set-ups failed: {made[0].failure}")
    return {
        f"{kind}_{step}_s": measure([getattr(one, f"{step}_s") for one in good])
        for step in _STEPS
    }


def _set_up_facts(kind: str, made: Sequence[SetUp]) -> Mapping[str, int | float | str]:
    good = sorted(one.setup_s for one in made if one.failure is None)
    failed = [one for one in made if one.failure is not None]
    facts: dict[str, int | float | str] = {
        f"{kind}_calls": len(made),
        f"{kind}_setup_p95_s": round(good[int(0.95 * (len(good) - 1))], 3),
        f"{kind}_failed": len(failed),
        f"{kind}_hopeless": sum(one.is_hopeless for one in made),
        f"{kind}_failed_hopeless": sum(one.is_hopeless for one in failed),
        f"{kind}_first_byte_direct": sum(one.path == "direct" for one in made),
        f"{kind}_failed_percent": round(100 * len(failed) / len(made), 3),
    }
    reasons = sorted({f"{one.pair}: {one.failure}" for one in failed})
    if reasons:
        facts[f"{kind}_first_failures"] = "; ".join(reasons[:3])
    return facts


def _long_facts(calls: Sequence[LongCall]) -> Mapping[str, int | float | str]:
    dropped = [one for one in calls if one.dropped is not None]
    facts: dict[str, int | float | str] = {
        "long_calls": len(calls),
        "long_calls_dropped": len(dropped),
        "long_calls_with_gap_over_3_s": sum(one.gap_s > 3.0 for one in calls),  # noqa: PLR2004 - the bar
    }
    if dropped:
        reasons = sorted({f"{one.pair}: {one.dropped}" for one in dropped})
        facts["first_dropped"] = "; ".join(reasons[:3])
    return facts
