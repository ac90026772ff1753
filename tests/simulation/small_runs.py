"""Every scenario on every backend, as small as it makes sense, and what they came to.

``python -m tests.simulation.small_runs`` runs them all, in a process of its own, and
prints a line of JSON: digest and figures by name.
"""

import json
import sys

import msgspec

from simulations.parameters import build
from simulations.registry import load
from simulations.runs import prepare_process, run

SMALL = {
    "lookup real": {"nodes": 12, "records": 3, "askers": 3},
    "liars real": {"nodes": 15, "records": 3, "askers": 5},
    "sybil real": {"nodes": 20, "keys": 1, "sybils": 5, "askers": 5},
    "sybil event": {"nodes": 500, "keys": 1, "sybils": 5, "askers": 5},
    "one-bad-node real": {"nodes": 15, "records": 3, "gets": 3},
    "flood real": {"nodes": 10, "ids": 40},
    "churn real": {"nodes": 15, "hours": 0.2, "records": 3},
    "churn event": {"nodes": 200, "hours": 1},
    "stale event": {"nodes": 500, "lookups": 10},
    "nat-timers real": {"servers": 4, "users": 2, "hours": 0.1},
    "nat-table real": {"servers": 4, "users": 3, "calls": 3},
    "cascade real": {"servers": 4, "users": 3},
    "cascade event": {"servers": 4, "users": 40},
    "volunteers vector": {"users": 500, "days": 2.0},
    "hops vector": {"nodes": 500, "lookups": 50},
    "disjoint vector": {"nodes": 500, "lookups": 50},
    "hops event": {"nodes": 500, "lookups": 50},
    "hops real": {"nodes": 30, "lookups": 10},
    "size vector": {"nodes": 500, "estimates": 10},
    "fill vector": {"nodes": 300, "networks": 2},
    "chord event": {"users": 20, "hours": 0.1, "warm_up_h": 0.1},
    "nat-mix vector": {"calls": 1000},
    "nat-mix real": {"servers": 4, "users": 4, "calls": 3},
    "crowd vector": {"nodes": 1000, "trials": 100},
    "eclipse real": {
        "nodes": 12,
        "near": 2,
        "rented": 4,
        "fresh": 5,
        "minutes": 1,
        "reads": 2,
    },
    "clock-skew real": {"nodes": 15, "writers": 1, "readers": 1},
    "flash-crowd real": {"nodes": 15, "crowd": 5},
    "mass-failure real": {"nodes": 20, "records": 3, "periods": 1},
    "mass-failure event": {"nodes": 500, "records": 5, "periods": 1},
    "survival event": {"nodes": 300, "records": 20, "hours": 1},
    "moving real": {"servers": 4, "kinds": "full"},
    "ratio vector": {"users": 50, "ratio": 10, "window_s": 60.0},
    "ratio event": {"users": 50, "ratio": 10, "window_s": 60.0},
    "ratio real": {"users": 50, "ratio": 10, "window_s": 60.0},
    "year event": {
        "days": 1.0,
        "probes": 500,
        "servers": 10,
        "users": 10,
        "connections": 10,
    },
    "partition real": {
        "nodes": 15,
        "minutes": 5.0,
        "hours": 1,
        "records": 2,
        "versions": 2,
        "readers": 2,
    },
}


def main() -> None:
    prepare_process()
    found = {}
    for name, values in SMALL.items():
        scenario, backend = name.split()
        outcome = run(build(load(scenario), {**values, "backend": backend}))
        figures = msgspec.to_builtins(outcome.figures)
        found[name] = {"digest": outcome.digest, "figures": figures}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
